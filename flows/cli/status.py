"""`specdyn status` and `ledger`: how far everything is that goes by a name, and what it took."""

import json

from specdyn.flows.cli.options import out
from specdyn.flows.cli.terminal import show_plan, table
from specdyn.models.spec.run_spec import as_text
from specdyn.models.wording import plural
from specdyn.storage.places import Store
from specdyn.storage.probe import existing_store
from specdyn.storage.studies import StudyKind, no_results, read_study, study_names
from specdyn.tasks.plan.plan import Study, make_plan
from specdyn.tasks.plan.sweeps import other_sources, sweep_of


def show_status(name: str, store: str) -> None:
    """Print how far the sweep of that name is, its graphs, or analysed checkpoints; ValueError lists the names."""
    url = existing_store(store)
    kinds = _kinds_of(name, url)
    studies: list[Study] = []
    if "sweep" in kinds and (record := read_study(url, name, "sweep")) and (sweep := sweep_of(record)).specs:
        studies.append(sweep)
    if {"connectivity", "tickets"} & set(kinds):
        from specdyn.tasks.plan.branching.records import read_graphs

        studies += read_graphs(url, name)
    for study in studies:
        show_plan(make_plan(study, url, estimate=False))
    for kind in kinds:
        if others := other_sources(url, name, kind):
            out.print(others, highlight=False, soft_wrap=True)
    if "series" in kinds:
        show_series(name, url)


def show_ledger(name: str, store: str) -> None:
    """Print what the units of everything of that name took; ValueError lists the names."""
    from specdyn.tasks.ledger.summary import HEADINGS, entries_of, hours, ledger_rows

    url = existing_store(store)
    records = [record for kind in _kinds_of(name, url) if (record := read_study(url, name, kind))]
    entries = entries_of(url, records)
    table(f"What the units of {name} took, in {url}", HEADINGS, ledger_rows(entries))
    cpu, gpu = hours(entries)
    out.print(f"{plural(len(entries), 'entry', 'entries')}: {cpu:.4g} CPU-hours, {gpu:.4g} GPU-hours", highlight=False)


def _kinds_of(name: str, store: Store) -> list[StudyKind]:
    names = study_names(store)
    kinds = [kind for known, kind in names if known == name]
    if not kinds:
        raise no_results(name, store, (known for known, _ in names))
    return kinds


def show_series(name: str, store: Store) -> None:
    """Print the series of checkpoints in a cube."""
    from specdyn.storage.query import open_results

    tree = open_results(store.cube(name))
    runs, steps = tree["runs"].to_dataset(), tree["layers"].sizes["step"]
    shown = tree["layers"].to_dataset().coords  # and not what all series have in common
    said = json.loads(tree.attrs.get("labels", "{}"))
    labels = {
        series: ", ".join(f"{label}={as_text(value)}" for label, (value, _) in of.items() if label in shown)
        for series, of in said.items()
    }
    columns = (runs[column].values.tolist() for column in ("run", "source", "series", "status"))
    rows = [(run, source, labels.get(series, "-"), state) for run, source, series, state in zip(*columns, strict=True)]
    table(f"{name}, series, in {store}", ("run", "source", "labels", "state"), rows)
    out.print(f"{plural(len(rows), 'series', 'series')} analysed at {plural(steps, 'step')}", highlight=False)
