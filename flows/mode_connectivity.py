"""The flow that trains trunks and branches and measures the straight lines between their ends."""

from typing import Annotated, Any, Literal

import xarray as xr
from annotated_types import Ge
from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE

from flows.graph import Graph, connectivity_graph, split_steps
from flows.graph_run import begin, raise_failures, run_graph
from flows.runtime import Resources
from models.experiment import Experiment, get_experiment
from storage import locations
from storage.locations import Layout
from storage.pairs import pair_url, read_values, write_dataset
from tasks.connectivity_cube import dataset
from tasks.figures.connectivity import by_size, by_split
from tasks.figures.style import to_png


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
    curve_steps: Annotated[int, Ge(0)] = 0,
    points: Annotated[int, Ge(3)] = 11,
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
        curve_steps: Updates of the control point of a curve between the ends of each pair; 0 for no curves.
        points: Places on each line, evenly spaced, its ends among them.
        retrain: Train a finished trunk again to splits at which it did not keep its state.
        name: Name of the results; empty for experiment-preset.
        store: Local folder or s3://bucket/prefix. Credentials come from the AWS environment.
        executor: Where units of work run: on Ray, or in this process.
        ray_address: Address of a running Ray cluster; empty starts one on this machine.
        resources: CPUs and GPUs of each unit.
        report: Draw figures at the end.
        dry_run: Only say what would run.
    """
    trunks, title, store = begin(experiment, preset, seeds, settings, name, store)
    steps = split_steps(trunks[0], store, splits, split_count)
    orders = orders or [max(seeds) + 1 + i for i in range(3)]
    noise = sizes or (), directions or ("random",)
    graph = connectivity_graph(title, trunks, steps, orders, *noise, across, layerwise, curve_steps, points)
    outcome, failures = run_graph(graph, store, executor, resources, ray_address, retrain, dry_run)
    if not dry_run:
        outcome |= finish(graph, store, report)
    raise_failures(failures)
    return outcome


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
