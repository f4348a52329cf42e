"""`specdyn status`: how far everything is that goes by a name."""

from specdyn.flows.cli.terminal import out, show_plan, table
from specdyn.storage.graphs import graph_names
from specdyn.storage.probe import existing_store
from specdyn.storage.query import sweep_names
from specdyn.storage.sweeps import read_sweep
from specdyn.tasks.plan.branching_plan import GraphPlan, make_graph_plan
from specdyn.tasks.plan.branching_tables import BEGUN_HEADINGS, STATUS_HEADINGS, begun_rows, describe, status_rows
from specdyn.tasks.plan.planning import make_plan
from specdyn.tasks.plan.records import read_graphs
from specdyn.tasks.plan.sweeps import sweep_of


def show_status(name: str, store: str) -> None:
    """Print how far the sweep of that name is, then its graphs; ValueError lists the names there are."""
    url = existing_store(store)
    record, graphs = read_sweep(url, name), read_graphs(url, name)
    if record is None and not graphs:
        known = sorted({*sweep_names(url), *(graph for graph, _ in graph_names(url))})
        raise ValueError(f"no results called {name!r} in {url}; it has: {', '.join(known) or 'none'}")
    if record:
        show_plan(make_plan(sweep_of(record), url, estimate=False))
    for graph in graphs:
        show_graph(make_graph_plan(graph, url, estimate=False))


def show_graph(plan: GraphPlan) -> None:
    """Print how far the trunks, branches, pairs and tickets of a graph are."""
    table(f"{plan.graph.name}, {plan.graph.kind}, in {plan.store}", STATUS_HEADINGS, status_rows(plan))
    if plan.begun:
        table("Under way or failed", BEGUN_HEADINGS, begun_rows(plan))
    out.print(describe(plan.graph, plan.left), highlight=False, soft_wrap=True)
