"""The flow that trains trunks and branches and measures the straight lines between their ends."""

from typing import Annotated, Any, Literal

import xarray as xr
from annotated_types import Ge
from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.graph import Graph, Left, connectivity_graph, split_steps, trunk_specs, what_is_left
from flows.runtime import Executor, Resources, open_executor
from flows.sweep import NAME
from flows.units import branch_units, end_units, pair_units, run_stages, trunk_units
from models.checks import require
from models.dataset import get_dataset
from models.experiment import Experiment, get_experiment
from storage import locations
from storage.checkpoints import kept_states
from storage.locations import Layout
from storage.pairs import pair_url, read_values, write_dataset
from storage.probe import require_store
from tasks.connectivity_cube import dataset
from tasks.datasets import require_data
from tasks.figures.connectivity import by_size, by_split
from tasks.figures.style import to_png


class GraphFailed(Exception):
    """Some runs or pairs failed: a table says which and why; the others stand, the next call tries these again."""


def _name() -> str:
    given = runtime.flow_run.parameters
    return f"{given.get('experiment')} connectivity" + (" (dry run)" if given.get("dry_run") else "")


@flow(name="mode-connectivity", flow_run_name=_name, persist_result=False)
def mode_connectivity(
    experiment: str = "modular_addition",
    preset: str | None = None,
    seeds: list[Annotated[int, Ge(0)]] = [0, 1, 2],  # noqa: B006 - Prefect copies it
    splits: list[Annotated[int, Ge(0)]] | None = None,
    split_count: Annotated[int, Ge(1)] = 5,
    orders: list[Annotated[int, Ge(0)]] | None = None,
    sizes: list[Annotated[float, Ge(0)]] | None = None,
    directions: list[Literal["random", "top", "bottom"]] | None = None,
    settings: dict[str, Any] | None = None,
    across: bool = True,
    layerwise: bool = False,
    retrain: bool = True,
    name: str | None = None,
    store: str = "results",
    executor: Literal["ray", "inline"] = "ray",
    ray_address: str | None = None,
    resources: Resources = Resources(),  # noqa: B008 - frozen
    report: bool = True,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Branch trunks at several steps, train the branches in orders of their own, measure the lines between their ends.

    What the store already has is not computed again. With `dry_run` only what is left is counted.

    Args:
        experiment: Name of an experiment.
        preset: Name of one of its presets; empty for the quick one.
        seeds: Seeds of the trunks.
        splits: Steps to branch at, checkpoints of the trunks; empty for `split_count` of them, half in the first epoch.
        split_count: How many steps to branch at where none are given.
        orders: Seeds of the branches' data orders; empty for three beyond the trunks' own.
        sizes: Sizes of a perturbation at the last split, e.g. [0, 0.1, 0.25, 0.5, 1, 2.5]; empty for none.
        directions: Where perturbations lie: random, or along the top or bottom singular directions.
        settings: Settings in place of the preset's, e.g. {"weight_decay": 0.0}.
        across: Connect branches of different trunks too, as a control.
        layerwise: Interpolate each layer alone too; costs ten evaluations a layer and pair.
        retrain: Train a finished trunk again to splits at which it did not keep its state.
        name: Name of the results; empty for experiment-preset.
        store: Local folder or s3://bucket/prefix. Credentials come from the AWS environment.
        executor: Where units of work run: on Ray, or in this process.
        ray_address: Address of a running Ray cluster; empty starts one on this machine.
        resources: CPUs and GPUs of each unit.
        report: Draw figures at the end.
        dry_run: Only say what would run.
    """
    chosen = get_experiment(experiment)
    preset = preset or chosen.usual
    trunks = trunk_specs(experiment, preset, seeds, settings or {})
    title = name or f"{experiment}-{preset}"
    require(bool(NAME.fullmatch(title)), "name", title, "letters, digits, '.', '_' and '-', at most 81 of them")
    store = require_store(store)
    if needed := chosen.dataset(trunks[0]):
        require_data(store, get_dataset(*needed))
    steps = split_steps(trunks[0], store, splits, split_count)
    orders = orders or [max(seeds) + 1 + i for i in range(3)]
    graph = connectivity_graph(title, trunks, steps, orders, sizes or (), directions or ("random",), across, layerwise)
    left = what_is_left(graph, store)
    summary = describe(graph, left)
    create_markdown_artifact(summary, key="plan", description=f"Plan of {title}")
    get_run_logger().info(summary)
    if left.states and not retrain:
        raise ValueError(_not_kept(graph, left, store))
    outcome: dict[str, Any] = {"name": title, "store": store, "summary": summary}
    if dry_run:
        return outcome
    failures: dict[str, str] = {}
    if not left.nothing:
        with open_executor(executor, resources, ray_address) as workers:
            failures = _work(graph, left, store, workers)
    outcome |= finish(graph, store, report)
    if failures:
        rows = [{"what": what, "why": why} for what, why in failures.items()]
        create_table_artifact(rows, key="failures", description="What failed")
        lines = "\n".join(f"  {what}: {why}" for what, why in failures.items())
        raise GraphFailed(f"{len(failures)} failed; the others stand, the next call tries these again:\n{lines}")
    return outcome


def describe(graph: Graph, left: Left) -> str:
    """What the graph has and what is left of it, in a sentence or two."""
    runs = len(graph.trunks) + len(graph.branches)
    states = sum(map(len, left.states.values()))
    again = f" {states} states of finished trunks are made again." if states else ""
    return (
        f"{graph.name}: {len(graph.trunks)} trunks, {len(graph.branches)} branches at steps "
        f"{', '.join(map(str, graph.splits))}, {len(graph.pairs)} pairs. Left: {len(left.trunks) + len(left.branches)} "
        f"of {runs} trainings, {len(left.pairs)} of {len(graph.pairs)} pairs.{again}"
    )


def _not_kept(graph: Graph, left: Left, store: str) -> str:
    run_id, steps = next(iter(left.states.items()))
    there = ", ".join(map(str, kept_states(store, graph.experiment, run_id))) or "none"
    return (
        f"trunk {run_id} did not keep its state at steps {', '.join(map(str, steps))}; it kept: {there}. "
        "Allow retrain, or branch at those"
    )


def _work(graph: Graph, left: Left, store: str, executor: Executor) -> dict[str, str]:
    """Stage after stage: trunks and their states, branches, ends, pairs. Gives what failed and why."""
    stages = {
        "trunks": trunk_units(graph, left, store),
        "branches": branch_units(left, store),
        "ends": end_units(left, store),
        "pairs": pair_units(left, store),
    }
    return run_stages(graph.name, stages, executor)


@task(name="gather", cache_policy=NO_CACHE, persist_result=False)
def finish(graph: Graph, store: str, report: bool) -> dict[str, Any]:
    """Gather the pairs that are there into the cube, and draw it."""
    found = [(pair, read_values(pair_url(store, graph.experiment, pair.pair_id))) for pair in graph.pairs]
    there = [(pair, values) for pair, values in found if values is not None]
    if not there:
        return {}
    url = Layout(store).connectivity(graph.name)
    data = dataset([pair for pair, _ in there], [values for _, values in there], graph.trunks)
    write_dataset(url, data.assign_attrs(title=graph.name, experiment=graph.experiment))
    outcome: dict[str, Any] = {"cube": url, "pairs": len(there)}
    if report:
        outcome["figures"] = draw(data, get_experiment(graph.experiment), graph, Layout(store).report(graph.name))
    return outcome


def draw(data: xr.Dataset, experiment: Experiment, graph: Graph, folder: str) -> list[str]:
    """Write the figures that the data has values for; gives their URLs."""
    metric = next(iter(experiment.metrics(graph.trunks[0])))
    kinds = set(data["kind"].values.tolist())
    figures = {"connectivity": by_split} if kinds - {"perturbed"} else {}
    figures |= {"perturbation": by_size} if "perturbed" in kinds else {}
    for name, of in figures.items():
        locations.write(f"{folder}/{name}.png", to_png(of(data, metric)))
    return [f"{folder}/{name}.png" for name in figures]
