"""`specdyn connect` and `specdyn tickets`: trunks, what branches from them, and what is measured of it."""

from typing import Annotated

import typer

from flows.options import (
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
    seeds: Annotated[str, typer.Option("--seeds", "-s", help="Seeds of the trunks.")] = "0,1,2",
    splits: Annotated[
        str | None,
        typer.Option(help="Steps to branch at. Default: five, half of them in the first epoch.", show_default=False),
    ] = None,
    split_count: Annotated[
        int, typer.Option(help="How many steps to branch at where none are given; 10 are the paper's.")
    ] = 5,
    split_epochs: Annotated[
        str | None, typer.Option(help="Epochs to branch at instead of steps, e.g. `0,0.2,1,4`.", show_default=False)
    ] = None,
    orders: Annotated[
        str | None, typer.Option(help="Seeds of the branches' data orders. Default: three.", show_default=False)
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="Sizes of a perturbation at the last split, e.g. `0,0.25,1`.", show_default=False),
    ] = None,
    directions: Annotated[str, typer.Option(help="Of perturbations: `random`, `top`, `bottom`.")] = "random",
    setting: Settings = None,
    across: Annotated[bool, typer.Option(help="Connect branches of different trunks too.")] = True,
    layerwise: Annotated[bool, typer.Option(help="Interpolate each layer alone too.")] = False,
    curve_steps: Annotated[
        int, typer.Option(help="Train the control point of a curve between the ends for so many updates.")
    ] = 0,
    points: Annotated[int, typer.Option(help="Places on each line, its ends among them.")] = 11,
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
    """Branch trunks at several steps, train the branches in orders of their own, connect their ends.

    Measures loss and error along the line between two ends, whole and with half of the singular values, its barrier,
    the agreement of the ends' singular vectors, and the same after the hidden units have been matched.

    Example: `specdyn connect modular_addition --set weight_decay=1 --split-count 5`
    """
    from flows.capacity import Resources
    from flows.terminal import run_graph_flow

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
    seeds: Annotated[str, typer.Option("--seeds", "-s", help="Seeds of the trunks.")] = "0",
    rewind: Annotated[
        int | None,
        typer.Option(help="Step to train tickets from. Default: the first after an epoch.", show_default=False),
    ] = None,
    rewind_epoch: Annotated[
        float | None, typer.Option(help="Epoch to train tickets from instead of a step.", show_default=False)
    ] = None,
    densities: Annotated[str, typer.Option(help="Shares of the weights that are kept.")] = "0.1,0.2,0.3,0.5,0.8",
    masks: Annotated[str, typer.Option(help="Kinds of masks.")] = "magnitude,iterative,random,reinit,shuffled",
    orders: Annotated[
        str | None, typer.Option(help="Seeds of data orders and masks. Default: one.", show_default=False)
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
    """Mask trunks by their last weights, train what is left from an early step, compare it with the dense run.

    Masks: the largest weights (`magnitude`), the same round by round from density to density (`iterative`), as many in
    each layer at `random`, the largest on new weights (`reinit`), mask and weights `shuffled` together in each layer.

    Example: `specdyn tickets image_classification --densities 0.1,0.3`
    """
    from flows.capacity import Resources
    from flows.terminal import run_graph_flow

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
