"""A marimo app on the results of a study; `specdyn explore STUDY --notebook FILE` writes a copy to start from."""

import marimo

app = marimo.App(width="full", app_title="specdyn explore")


@app.cell
def _():
    import marimo as mo

    import specdyn as sd
    from specdyn.storage.access.objects import StoreError
    from specdyn.storage.query import measured_runs, reading
    from specdyn.tasks.figures.explore import views
    from specdyn.tasks.figures.style import to_screen

    return StoreError, measured_runs, mo, reading, sd, to_screen, views


@app.cell
def _():
    STORE = "results"
    STUDY = "modular_addition-demo"
    return STORE, STUDY


@app.cell
def _(mo, to_screen):
    def show(figure, name):
        return mo.image(to_screen(figure), alt=name, width=int(144 * figure.get_figwidth()))

    return (show,)


@app.cell
def _(STORE, STUDY, measured_runs, sd, views):
    tree = sd.open(STORE, STUDY)
    results = measured_runs(tree)
    offered, rows = views.offered(results), views.rows(results)
    return offered, results, rows, tree


@app.cell
def _(mo, offered):
    group = mo.ui.dropdown(list(offered), value=next(iter(offered)), label="group")
    return (group,)


@app.cell
def _(group, mo, offered):
    variable = mo.ui.dropdown(
        offered[group.value], value=offered[group.value][0], label="variable", searchable=True, allow_select_none=False
    )
    return (variable,)


@app.cell
def _(mo, results, rows, views):
    runs = mo.ui.multiselect(list(rows), value=list(rows)[: views.FIRST_RUNS], label="runs")
    by = mo.ui.dropdown(
        {"usual": "", **{name: name for name in views.settings(results)}}, value="usual", label="colours by"
    )
    log = mo.ui.dropdown({"no": "", "x": "x", "y": "y", "x and y": "xy"}, value="no", label="logarithmic")
    return by, log, runs


@app.cell
def _(group, mo, results, variable, views):
    data = views.lazy(results, group.value, variable.value)
    texts = {dim: list(of) for dim, of in views.labels(data).items()}
    axes, upwards = views.axes(data), views.upwards(data)
    along = mo.ui.dropdown(axes or [""], value=(axes or [""])[0], label="curves along")
    upward = mo.ui.dropdown(upwards, value=upwards[0], label="heat map of")
    at = mo.ui.dictionary(
        {
            dim: mo.ui.dropdown(of, value=views.first_label(dim, of), label=dim, searchable=True)
            for dim, of in texts.items()
            if dim != "step"
        }
    )
    steps = [int(text) for text in texts.get("step", ["0"])]
    step = mo.ui.slider(steps=steps, value=steps[-1], label="step", show_value=True, full_width=True)
    return along, at, data, step, upward


@app.cell
def _(along, at, by, group, log, mo, runs, step, upward, variable):
    mo.vstack(
        [
            mo.hstack([group, variable, runs, by, along, upward, log], justify="start", wrap=True),
            mo.hstack([*at.elements.values()], justify="start", wrap=True),
            step,
        ]
    )


@app.cell
def _(STUDY, StoreError, along, at, data, mo, reading, rows, runs, upward, views):
    mo.stop(not runs.value, mo.callout("Choose at least one run.", kind="warn"))
    chosen = [rows[one] for one in runs.value]
    labels = {dim: text for dim, text in at.value.items() if text}
    try:
        with reading(STUDY):
            values = views.read(data, chosen, labels, (along.value, upward.value))
        why = ""
    except (ValueError, StoreError) as error:
        why = str(error)
    mo.stop(bool(why), mo.callout(why, kind="warn"))
    return chosen, labels, values


@app.cell
def _(labels, log, results, runs, show, step, upward, values, views):
    here = {**labels, **({"step": str(step.value)} if "step" in values.dims else {})}
    heat_map = views.heat_map(results, values, runs.value, upward.value, here, "y" in log.value)
    show(heat_map, "heat map")
    return heat_map, here


@app.cell
def _(along, by, group, here, log, mo, results, show, values, views):
    try:
        curves = views.curves(results, group.value, values, along.value, here, by.value, log.value)
        picture = show(curves, "curves")
    except ValueError as error:
        curves, picture = None, mo.callout(str(error), kind="warn")
    picture
    return (curves,)


@app.cell
def _(STORE, STUDY, group, mo, tree, values, views):
    code = views.code(STORE, STUDY, tree, group.value, values)
    mo.md(f"```python\n{code}\n```")
    return (code,)


@app.cell
def _(StoreError, chosen, mo, results, sd, views):
    try:
        table = sd.table(views.chosen_rows(results, chosen))
        shown = mo.ui.table(table.reset_index(), selection=None, page_size=20, label="Last checkpoint of each run")
    except (KeyError, StoreError):
        table, shown = None, None
    shown
    return (table,)


if __name__ == "__main__":
    app.run()
