"""The flow that masks trunks, trains what is left from a rewind point, and compares it with the dense run."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE

from flows.graph import Graph, split_steps, ticket_graph
from flows.graph_run import begin, raise_failures, run_graph
from flows.runtime import Resources
from models.experiment import get_experiment
from models.start import MASKS
from storage import locations
from storage.checkpoints import read_manifest
from storage.locations import Layout
from storage.pairs import read_values, ticket_url, write_dataset
from tasks.figures.style import to_png
from tasks.figures.tickets import by_density
from tasks.tickets import dataset

DENSITIES = (0.1, 0.2, 0.3, 0.5, 0.8)


def _name() -> str:
    given = runtime.flow_run.parameters
    return f"{given.get('experiment')} lottery tickets" + (" (dry run)" if given.get("dry_run") else "")


@flow(name="lottery-tickets", flow_run_name=_name, persist_result=False)
def lottery_tickets(
    experiment: str = "modular_addition",
    preset: str | None = None,
    seeds: list[Annotated[int, Ge(0)]] = [0],  # noqa: B006 - Prefect copies it
    rewind: Annotated[int, Ge(0)] | None = None,
    densities: list[Annotated[float, Gt(0), Le(1)]] | None = None,
    masks: list[Literal["magnitude", "iterative", "random", "reinit", "shuffled"]] | None = None,
    orders: list[Annotated[int, Ge(0)]] | None = None,
    settings: dict[str, Any] | None = None,
    retrain: bool = True,
    name: str | None = None,
    store: str = "results",
    executor: Literal["ray", "inline"] = "ray",
    ray_address: str | None = None,
    resources: Resources = Resources(),  # noqa: B008 - frozen
    report: bool = True,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Mask trunks by their last weights, train what is left from an early step, compare it with the dense run.

    What the store already has is not computed again. With `dry_run` only what is left is counted.

    Args:
        experiment: Name of an experiment.
        preset: Name of one of its presets; empty for the quick one.
        seeds: Seeds of the trunks.
        rewind: Step from which tickets are trained, a checkpoint of the trunks; empty for the first one after an epoch.
        densities: Shares of the weights that are kept; empty for 0.1, 0.2, 0.3, 0.5, 0.8.
        masks: Kinds of masks; empty for all.
        orders: Seeds of the tickets' data orders and masks; empty for one beyond the trunks' own.
        settings: Settings in place of the preset's, e.g. {"weight_decay": 0.0}.
        retrain: Train a finished trunk again to the rewind step where it did not keep its state.
        name: Name of the results; empty for experiment-preset.
        store: Local folder or s3://bucket/prefix. Credentials come from the AWS environment.
        executor: Where units of work run: on Ray, or in this process.
        ray_address: Address of a running Ray cluster; empty starts one on this machine.
        resources: CPUs and GPUs of each unit.
        report: Draw the figure at the end.
        dry_run: Only say what would run.
    """
    trunks, title, store = begin(experiment, preset, seeds, settings, name, store)
    step = split_steps(trunks[0], store, None if rewind is None else [rewind], 2)[-1]
    graph = ticket_graph(title, trunks, step, densities or DENSITIES, masks or MASKS, orders or [max(seeds) + 1])
    outcome, failures = run_graph(graph, store, executor, resources, ray_address, retrain, dry_run)
    if not dry_run:
        outcome |= finish(graph, store, report)
    raise_failures(failures)
    return outcome


@task(name="gather", cache_policy=NO_CACHE, persist_result=False)
def finish(graph: Graph, store: str, report: bool) -> dict[str, Any]:
    """Gather the tickets that are there into the cube, and draw it."""
    found = [(spec, read_values(ticket_url(store, graph.experiment, spec.run_id))) for spec in graph.tickets]
    there = [(spec, values) for spec, values in found if values is not None]
    if not there:
        return {}
    manifest = read_manifest(store, graph.experiment, there[0][0].run_id)
    assert manifest is not None
    data = dataset([spec for spec, _ in there], [values for _, values in there], manifest.steps)
    url = Layout(store).tickets(graph.name)
    write_dataset(url, data.assign_attrs(title=graph.name, experiment=graph.experiment))
    outcome: dict[str, Any] = {"cube": url, "tickets": len(there)}
    if report:
        metric = next(iter(get_experiment(graph.experiment).metrics(graph.trunks[0])))
        figure = f"{Layout(store).report(graph.name)}/tickets.png"
        locations.write(figure, to_png(by_density(data, metric)))
        outcome["figures"] = [figure]
    return outcome
