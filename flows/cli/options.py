"""Shared by all subcommands: options, parsing of values, and error handling."""

import functools
import inspect
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.models import OptionInfo

from specdyn.models.spec.checks import items_of

P = ParamSpec("P")
R = TypeVar("R")

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)
FRAMES = 4
"""How many calls of a traceback are shown."""
BUG = (
    "this is a bug in specdyn. Please report the lines above and the command on the project's issue tracker; "
    "SPECDYN_TRACEBACK=1 shows the whole traceback"
)

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="SPECDYN_STORE",
        help="Local folder or `s3://bucket/prefix`; credentials and endpoint come from the AWS environment variables.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log.")]


JsonOption = Annotated[bool, typer.Option("--json", help="Print tables as JSON on standard output, and nothing else.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print the table as CSV on standard output, and nothing else.")]


def starting_with(choices: Callable[[], Sequence[str]]) -> Callable[[str], list[str]]:
    """Shell completion: the choices that start with the given text."""

    def offered(incomplete: str) -> list[str]:
        return [choice for choice in choices() if choice.startswith(incomplete)]

    return offered


def studies(ctx: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: the studies of the store; none if it cannot be read."""
    from specdyn.storage.access.objects import StoreError, normalise
    from specdyn.storage.places import Store
    from specdyn.storage.studies import study_names

    try:
        found = study_names(Store(normalise(ctx.params.get("store") or "results")))
    except (StoreError, OSError, ValueError):
        return []
    return [name for name in dict.fromkeys(name for name, _ in found) if name.startswith(incomplete)]


StudyArgument = Annotated[
    str, typer.Argument(help="Name of a study (see `specdyn list studies`).", autocompletion=studies)
]


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Exit with one line for errors that the user can fix; for bugs, with a traceback and where to report it."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            err.print("stopped by Ctrl-C")
            raise typer.Exit(128 + signal.SIGINT) from None
        except (ValueError, OSError) as error:
            say_error(_as_typed(command, _message(error)) if type(error) is ValueError else _message(error))
            raise typer.Exit(2) from None
        except Exception as error:  # noqa: BLE001 - the only place where a command ends with an error
            if isinstance(error, _to_mend()):
                say_error(_message(error))
                raise typer.Exit(2) from None
            err.print(_traceback(error), markup=False)
            say_error(BUG)
            raise typer.Exit(1) from None

    return wrapped


def _as_typed(command: Callable[..., Any], message: str) -> str:
    """A message that begins with the name of a parameter, with its option instead: `--log 'z' is not ...`."""
    name, equals, rest = message.partition("=")
    flag = f"--{name.replace('_', '-')}"
    for parameter in inspect.signature(command).parameters.values() if equals else ():
        for option in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(option, OptionInfo) and (
                parameter.name == name or flag in (option.default, *(option.param_decls or ()))
            ):
                return f"{flag} {rest}"
    return message


def say_error(message: str) -> None:
    """Print an error; its brackets are not treated as markup."""
    err.print(f"[bold red]error:[/] {escape(message)}")


class Commands(TyperGroup):
    """The commands; a line that cannot be understood gets an error like all others.

    Typer's own frames would load Markdown, code highlighting and more for that line: a quarter of its time.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options before the command."""
        with _usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the command and its options, and call it."""
        with _usage_errors():
            return super().invoke(ctx)


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except TyperException as error:
        if message := error.format_message():  # empty where help was asked for by naming no command
            say_error(message)
            if ctx := getattr(error, "ctx", None):
                err.print(f"Try '{ctx.command_path} -h' for help.", markup=False)
        raise typer.Exit(error.exit_code) from None


def _to_mend() -> tuple[type[Exception], ...]:
    """Further errors whose message says what to do; imported only after an error, as most commands do not need them."""
    from specdyn.flows.engine.processes import PartLost
    from specdyn.storage.access.objects import StoreError
    from specdyn.storage.checkpoints import DamagedCheckpoint
    from specdyn.storage.datasets import DamagedData
    from specdyn.tasks.data.prepare import FetchError, NotPrepared

    return PartLost, StoreError, DamagedCheckpoint, DamagedData, FetchError, NotPrepared


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _traceback(error: Exception) -> str:
    """The last calls of a traceback, or all of them if SPECDYN_TRACEBACK is set."""
    limit = None if os.environ.get("SPECDYN_TRACEBACK") else -FRAMES
    return "".join(traceback.format_exception(error, limit=limit, chain=limit is None)).rstrip()


def numbers(text: str, kind: Callable[[str], Any], field: str) -> list[Any]:
    """Parse a comma-separated list of numbers; ValueError names the field and its text."""
    items = items_of(field, text)
    try:
        return [kind(item) for item in items]
    except ValueError:
        kinds = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{field}={text!r} is not allowed: expected {kinds} separated by commas") from None


def words(text: str, field: str) -> list[str]:
    """Parse a comma-separated list of names; ValueError if one is empty."""
    return items_of(field, text)
