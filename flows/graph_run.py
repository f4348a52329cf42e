"""What the flows of graphs share: their beginning, the work, and how failures end them."""

from typing import Any, Literal

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.graph import Graph, Left, trunk_specs, what_is_left
from flows.runtime import Resources, open_executor
from flows.sweep import NAME
from flows.units import work
from models.checks import require
from models.dataset import get_dataset
from models.experiment import get_experiment
from models.run_spec import RunSpec
from storage.checkpoints import kept_states
from storage.probe import require_store
from tasks.datasets import require_data


class GraphFailed(Exception):
    """Some runs or pairs failed: a table says which and why; the others stand, the next call tries these again."""


def begin(
    experiment: str,
    preset: str | None,
    seeds: list[int],
    settings: dict[str, Any] | None,
    name: str | None,
    store: str,
) -> tuple[tuple[RunSpec, ...], str, str]:
    """The trunks, the name of the results and the store's URL, all checked, the data there."""
    chosen = get_experiment(experiment)
    preset = preset or chosen.usual
    trunks = trunk_specs(experiment, preset, seeds, settings or {})
    title = name or f"{experiment}-{preset}"
    require(bool(NAME.fullmatch(title)), "name", title, "letters, digits, '.', '_' and '-', at most 81 of them")
    store = require_store(store)
    if needed := chosen.dataset(trunks[0]):
        require_data(store, get_dataset(*needed))
    return trunks, title, store


def run_graph(
    graph: Graph,
    store: str,
    executor: Literal["ray", "inline"],
    resources: Resources,
    ray_address: str | None,
    retrain: bool,
    dry_run: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Say what is left and do it; gives the outcome so far, and what failed with the reason.

    ValueError where trunks did not keep states that are needed and may not be trained again.
    """
    left = what_is_left(graph, store)
    summary = describe(graph, left)
    create_markdown_artifact(summary, key="plan", description=f"Plan of {graph.name}")
    get_run_logger().info(summary)
    if left.states and not retrain:
        raise ValueError(_not_kept(graph, left, store))
    outcome: dict[str, Any] = {"name": graph.name, "store": store, "summary": summary}
    if left.nothing or dry_run:
        return outcome, {}
    with open_executor(executor, resources, ray_address) as workers:
        made = work(graph, left, store, workers)
    outcome |= {field: getattr(made, field) for field in ("trainings", "evaluations", "decompositions")}
    return outcome, made.failures


def raise_failures(failures: dict[str, str]) -> None:
    """GraphFailed with a line for each failure, where there are any, and a table of them in Prefect."""
    if not failures:
        return
    rows = [{"what": what, "why": why} for what, why in failures.items()]
    create_table_artifact(rows, key="failures", description="What failed")
    lines = "\n".join(f"  {what}: {why}" for what, why in failures.items())
    raise GraphFailed(f"{len(failures)} failed; the others stand, the next call tries these again:\n{lines}")


def describe(graph: Graph, left: Left) -> str:
    """What the graph has and what is left of it, in a sentence or two."""
    runs, todo = len(graph.trunks) + len(graph.branches), len(left.trunks) + len(left.branches)
    measured = {"pairs": (graph.pairs, left.pairs), "tickets": (graph.tickets, left.tickets)}
    parts = [f"{len(missing)} of {len(whole)} {what}" for what, (whole, missing) in measured.items() if whole]
    states = sum(map(len, left.states.values()))
    again = f" {states} states of finished trunks are made again." if states else ""
    return (
        f"{graph.name}: {len(graph.trunks)} trunks, {len(graph.branches)} branches at steps "
        f"{', '.join(map(str, graph.splits))}. Left: {', '.join([f'{todo} of {runs} trainings', *parts])}.{again}"
    )


def _not_kept(graph: Graph, left: Left, store: str) -> str:
    run_id, steps = next(iter(left.states.items()))
    there = ", ".join(map(str, kept_states(store, graph.experiment, run_id))) or "none"
    return (
        f"trunk {run_id} did not keep its state at steps {', '.join(map(str, steps))}; it kept: {there}. "
        "Allow retrain, or branch at those"
    )
