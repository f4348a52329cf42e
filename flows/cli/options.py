"""What the command's verbs share: their options, how words become values, and how errors end them."""

import functools
import os
import signal
import traceback
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from specdyn.models.spec.checks import items_of

P = ParamSpec("P")
R = TypeVar("R")

out, err = Console(), Console(stderr=True)
FRAMES = 4
"""The most calls of a traceback that are shown."""
BUG = (
    "this is a bug in specdyn. Please report the lines above and the command on the project's issue tracker; "
    "SPECDYN_TRACEBACK=1 shows the whole traceback"
)

Experiment = Annotated[str, typer.Argument(help="Name of an experiment (see `specdyn list experiments`).")]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        help="Network, data, optimizer and schedule (see `specdyn list presets`). Default: the quickest one.",
        show_default=False,
    ),
]
Decays = Annotated[
    str | None,
    typer.Option(
        "--weight-decays",
        "-w",
        help="Weight decays to train with, e.g. `0,0.3,1`. Default: the preset's.",
        show_default=False,
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", "-s", help="Seeds to train with, e.g. `0,1,2`. Default: the preset's.", show_default=False),
]
Axes = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        "-a",
        help="Values of any other setting to train with, e.g. `learning_rate=1e-3,1e-2`; may be repeated.",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a setting of every run, e.g. `steps=1000`; may be repeated.", show_default=False
    ),
]
Store = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="SPECDYN_STORE",
        help="Local folder or `s3://bucket/prefix`; credentials and endpoint come from the AWS environment variables.",
    ),
]
SweepName = Annotated[
    str | None,
    typer.Option(
        "--sweep",
        "-n",
        help="Name of the sweep. Default: experiment-preset, axes, settings changed.",
        show_default=False,
    ),
]
ExecutorKind = Annotated[str, typer.Option(help="`ray` (parallel) or `inline` (this process, one at a time).")]
RayAddress = Annotated[
    str | None, typer.Option(help="Address of a running Ray cluster, e.g. `auto`. Default: start Ray on this machine.")
]
Cpus = Annotated[int, typer.Option(help="CPU cores (and threads) for each task.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log.")]
Report = Annotated[bool, typer.Option(help="Write the figures and the HTML report.")]
GraphName = Annotated[
    str | None,
    typer.Option(
        "--name",
        "-n",
        help="Name of the results. Default: experiment-preset and the settings changed.",
        show_default=False,
    ),
]
Retrain = Annotated[
    bool, typer.Option(help="Retrain a finished base run up to a step whose training state was not kept.")
]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Show what is done and what would run, and stop.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Retrain runs that diverged in an earlier call.")]
Analyses = Annotated[
    str | None, typer.Option("--analyses", help="Run these analyses only, e.g. `spectrum,pruning`.", show_default=False)
]


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """End with one line where the user can mend what went wrong; a traceback, and where to report it, means a bug."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            err.print("stopped by Ctrl-C", highlight=False)
            raise typer.Exit(128 + signal.SIGINT) from None
        except Exception as error:  # noqa: BLE001 - the only place where a command ends with an error
            if isinstance(error, _to_mend()):
                say_error(_message(error))
                raise typer.Exit(2) from None
            err.print(_traceback(error), highlight=False, soft_wrap=True, markup=False)
            say_error(BUG)
            raise typer.Exit(1) from None

    return wrapped


def say_error(message: str) -> None:
    """Print an error; brackets in it are no markup."""
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)


def _to_mend() -> tuple[type[Exception], ...]:
    """Errors whose message tells the user what to do; imported late, as the command starts faster without them."""
    from specdyn.flows.engine.processes import PartLost
    from specdyn.storage.access.objects import StoreError
    from specdyn.storage.checkpoints import DamagedCheckpoint
    from specdyn.storage.datasets import DamagedData
    from specdyn.tasks.data.prepare import FetchError, NotPrepared

    return ValueError, OSError, PartLost, StoreError, DamagedCheckpoint, DamagedData, FetchError, NotPrepared


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _traceback(error: Exception) -> str:
    """The last calls of a traceback; all of them where SPECDYN_TRACEBACK is set."""
    limit = None if os.environ.get("SPECDYN_TRACEBACK") else -FRAMES
    return "".join(traceback.format_exception(error, limit=limit, chain=limit is None)).rstrip()


def grid_of(
    experiment: str,
    preset: str | None,
    weight_decays: str | None,
    seeds: str | None,
    sweep: str | None,
    analyses: str | None,
    axes: list[str] | None,
    settings: list[str] | None,
) -> dict[str, Any]:
    """The arguments of a sweep from what was typed."""
    from specdyn.models.experiments.base import get_experiment
    from specdyn.models.spec.settings import read_axes, read_settings

    chosen = get_experiment(experiment)
    preset = preset or chosen.usual
    spec = chosen.preset(preset).spec
    return {
        "experiment": experiment,
        "preset": preset,
        "weight_decays": numbers(weight_decays, float, "weight_decays") or [],
        "seeds": numbers(seeds, int, "seeds") or [],
        "sweep": sweep or "",
        "analyses": words(analyses, "analyses") or [],
        "axes": read_axes(spec, axes or []),
        "settings": read_settings(spec, settings or []),
    }


def graph_parameters(
    experiment: str, preset: str | None, seeds: str, settings: list[str] | None, orders: str | None
) -> dict[str, Any]:
    """What the flows of graphs have in common, from what was typed."""
    from specdyn.models.experiments.base import get_experiment
    from specdyn.models.spec.settings import read_settings

    chosen = get_experiment(experiment)
    preset = preset or chosen.usual
    return {
        "experiment": experiment,
        "preset": preset,
        "seeds": numbers(seeds, int, "seeds"),
        "orders": numbers(orders, int, "orders") or [],
        "settings": read_settings(chosen.preset(preset).spec, settings or []),
    }


def numbers(text: str | None, kind: Callable[[str], Any], field: str) -> list[Any] | None:
    """A comma-separated grid as numbers; ValueError names the field and what came."""
    if text is None:
        return None
    items = items_of(field, text)
    try:
        return [kind(item) for item in items]
    except ValueError:
        kinds = "integers" if kind is int else "numbers"
        raise ValueError(f"{field}={text!r} is not allowed: expected {kinds} separated by commas") from None


def words(text: str | None, field: str) -> list[str] | None:
    """A comma-separated list of names; ValueError where one is empty."""
    return None if text is None else items_of(field, text)
