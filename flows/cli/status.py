"""`specdyn status`: how far everything is that goes by a name."""

from specdyn.flows.cli.terminal import out, show_plan, table
from specdyn.models.wording import plural
from specdyn.storage.graphs import graph_names
from specdyn.storage.places import Store
from specdyn.storage.probe import existing_store
from specdyn.storage.sweeps import cubes_of, read_sweep, sweep_names
from specdyn.tasks.foreign.names import FOREIGN
from specdyn.tasks.plan.plan import Study, make_plan
from specdyn.tasks.plan.sweeps import sweep_of


def show_status(name: str, store: str) -> None:
    """Print how far the sweep of that name is, its graphs, or analysed checkpoints; ValueError lists the names."""
    url = existing_store(store)
    record, graphs = read_sweep(url, name), [graph for graph, _ in graph_names(url)]
    if record is None and name not in graphs:
        if name in (series := cubes_of(url, FOREIGN)):
            show_series(name, url)
            return
        known = sorted({*sweep_names(url), *graphs, *series})
        raise ValueError(f"no results called {name!r} in {url}; it has: {', '.join(known) or 'none'}")
    studies: list[Study] = [sweep_of(record)] if record else []
    if name in graphs:
        from specdyn.tasks.plan.branching.records import read_graphs

        studies += read_graphs(url, name)
    for study in studies:
        show_plan(make_plan(study, url, estimate=False))


def show_series(name: str, store: Store) -> None:
    """Print the series of checkpoints in a cube."""
    from specdyn.storage.query import open_results

    layers = open_results(store.cube(name))["layers"].to_dataset()
    rows = [(str(run.values), str(run["source"].values)) for run in layers["run"]]
    table(f"{name}, series, in {store}", ("run", "source"), rows)
    steps = plural(layers.sizes["step"], "step")
    out.print(f"{plural(len(rows), 'series', 'series')} analysed at {steps}", highlight=False)
