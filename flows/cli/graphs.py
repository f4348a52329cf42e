"""`specdyn connect` and `specdyn tickets`: base runs, the runs that start from their checkpoints, and measurements."""

from typing import Annotated

import typer

from specdyn.flows.cli.options import (
    Cpus,
    ExecutorKind,
    Experiment,
    GraphName,
    PlanOnly,
    Preset,
    RayAddress,
    Retrain,
    RetryFailed,
    Settings,
    Store,
    Verbose,
    friendly,
    graph_parameters,
    numbers,
    words,
)


@friendly
def connect(
    experiment: Experiment,
    preset: Preset = None,
    seeds: Annotated[str, typer.Option("--seeds", "-s", help="Seeds of the base runs.")] = "0,1,2",
    splits: Annotated[
        str | None,
        typer.Option(help="Steps to fork at. Default: five, half of them in the first epoch.", show_default=False),
    ] = None,
    split_count: Annotated[
        int, typer.Option(help="How many steps to fork at if --splits is not given; the paper uses 10.")
    ] = 5,
    split_epochs: Annotated[
        str | None, typer.Option(help="Epochs to fork at instead of steps, e.g. `0,0.2,1,4`.", show_default=False)
    ] = None,
    orders: Annotated[
        str | None, typer.Option(help="Seeds of the forks' data orders. Default: three new ones.", show_default=False)
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Sizes of a weight perturbation at the last fork, relative to the weights, e.g. `0,0.25,1`.",
            show_default=False,
        ),
    ] = None,
    directions: Annotated[
        str,
        typer.Option(help="Directions of the perturbation: `random`, or along the `top` or `bottom` singular vectors."),
    ] = "random",
    setting: Settings = None,
    across: Annotated[bool, typer.Option(help="Also interpolate between forks of different base runs.")] = True,
    layerwise: Annotated[bool, typer.Option(help="Also interpolate one layer at a time.")] = False,
    curve_steps: Annotated[
        int, typer.Option(help="Updates to train a curve between two final weights with; 0 trains none.")
    ] = 0,
    points: Annotated[int, typer.Option(help="Points on each line, including both ends.")] = 11,
    retrain: Retrain = True,
    retry_failed: RetryFailed = False,
    name: GraphName = None,
    store: Store = "results",
    executor: ExecutorKind = "ray",
    ray_address: RayAddress = None,
    cpus: Cpus = 1,
    plan: PlanOnly = False,
    verbose: Verbose = False,
) -> None:
    """Fork base runs at several steps, train the forks with different data orders, interpolate between their weights.

    Tables call the base runs trunks and the forks branches.

    Measures loss and error along the line between two final weights (all singular values, the top or the bottom half),
    its barrier, how well the singular vectors agree, and the same after matching the hidden units.

    Example: `specdyn connect modular_addition --set weight_decay=1 --split-count 5`
    """
    from specdyn.flows.cli.terminal import run_graph_flow
    from specdyn.flows.engine.resources import Resources

    parameters = {
        **graph_parameters(experiment, preset, seeds, setting, orders),
        "splits": numbers(splits, int, "splits") or [],
        "split_count": split_count,
        "split_epochs": numbers(split_epochs, float, "split_epochs") or [],
        "sizes": numbers(sizes, float, "sizes") or [],
        "directions": words(directions, "directions") or [],
        "across": across,
        "layerwise": layerwise,
        "curve_steps": curve_steps,
        "points": points,
        "retrain": retrain,
        "retry_failed": retry_failed,
        "name": name or "",
        "store": store,
        "executor": executor,
        "ray_address": ray_address or "",
        "resources": Resources(cpus=cpus),
        "dry_run": plan,
    }
    if not run_graph_flow("connect", parameters, verbose):
        raise typer.Exit(1)


@friendly
def tickets(
    experiment: Experiment,
    preset: Preset = None,
    seeds: Annotated[str, typer.Option("--seeds", "-s", help="Seeds of the base runs.")] = "0",
    rewind: Annotated[
        int | None,
        typer.Option(help="Step to rewind to. Default: the first checkpoint after an epoch.", show_default=False),
    ] = None,
    rewind_epoch: Annotated[
        float | None, typer.Option(help="Epoch to rewind to instead of a step.", show_default=False)
    ] = None,
    densities: Annotated[str, typer.Option(help="Fractions of the weights to keep.")] = "0.1,0.2,0.3,0.5,0.8",
    masks: Annotated[
        str, typer.Option(help="How to choose the weights to keep (see above).")
    ] = "magnitude,iterative,random,reinit,shuffled",
    orders: Annotated[
        str | None, typer.Option(help="Seeds of the data orders and masks. Default: one.", show_default=False)
    ] = None,
    setting: Settings = None,
    retrain: Retrain = True,
    retry_failed: RetryFailed = False,
    name: GraphName = None,
    store: Store = "results",
    executor: ExecutorKind = "ray",
    ray_address: RayAddress = None,
    cpus: Cpus = 1,
    plan: PlanOnly = False,
    verbose: Verbose = False,
) -> None:
    """Prune base runs by their final weights, rewind to an early step, retrain, and compare with the dense run.

    Tables call the base runs trunks, and the pruned runs branches or tickets.

    Masks keep the largest weights (`magnitude`), the same pruned step by step from density to density (`iterative`), as
    many `random` weights in each layer, the largest with new initial weights (`reinit`), or the largest with mask and
    weights `shuffled` in each layer.

    Example: `specdyn tickets image_classification --densities 0.1,0.3`
    """
    from specdyn.flows.cli.terminal import run_graph_flow
    from specdyn.flows.engine.resources import Resources

    parameters = {
        **graph_parameters(experiment, preset, seeds, setting, orders),
        "rewind": rewind,
        "rewind_epoch": rewind_epoch,
        "densities": numbers(densities, float, "densities") or [],
        "masks": words(masks, "masks") or [],
        "retrain": retrain,
        "retry_failed": retry_failed,
        "name": name or "",
        "store": store,
        "executor": executor,
        "ray_address": ray_address or "",
        "resources": Resources(cpus=cpus),
        "dry_run": plan,
    }
    if not run_graph_flow("tickets", parameters, verbose):
        raise typer.Exit(1)
