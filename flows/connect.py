"""The flow that trains trunks and branches and measures the straight lines between their ends."""

import contextlib
from typing import Annotated, Any

import xarray as xr
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from specdyn.flows import fields
from specdyn.flows.engine.artifacts import show_figures, show_result
from specdyn.flows.engine.choices import connectivity_from
from specdyn.flows.engine.lease import turn
from specdyn.flows.engine.resources import Resources
from specdyn.flows.engine.run_graph import raise_failures, run_graph
from specdyn.models.experiments.base import Experiment, get_experiment
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.pairs import read_values, write_dataset
from specdyn.storage.places import Layout
from specdyn.tasks.connect.cube import dataset
from specdyn.tasks.figures.connectivity import by_size, by_split
from specdyn.tasks.figures.style import to_png
from specdyn.tasks.plan.branching import Graph, finished_runs, measured_pairs


def _name() -> str:
    given = flow_run.parameters
    return f"{given.get('experiment')} connectivity" + (" (dry run)" if given.get("dry_run") else "")


@flow(name="mode-connectivity", flow_run_name=_name, persist_result=False)
def mode_connectivity(
    experiment: fields.Experiment = "modular_addition",
    preset: fields.Preset = fields.USUAL,
    seeds: fields.TrunkSeeds = [0, 1, 2],  # noqa: B006 - Prefect copies it
    splits: fields.Splits = [],  # noqa: B006
    split_epochs: fields.SplitEpochs = [],  # noqa: B006
    split_count: fields.SplitCount = 5,
    orders: fields.Orders = [],  # noqa: B006
    sizes: fields.Sizes = [],  # noqa: B006
    directions: fields.Directions = [],  # noqa: B006
    settings: fields.Settings = {},  # noqa: B006
    across: fields.Across = True,
    layerwise: fields.Layerwise = False,
    curve_steps: fields.CurveSteps = 0,
    points: fields.Points = 11,
    retrain: fields.Retrain = True,
    retry_failed: fields.RetryFailed = False,
    name: fields.GraphName = "",
    store: fields.Store = "",
    report: fields.Report = True,
    dry_run: fields.DryRun = False,
    executor: fields.ExecutorKind = "ray",
    ray_address: fields.RayAddress = "",
    resources: Annotated[Resources, fields.UnitResources] = Resources(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Branch trunks at several steps, train the branches in orders of their own, measure the lines between their ends.

    What the store already has is not computed again.
    """
    given = {
        "experiment": experiment,
        "preset": preset,
        "seeds": seeds,
        "splits": splits,
        "split_epochs": split_epochs,
        "split_count": split_count,
        "orders": orders,
        "sizes": sizes,
        "directions": directions,
        "settings": settings,
        "across": across,
        "layerwise": layerwise,
        "curve_steps": curve_steps,
        "points": points,
        "name": name,
        "store": store,
        "dry_run": dry_run,
    }
    graph, store = connectivity_from(given)
    # What only looks writes nothing, and takes no turn.
    with contextlib.nullcontext() if dry_run else turn(Layout(store).connectivity(graph.name), store) as lease:
        outcome, failed = run_graph(graph, store, executor, resources, ray_address, retrain, retry_failed, dry_run)
        if lease:
            outcome |= finish(graph, store, report, lease)
    raise_failures(failed, graph.name)
    return outcome


@task(name="gather", cache_policy=NO_CACHE, persist_result=False)
def finish(graph: Graph, store: str, report: bool, lease: Lease) -> dict[str, Any]:
    """Gather the pairs that are there into the cube, and draw it."""
    places = measured_pairs(graph, store, finished_runs(graph, store))
    found = [(pair, read_values(url)) for pair, url in places.items()]
    there = [(pair, values) for pair, values in found if values is not None]
    if not there:
        return {}
    url = Layout(store).connectivity(graph.name)
    data = dataset([pair for pair, _ in there], [values for _, values in there], graph.trunks)
    lease.ensure()
    write_dataset(url, data.assign_attrs(title=graph.name, experiment=graph.experiment), lease)
    outcome: dict[str, Any] = {"cube": url, "pairs": len(there)}
    show_result(url, graph.name, f"{len(there)} pairs.", opener="open_dataset")
    if report:
        outcome["figures"] = draw(data, get_experiment(graph.experiment), graph, Layout(store).report(graph.name))
        show_figures(outcome["figures"])
    return outcome


def draw(data: xr.Dataset, experiment: Experiment, graph: Graph, folder: str) -> list[str]:
    """Write the figures that the data has values for; gives their URLs."""
    metric = next(iter(experiment.metrics(graph.trunks[0])))
    kinds = set(data["kind"].values.tolist())
    figures = {"connectivity": by_split} if kinds - {"perturbed"} else {}
    figures |= {"perturbation": by_size} if "perturbed" in kinds else {}
    for name, of in figures.items():
        objects.write(f"{folder}/{name}.png", to_png(of(data, metric)))
    return [f"{folder}/{name}.png" for name in figures]
