"""The commands that start a flow."""

import dataclasses
from typing import Annotated, Any

import typer

from specdyn.flows.cli.command import options, read, with_options
from specdyn.flows.cli.options import CsvOption, JsonOption
from specdyn.flows.cli.terminal import TableForm, table_form
from specdyn.flows.parameters import AnalyseParameters, ConnectParameters, Parameters, SweepParameters, TicketParameters

GRID = ("experiment", "preset", "weight_decays", "seeds", "axes", "settings", "sweep", "analyses")
"""Parameters of a sweep that determine its runs."""


LogOption = Annotated[
    str | None,
    typer.Option("--log", help="Send runs to `tensorboard`, `wandb` or `mlflow` as they finish.", show_default=False),
]


def start(asked: Parameters, verbose: bool, form: TableForm = TableForm.PEOPLE, tracker: str = "") -> bool:
    """Run the flow of these parameters; imports late, as `--help` and typos do not need the flow."""
    from specdyn.flows.cli import study

    return study.start(asked, verbose, form, tracker)


def run(asked: SweepParameters, verbose: bool, log: LogOption = None) -> bool:
    """Train a grid of weight decays and seeds, analyse every checkpoint and collect the results for xarray.

    Nothing in the store is computed twice: a second call does nothing, another weight decay adds only its own runs, and
    an interrupted command continues where it stopped. Any setting can be an axis of the grid. `--log` sends metrics by
    step and figures to a tracker; a tracker that fails does not fail the runs.

    Examples: `specdyn run modular_addition -w 0,0.3,1 -s 0,1`, `specdyn run image_classification -a optimizer=sgd,sam`
    """
    return start(asked, verbose, tracker=log or "")


def _plan(**typed: Any) -> None:
    """Show the runs of a grid: which are done, which would run, and their estimated size and time.

    Trains and writes nothing; times a few steps on this machine for the estimate.
    """
    start(dataclasses.replace(read(SweepParameters, typed), dry_run=True), verbose=False)


plan = with_options(_plan, options(SweepParameters, (*GRID, "store")))


def connect(asked: ConnectParameters, verbose: bool) -> bool:
    """Fork base runs at several steps, train the forks with different data orders, interpolate between their weights.

    Tables call the base runs trunks and the forks branches.

    Measures loss and error along the line between two final weights (all singular values, the top or the bottom half),
    its barrier, how well the singular vectors agree, and the same after matching the hidden units.

    Example: `specdyn connect modular_addition --set weight_decay=1 --split-count 5`
    """
    return start(asked, verbose)


def tickets(asked: TicketParameters, verbose: bool) -> bool:
    """Prune base runs by their final weights, rewind to an early step, retrain, and compare with the dense run.

    Tables call the base runs trunks, and the pruned runs branches or tickets.

    Masks keep the largest weights (`magnitude`), the same pruned step by step from density to density (`iterative`), as
    many `random` weights in each layer, the largest with new initial weights (`reinit`), or the largest with mask and
    weights `shuffled` in each layer.

    Example: `specdyn tickets image_classification --densities 0.1,0.3`
    """
    return start(asked, verbose)


def analyse(asked: AnalyseParameters, verbose: bool, as_json: JsonOption = False, as_csv: CsvOption = False) -> bool:
    """Analyse checkpoints from any program: safetensors, `torch.save` files, adapters, distributed folders, the Hub.

    The step is read from the name (`step=1000`, `checkpoint-1000`, `1000.pt`, ...) or from `trainer_state.json`. Layers
    are read one at a time, so a checkpoint may be larger than memory, and no program in a file is ever run. The
    checkpoints are audited first; results look like those of trained runs. A table of the last checkpoint's layers
    ends it, with `--json` or `--csv` alone on standard output. Work of seconds starts no engine.

    Examples: `specdyn analyse ~/runs/gpt-small`, `specdyn analyse hf://EleutherAI/pythia-70m --revisions 'step*'`
    """
    return start(asked, verbose, table_form(as_json, as_csv))
