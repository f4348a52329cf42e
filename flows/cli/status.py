"""`specdyn status`: how far everything is that goes by a name."""

from specdyn.flows.cli.terminal import out, show_plan, table
from specdyn.models.wording import plural
from specdyn.storage.graphs import graph_names
from specdyn.storage.places import Store
from specdyn.storage.probe import existing_store
from specdyn.storage.sweeps import cubes_of, read_sweep, sweep_names
from specdyn.tasks.foreign.names import FOREIGN
from specdyn.tasks.plan.planning import make_plan
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
    if record:
        show_plan(make_plan(sweep_of(record), url, estimate=False))
    if name in graphs:
        show_graphs(name, url)


def show_series(name: str, store: Store) -> None:
    """Print the series of checkpoints in a cube."""
    from specdyn.storage.query import open_results

    layers = open_results(store.cube(name))["layers"].to_dataset()
    rows = [(str(run.values), str(run["source"].values)) for run in layers["run"]]
    table(f"{name}, series, in {store}", ("run", "source"), rows)
    steps = plural(layers.sizes["step"], "step")
    out.print(f"{plural(len(rows), 'series', 'series')} analysed at {steps}", highlight=False)


def show_graphs(name: str, store: Store) -> None:
    """Print how far the trunks, branches, pairs and tickets of the graphs of that name are."""
    from specdyn.tasks.plan.branching.plan import make_graph_plan
    from specdyn.tasks.plan.branching.records import read_graphs
    from specdyn.tasks.plan.branching.tables import BEGUN_HEADINGS, STATUS_HEADINGS, begun_rows, describe, status_rows

    for graph in read_graphs(store, name):
        plan = make_graph_plan(graph, store, estimate=False)
        table(f"{graph.name}, {graph.kind}, in {plan.store}", STATUS_HEADINGS, status_rows(plan))
        if plan.begun:
            table("Under way or failed", BEGUN_HEADINGS, begun_rows(plan))
        out.print(describe(graph, plan.left), highlight=False, soft_wrap=True)
