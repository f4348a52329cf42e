"""What the flows of graphs share: the work, and how failures end them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from specdyn.flows.engine.artifacts import next_call, show_failures
from specdyn.flows.engine.executor import open_executor
from specdyn.flows.engine.resources import Resources
from specdyn.flows.engine.settings import chosen_cluster, patience
from specdyn.flows.engine.units import work
from specdyn.storage.checkpoints import kept_states
from specdyn.storage.graphs import write_graph
from specdyn.tasks.plan.branching import Graph, Left, name_of, ticket_key
from specdyn.tasks.plan.branching_plan import make_graph_plan
from specdyn.tasks.plan.branching_tables import graph_markdown, graph_plan_summary, plan_rows
from specdyn.tasks.plan.records import record_of
from specdyn.tasks.training.training import Diverged

SHOWN = 20
"""The most lines about what was left out."""


class GraphFailed(Exception):
    """Some runs or pairs failed: a table says which and why; the others stand."""


def run_graph(
    graph: Graph,
    store: str,
    executor: Literal["ray", "inline"],
    resources: Resources,
    ray_address: str,
    retrain: bool,
    retry_failed: bool,
    dry_run: bool,
) -> tuple[dict[str, Any], "Failed"]:
    """Say what is left and what it costs, write the record, and do it; gives the outcome so far, and what failed.

    ValueError where trunks did not keep states that are needed and may not be trained again.
    """
    plan = make_graph_plan(graph, store, threads=resources.cpus, retry_failed=retry_failed)
    left, summary = plan.left, graph_plan_summary(plan)
    create_markdown_artifact(graph_markdown(plan), key="plan", description=f"Plan of {graph.name}")
    get_run_logger().info(summary)
    if left.states and not retrain:
        raise ValueError(_not_kept(graph, left, store))
    outcome: dict[str, Any] = {"name": graph.name, "store": store, "summary": summary, "stages": plan_rows(plan)}
    if dry_run:
        return outcome, Failed()
    before = _failed_before(graph, left)
    if left.nothing:
        write_graph(store, record_of(graph))
        return outcome, before
    with open_executor(executor, resources, chosen_cluster(ray_address), patience()) as workers:
        write_graph(store, record_of(graph))
        made = work(graph, left, store, workers)
    outcome |= {name: getattr(made, name) for name in ("trainings", "evaluations", "decompositions")}
    return outcome, Failed(reasons={**before.reasons, **made.failures}, left_out=made.left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What failed, now or in an earlier call, and what was left out for it."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    """Stage and label of each run or measurement that failed, with the reason."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Stage and label of what needs one of these, with that one."""


def _failed_before(graph: Graph, left: Left) -> Failed:
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


def _not_kept(graph: Graph, left: Left, store: str) -> str:
    run_id, steps = next(iter(left.states.items()))
    there = ", ".join(map(str, kept_states(store, graph.experiment, run_id))) or "none"
    return (
        f"trunk {run_id} did not keep its state at steps {', '.join(map(str, steps))}; it kept: {there}. "
        "Allow retrain, or branch at those"
    )
