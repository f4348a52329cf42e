"""What `specdyn connect` and `specdyn tickets` do and print: a plan, what is there already, or a run of the flow."""

import time
from typing import Any

from rich.markup import escape

from specdyn.flows.cli.terminal import err, out, quieten, table
from specdyn.flows.engine.engines import at_work, require_engines
from specdyn.flows.engine.settings import EXECUTORS
from specdyn.flows.parameters import ConnectParameters, TicketParameters, arguments_of
from specdyn.flows.studies import connectivity_from, tickets_from
from specdyn.models.spec.checks import require_known
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.tasks.plan.branching.cube import done_cube
from specdyn.tasks.plan.branching.graph import NOTHING, Graph
from specdyn.tasks.plan.branching.plan import make_graph_plan, require_states
from specdyn.tasks.plan.branching.tables import PLAN_HEADINGS, describe, graph_plan_summary, plan_rows
from specdyn.tasks.plan.planning import require_inputs
from specdyn.tasks.plan.tables import duration


def run_graph_flow(asked: ConnectParameters | TicketParameters, verbose: bool) -> bool:
    """Run the flow `connect` or `tickets`, then print what is there and where; False where something failed."""
    since, failure, outcome = time.monotonic(), None, {}
    require_known("executor", asked.executor, EXECUTORS)
    objects.normalise(asked.store)  # empty is the service's store in a form, and a slip in a command
    graph, store = connectivity_from(asked) if isinstance(asked, ConnectParameters) else tickets_from(asked)
    if asked.dry_run:
        _show_graph_plan(graph, store, asked)
        out.print(f"ended after {duration(time.monotonic() - since)}")
        return True
    if cube := done_cube(graph, store, report=True):
        _show_graph_results(store, {"summary": describe(graph, NOTHING), **cube.summary(report=True)}, since)
        return True
    require_engines(asked.executor, asked.ray_address)
    require_inputs(graph.trunks, require_store(store.url))
    if not verbose:
        quieten()
    err.print(f"{asked.experiment}: starting Prefect and the {asked.executor} executor", highlight=False)
    with at_work(graph.name, verbose) as begin:
        from specdyn.flows.connect import mode_connectivity
        from specdyn.flows.engine.run_graph import GraphFailed
        from specdyn.flows.tickets import lottery_tickets

        flow = mode_connectivity if isinstance(asked, ConnectParameters) else lottery_tickets
        try:
            outcome = begin(flow)(**arguments_of(asked))
        except GraphFailed as error:
            failure = error
    _show_graph_results(store, outcome, since)
    if failure:
        err.print(f"[bold red]failed:[/] {escape(str(failure))}", highlight=False, soft_wrap=True)
    return failure is None


def _show_graph_plan(graph: Graph, store: Store, asked: ConnectParameters | TicketParameters) -> None:
    plan = make_graph_plan(graph, store, threads=asked.resources.cpus, retry_failed=asked.retry_failed)
    require_states(plan, asked.retrain)
    table(f"{graph.name} in {store}", PLAN_HEADINGS, plan_rows(plan))
    out.print(graph_plan_summary(plan), highlight=False, soft_wrap=True)


def _show_graph_results(store: Store, outcome: dict[str, Any], since: float) -> None:
    """Print what a graph has, where it is, and how long the call took."""
    if outcome:
        out.print(outcome["summary"], highlight=False, soft_wrap=True)
    if "trainings" in outcome:
        counts = f"{outcome['trainings']} trainings, {outcome['evaluations']} evaluations of a split"
        out.print(f"made         {counts}, {outcome['decompositions']} decompositions", highlight=False)
    if "cube" in outcome:
        out.print(f"results      {outcome['cube']}", highlight=False, soft_wrap=True)
    for figure in outcome.get("figures", ()):
        out.print(f"figure       {figure}", highlight=False, soft_wrap=True)
    out.print(f"checkpoints  {store.checkpoints()}", highlight=False, soft_wrap=True)
    if "cube" in outcome:
        out.print(f'open it      xarray.open_zarr("{outcome["cube"]}")', highlight=False, soft_wrap=True)
    out.print(f"ended after {duration(time.monotonic() - since)}")
