"""`specdyn connect` and `specdyn tickets`: trunks, what branches from them, and what is measured of it."""

from typing import Annotated

import typer

from flows.options import Experiment, Preset, Settings, Store, friendly, numbers, words


@friendly
def connect(
    experiment: Experiment,
    preset: Preset = None,
    seeds: Annotated[str, typer.Option("--seeds", "-s", help="Seeds of the trunks.")] = "0,1,2",
    splits: Annotated[
        str | None,
        typer.Option(help="Steps to branch at. Default: five, half of them in the first epoch.", show_default=False),
    ] = None,
    split_count: Annotated[int, typer.Option(help="How many steps to branch at where none are given.")] = 5,
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
    retrain: Annotated[
        bool, typer.Option(help="Train a finished trunk again to splits at which it did not keep its state.")
    ] = True,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Default: experiment-preset.", show_default=False)
    ] = None,
    store: Store = "results",
    executor: Annotated[str, typer.Option(help="`ray` (parallel) or `inline` (this process, one at a time).")] = "ray",
    ray_address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster, e.g. `auto`. Default: start one here.")
    ] = None,
    cpus: Annotated[int, typer.Option(help="CPU cores, and threads, of each training or pair.")] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what is there and what would run.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log.")] = False,
) -> None:
    """Branch trunks at several steps, train the branches in orders of their own, connect their ends.

    Measures loss and error along the line between two ends, whole and with half of the singular values, its barrier,
    the agreement of the ends' singular vectors, and the same after the hidden units have been matched.

    Example: `specdyn connect modular_addition --set weight_decay=1 --split-count 5`
    """
    from flows.runtime import Resources
    from flows.settings import read_settings
    from flows.terminal import run_graph_flow
    from models.experiment import get_experiment

    chosen = get_experiment(experiment)
    preset = preset or chosen.usual
    parameters = {
        "experiment": experiment,
        "preset": preset,
        "seeds": numbers(seeds, int, "seeds"),
        "splits": numbers(splits, int, "splits"),
        "split_count": split_count,
        "orders": numbers(orders, int, "orders"),
        "sizes": numbers(sizes, float, "sizes"),
        "directions": words(directions),
        "settings": read_settings(chosen.preset(preset).spec, setting or []),
        "across": across,
        "layerwise": layerwise,
        "curve_steps": curve_steps,
        "retrain": retrain,
        "name": name,
        "store": store,
        "executor": executor,
        "ray_address": ray_address,
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
    densities: Annotated[str, typer.Option(help="Shares of the weights that are kept.")] = "0.1,0.2,0.3,0.5,0.8",
    masks: Annotated[str, typer.Option(help="Kinds of masks.")] = "magnitude,iterative,random,reinit,shuffled",
    orders: Annotated[
        str | None, typer.Option(help="Seeds of data orders and masks. Default: one.", show_default=False)
    ] = None,
    setting: Settings = None,
    retrain: Annotated[bool, typer.Option(help="Train a finished trunk again where it did not keep its state.")] = True,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Default: experiment-preset.", show_default=False)
    ] = None,
    store: Store = "results",
    executor: Annotated[str, typer.Option(help="`ray` (parallel) or `inline` (this process, one at a time).")] = "ray",
    ray_address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster, e.g. `auto`. Default: start one here.")
    ] = None,
    cpus: Annotated[int, typer.Option(help="CPU cores, and threads, of each training.")] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what is there and what would run.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log.")] = False,
) -> None:
    """Mask trunks by their last weights, train what is left from an early step, compare it with the dense run.

    Masks: the largest weights (`magnitude`), the same round by round from density to density (`iterative`), as many in
    each layer at `random`, the largest on new weights (`reinit`), mask and weights `shuffled` together in each layer.

    Example: `specdyn tickets image_classification --densities 0.1,0.3`
    """
    from flows.runtime import Resources
    from flows.settings import read_settings
    from flows.terminal import run_graph_flow
    from models.experiment import get_experiment

    chosen = get_experiment(experiment)
    preset = preset or chosen.usual
    parameters = {
        "experiment": experiment,
        "preset": preset,
        "seeds": numbers(seeds, int, "seeds"),
        "rewind": rewind,
        "densities": numbers(densities, float, "densities"),
        "masks": words(masks),
        "orders": numbers(orders, int, "orders"),
        "settings": read_settings(chosen.preset(preset).spec, setting or []),
        "retrain": retrain,
        "name": name,
        "store": store,
        "executor": executor,
        "ray_address": ray_address,
        "resources": Resources(cpus=cpus),
        "dry_run": plan,
    }
    if not run_graph_flow("tickets", parameters, verbose):
        raise typer.Exit(1)
