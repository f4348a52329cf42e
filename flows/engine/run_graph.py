"""What the flows of graphs share: the work, and how failures end them."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from specdyn.flows.engine.artifacts import next_call, show_failures, show_figures, show_result
from specdyn.flows.engine.executor import Executor, open_executor
from specdyn.flows.engine.lease import cube_lease
from specdyn.flows.engine.settings import chosen_cluster, patience
from specdyn.flows.engine.units import Outcome, run_units
from specdyn.flows.parameters import ConnectParameters, TicketParameters
from specdyn.models.wording import plural
from specdyn.storage.access.lease import Lease
from specdyn.storage.graphs import write_graph
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.tasks.connect.factors import forget_factors
from specdyn.tasks.plan.branching.cube import GraphCube, cube_place, done_cube, gather_graph
from specdyn.tasks.plan.branching.graph import Graph, Remaining, name_of, ticket_key
from specdyn.tasks.plan.branching.plan import GraphPlan, make_graph_plan, require_states
from specdyn.tasks.plan.branching.records import record_of
from specdyn.tasks.plan.branching.tables import graph_markdown, graph_plan_summary, plan_rows
from specdyn.tasks.plan.branching.units import units_of
from specdyn.tasks.plan.planning import require_inputs
from specdyn.tasks.training.training import Diverged

SHOWN = 20
"""The most lines about what was left out."""


class GraphFailed(Exception):
    """Some runs or pairs failed: a table says which and why; the others stand."""


def run_graph(graph: Graph, store: Store, asked: ConnectParameters | TicketParameters) -> dict[str, Any]:
    """Say what is left and what it costs, do it, and gather it; where nothing is left nothing is written.

    ValueError where trunks did not keep states that are needed and may not be trained again; GraphFailed where runs or
    measurements failed.
    """
    done = None if asked.dry_run else done_cube(graph, store, asked.report)
    if asked.dry_run or done:
        _, outcome = _planned(graph, store, asked)
        return outcome | _shown(done, asked.report) if done else outcome
    require_inputs(graph.trunks, require_store(store.url))
    with cube_lease(cube_place(graph, store), store) as lease:
        plan, outcome = _planned(graph, store, asked)
        failed = _failed_before(graph, plan.left)
        if plan.left.nothing:
            write_graph(store, record_of(graph))
        else:
            cluster = chosen_cluster(asked.ray_address)
            with open_executor(asked.executor, asked.resources, cluster, patience()) as workers:
                write_graph(store, record_of(graph))
                made = _work(plan, workers)
            outcome |= made.work._asdict()
            failed = Failed(reasons={**failed.reasons, **made.failures}, left_out=made.left_out)
        outcome |= finish(graph, store, asked.report, lease)
    raise_failures(failed, graph.name)
    return outcome


def _planned(
    graph: Graph, store: Store, asked: ConnectParameters | TicketParameters
) -> tuple[GraphPlan, dict[str, Any]]:
    """The plan, in the log and as an artifact, and what is said of it."""
    plan = make_graph_plan(graph, store, threads=asked.resources.cpus, retry_failed=asked.retry_failed)
    create_markdown_artifact(graph_markdown(plan), key="plan", description=f"Plan of {graph.name}")
    summary = graph_plan_summary(plan)
    get_run_logger().info(summary)
    require_states(plan, asked.retrain)
    return plan, {"name": graph.name, "store": store.url, "summary": summary, "stages": plan_rows(plan)}


def _work(plan: GraphPlan, executor: Executor) -> Outcome:
    """Run everything that is left, then remove the factors that units shared, also those of a call that was killed."""
    graph, left, store = plan.graph, plan.left, plan.store
    before = {run_id: f"{name_of(graph.runs[run_id])} failed" for run_id in left.failed}
    logs = functools.partial(store.logs, graph.experiment)
    made = run_units(graph.name, units_of(graph, left, store), logs, executor, before)
    forget_factors(store, graph.experiment, graph.runs)
    return made


@task(name="gather", cache_policy=NO_CACHE, persist_result=False)
def finish(graph: Graph, store: Store, report: bool, lease: Lease) -> dict[str, Any]:
    """Gather the pairs or tickets that are there into the cube, and draw it."""
    lease.ensure()
    return _shown(gather_graph(graph, store, report, lease), report)


def _shown(cube: GraphCube, report: bool) -> dict[str, Any]:
    """Show the cube, where there is one, and its figures as artifacts; returns where they are."""
    if not (outcome := cube.summary(report)):
        return outcome
    what = ("ticket", "tickets") if cube.graph.tickets else ("pair", "pairs")
    show_result(cube.url, cube.graph.name, f"{plural(len(cube.measured), *what)}.", opener="open_dataset")
    if report:
        show_figures(outcome["figures"])
    return outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What failed, now or in an earlier call, and what was left out for it."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    """Stage and label of each run or measurement that failed, with the reason."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Stage and label of what needs one of these, with that one."""


def _failed_before(graph: Graph, left: Remaining) -> Failed:
    """Runs that failed in an earlier call and stay so, and all that needs them."""
    stages = dict.fromkeys((spec.run_id for spec in graph.trunks), "trunks")
    named = {run_id: f"{stages.get(run_id, 'branches')}: {name_of(spec)}" for run_id, spec in graph.runs.items()}
    named |= {pair.pair_id: f"pairs: {name_of(pair.a)} to {name_of(pair.b)}" for pair in left.pairs}
    named |= {ticket_key(spec): f"tickets: {name_of(spec)}" for spec in left.tickets}
    return Failed(
        reasons={named[run_id]: f"{Diverged.__name__}: {reason}" for run_id, reason in left.failed.items()},
        left_out={named[key]: f"{name_of(graph.runs[run_id])} failed" for key, run_id in left.blocked.items()},
    )


def raise_failures(failed: Failed, title: str) -> None:
    """GraphFailed with a line for each failure, where there are any, and a table of them in Prefect."""
    if not failed.reasons:
        return
    show_failures(failed.reasons, title)
    lines = [f"  {what}: {why}" for what, why in failed.reasons.items()]
    lines += [f"  {what}: left out, as {why}" for what, why in list(failed.left_out.items())[:SHOWN]]
    if (more := len(failed.left_out) - SHOWN) > 0:
        lines.append(f"  and {more} more left out")
    count = len(failed.reasons)
    raise GraphFailed("\n".join([f"{count} failed; the others stand. {next_call(failed.reasons)}", *lines]))
