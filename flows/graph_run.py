"""What the flows of graphs share: their beginning, the work, and how failures end them."""

from typing import Any, Literal

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.capacity import Resources
from flows.fields import named_preset
from flows.graph import Graph, Left, trunk_specs
from flows.graph_plan import make_graph_plan
from flows.graph_record import record_of
from flows.graph_tables import graph_markdown, graph_plan_summary, plan_rows
from flows.names import automatic_name, require_name
from flows.runtime import open_executor
from flows.service import chosen_cluster, chosen_store, patience
from flows.showing import show_failures
from flows.units import work
from models.dataset import get_dataset
from models.experiment import get_experiment
from models.run_spec import RunSpec
from storage.checkpoints import kept_states
from storage.graphs import write_graph
from tasks.datasets import hold_data, require_data


class GraphFailed(Exception):
    """Some runs or pairs failed: a table says which and why; the others stand, the next call tries these again."""


def begin(
    experiment: str,
    preset: str,
    seeds: list[int],
    settings: dict[str, Any],
    name: str,
    store: str,
    asks: bool,
) -> tuple[tuple[RunSpec, ...], str, str]:
    """The trunks, the name of the results and the store's URL, all checked, the data there.

    Where a call only `asks` nothing is written.
    """
    chosen = get_experiment(experiment)
    preset = named_preset(experiment, preset)
    trunks = trunk_specs(experiment, preset, seeds, settings)
    title = name or automatic_name(preset, chosen.preset(preset), trunks[0], settings)
    require_name("name", title)
    store = chosen_store(store, asks)
    if needed := chosen.dataset(trunks[0]):
        (hold_data if asks else require_data)(store, get_dataset(*needed))
    return trunks, title, store


def run_graph(
    graph: Graph,
    store: str,
    executor: Literal["ray", "inline"],
    resources: Resources,
    ray_address: str,
    retrain: bool,
    dry_run: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Say what is left and what it costs, write the record, and do it; gives the outcome so far, and what failed why.

    ValueError where trunks did not keep states that are needed and may not be trained again.
    """
    plan = make_graph_plan(graph, store, threads=resources.cpus)
    left, summary = plan.left, graph_plan_summary(plan)
    create_markdown_artifact(graph_markdown(plan), key="plan", description=f"Plan of {graph.name}")
    get_run_logger().info(summary)
    if left.states and not retrain:
        raise ValueError(_not_kept(graph, left, store))
    outcome: dict[str, Any] = {"name": graph.name, "store": store, "summary": summary, "stages": plan_rows(plan)}
    if dry_run:
        return outcome, {}
    if left.nothing:
        write_graph(store, record_of(graph))
        return outcome, {}
    with open_executor(executor, resources, chosen_cluster(ray_address), patience()) as workers:
        write_graph(store, record_of(graph))
        made = work(graph, left, store, workers)
    outcome |= {field: getattr(made, field) for field in ("trainings", "evaluations", "decompositions")}
    return outcome, made.failures


def raise_failures(failures: dict[str, str], title: str) -> None:
    """GraphFailed with a line for each failure, where there are any, and a table of them in Prefect."""
    if not failures:
        return
    show_failures(failures, title)
    lines = "\n".join(f"  {what}: {why}" for what, why in failures.items())
    raise GraphFailed(f"{len(failures)} failed; the others stand, the next call tries these again:\n{lines}")


def _not_kept(graph: Graph, left: Left, store: str) -> str:
    run_id, steps = next(iter(left.states.items()))
    there = ", ".join(map(str, kept_states(store, graph.experiment, run_id))) or "none"
    return (
        f"trunk {run_id} did not keep its state at steps {', '.join(map(str, steps))}; it kept: {there}. "
        "Allow retrain, or branch at those"
    )
