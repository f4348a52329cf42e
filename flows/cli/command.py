"""Builds the command of a flow: its options come from the dataclass of the flow's parameters."""

import builtins
import dataclasses
import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer

from specdyn.flows.cli.options import StoreOption, Verbose, friendly, numbers, starting_with, words
from specdyn.flows.fields import USUAL, named_preset
from specdyn.flows.resources import Resources
from specdyn.flows.shown import Shown

P = TypeVar("P")
ARGUMENTS = ("experiment", "sources")
"""Parameters that are required positional arguments."""


def command(kind: type[P], act: Callable[..., bool]) -> Callable[..., None]:
    """A function for typer that parses the arguments into parameters, and exits with 1 if `act` returns False.

    Its help is the docstring of `act`, which takes the parameters, whether to show Prefect's log, and options of its
    own.
    """
    own = list(inspect.signature(act, eval_str=True).parameters.values())[2:]

    def call(verbose: Verbose = False, **typed: Any) -> None:
        try:
            done = act(read(kind, typed), verbose, **{one.name: typed[one.name] for one in own})
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            raise ValueError(_as_typed(kind, str(error))) from error
        if not done:
            raise typer.Exit(1)

    call.__name__, call.__doc__ = act.__name__, act.__doc__
    return with_options(call, [*options(kind), *own])


def _as_typed(kind: type[Any], message: str) -> str:
    """A message that begins with the name of a parameter, with the command-line option in its place."""
    name, equals, rest = message.partition("=")
    hints = typing.get_type_hints(kind, include_extras=True)
    if not equals or name not in hints or name in ARGUMENTS or typing.get_origin(hints[name]) is typing.ClassVar:
        return message
    shown = _parted(hints[name])[1] if typing.get_origin(hints[name]) is Annotated else None
    flags = shown.flags if shown and shown.flags else (f"--{name.replace('_', '-')}",)
    return f"{flags[0].partition('/')[0]} {rest}"


def with_options(call: Callable[..., None], more: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """The function with options in place of `**typed`, and friendly errors; positional arguments come first."""
    own = [one for one in inspect.signature(call).parameters.values() if one.kind != inspect.Parameter.VAR_KEYWORD]
    taken = sorted(
        (one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *more)),
        key=lambda one: (one.default is not inspect.Parameter.empty, one.name == "verbose"),
    )
    shown = friendly(call)
    shown.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    shown.__annotations__ = {one.name: one.annotation for one in taken}
    return shown


def options(kind: type[Any], only: Sequence[str] = ()) -> list[inspect.Parameter]:
    """The options that a command has for the parameters, or for some of them."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return [
        option
        for field in dataclasses.fields(kind)
        if not only or field.name in only
        for option in _options(field, hints[field.name])
    ]


def _options(field: "dataclasses.Field[Any]", hint: Any) -> Iterator[inspect.Parameter]:
    kind, shown = _parted(hint)
    if kind is Resources:
        yield from options(Resources)
    elif field.name == "store":
        yield _option("store", StoreOption, "results")
    elif field.name in ARGUMENTS:
        offered = starting_with(shown.choices) if shown.choices else None
        typed: Any = Annotated[kind, typer.Argument(help=shown.in_help, autocompletion=offered)]
        yield _option(field.name, typed, inspect.Parameter.empty)
    elif shown.in_command:
        default: Any = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        match typing.get_origin(kind):
            case typing.Literal:
                kind = str
            case builtins.list:
                kind, default = str | None, ",".join(map(str, default)) or None
            case builtins.dict:
                kind, default = list[str] | None, None
        if kind is str and not default:
            kind, default = str | None, None
        again = " May be repeated." if kind == list[str] | None else ""
        offered = starting_with(shown.choices) if shown.choices else None
        flags = typer.Option(
            *shown.flags, help=shown.in_help + again, show_default=default is not None, autocompletion=offered
        )
        yield _option(field.name, Annotated[kind, flags], default)


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parted(hint: Any) -> tuple[Any, Shown]:
    """The type of a parameter without annotations, and how it is shown."""
    kind, *said = typing.get_args(hint)
    return _plain(kind), next(one for one in said if isinstance(one, Shown))


def _plain(kind: Any) -> Any:
    """A type without bounds, also within lists."""
    if typing.get_origin(kind) is Annotated:
        return _plain(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return functools.reduce(operator.or_, map(_plain, typing.get_args(kind)))
    return kind


def read(kind: type[P], typed: Mapping[str, Any]) -> P:
    """Parse typed options into parameters; ValueError names the option, its value and what was expected."""
    hints = typing.get_type_hints(kind)
    given = {name: value for name, value in typed.items() if value is not None and name in hints}
    if "preset" in hints:
        # First of all, since the types of the settings come from the preset.
        from specdyn.models.experiments.base import get_experiment
        from specdyn.models.spec.settings import read_axes, read_settings

        experiment = get_experiment(given["experiment"])
        spec = experiment.preset(named_preset(experiment.name, given.get("preset", USUAL))).spec
    values: dict[str, Any] = {}
    for name, value in given.items():
        match typing.get_origin(hints[name]), typing.get_args(hints[name]):
            case builtins.list, (item,) if name not in ARGUMENTS:
                values[name] = words(value, name) if item is str else numbers(value, item, name)
            case builtins.dict, _ if name == "labels":
                from specdyn.tasks.foreign.labels import read_labels

                values[name] = read_labels(value)
            case builtins.dict, _:
                values[name] = read_axes(spec, value) if name == "axes" else read_settings(spec, value)
            case _:
                values[name] = value
    resources = {field.name for field in dataclasses.fields(Resources)} & typed.keys()
    if resources:
        values["resources"] = Resources(**{name: typed[name] for name in resources})
    return kind(**values)
