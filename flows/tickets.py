"""The flow that masks trunks, trains what is left from a rewind point, and compares it with the dense run."""

import contextlib
from typing import Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from specdyn.flows import fields
from specdyn.flows.engine.artifacts import show_figures, show_result
from specdyn.flows.engine.choices import tickets_from
from specdyn.flows.engine.lease import turn
from specdyn.flows.engine.resources import Resources
from specdyn.flows.engine.run_graph import raise_failures, run_graph
from specdyn.models.experiments.base import get_experiment
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.pairs import read_values, write_dataset
from specdyn.storage.places import Layout
from specdyn.tasks.connect.tickets import dataset
from specdyn.tasks.figures.style import to_png
from specdyn.tasks.figures.tickets import by_density
from specdyn.tasks.plan.branching import Graph, finished_runs, measured_tickets


def _name() -> str:
    given = flow_run.parameters
    return f"{given.get('experiment')} lottery tickets" + (" (dry run)" if given.get("dry_run") else "")


@flow(name="lottery-tickets", flow_run_name=_name, persist_result=False)
def lottery_tickets(
    experiment: fields.Experiment = "modular_addition",
    preset: fields.Preset = fields.USUAL,
    seeds: fields.TrunkSeeds = [0],  # noqa: B006 - Prefect copies it
    rewind: fields.Rewind = None,
    rewind_epoch: fields.RewindEpoch = None,
    densities: fields.Densities = [0.1, 0.2, 0.3, 0.5, 0.8],  # noqa: B006
    masks: fields.Masks = [],  # noqa: B006
    orders: fields.Orders = [],  # noqa: B006
    settings: fields.Settings = {},  # noqa: B006
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
    """Mask trunks by their last weights, train what is left from an early step, compare it with the dense run.

    What the store already has is not computed again.
    """
    given = {
        "experiment": experiment,
        "preset": preset,
        "seeds": seeds,
        "rewind": rewind,
        "rewind_epoch": rewind_epoch,
        "densities": densities,
        "masks": masks,
        "orders": orders,
        "settings": settings,
        "name": name,
        "store": store,
        "dry_run": dry_run,
    }
    graph, store = tickets_from(given)
    # What only looks writes nothing, and takes no turn.
    with contextlib.nullcontext() if dry_run else turn(Layout(store).tickets(graph.name), store) as lease:
        outcome, failed = run_graph(graph, store, executor, resources, ray_address, retrain, retry_failed, dry_run)
        if lease:
            outcome |= finish(graph, store, report, lease)
    raise_failures(failed, graph.name)
    return outcome


@task(name="gather", cache_policy=NO_CACHE, persist_result=False)
def finish(graph: Graph, store: str, report: bool, lease: Lease) -> dict[str, Any]:
    """Gather the tickets that are there into the cube, and draw it."""
    runs = finished_runs(graph, store)
    found = [(spec, read_values(url)) for spec, url in measured_tickets(graph, store, runs).items()]
    there = [(spec, values) for spec, values in found if values is not None]
    if not there:
        return {}
    steps = runs[there[0][0].run_id].steps
    data = dataset([spec for spec, _ in there], [values for _, values in there], steps)
    url = Layout(store).tickets(graph.name)
    lease.ensure()
    write_dataset(url, data.assign_attrs(title=graph.name, experiment=graph.experiment), lease)
    outcome: dict[str, Any] = {"cube": url, "tickets": len(there)}
    show_result(url, graph.name, f"{len(there)} tickets.", opener="open_dataset")
    if report:
        metric = next(iter(get_experiment(graph.experiment).metrics(graph.trunks[0])))
        figure = f"{Layout(store).report(graph.name)}/tickets.png"
        objects.write(figure, to_png(by_density(data, metric)))
        outcome["figures"] = [figure]
        show_figures([figure])
    return outcome
