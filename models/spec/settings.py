"""Reads and changes the settings of a run by name, whatever part they belong to."""

import ast
import dataclasses
import difflib
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from specdyn.models.spec.checks import items_of, require
from specdyn.models.spec.run_spec import RunSpec, Setting, by_part, places

PARTS = ("net", "data")
NOT_SET_BY_NAME = ("experiment", "source", "start", *PARTS)
KINDS: dict[type, str] = {bool: "true or false", int: "an integer", float: "a number", str: "a word"}
"""Types of settings that can be written as text, and how messages describe them."""
ABBREVIATED = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size"}
"""Common alternative names of some settings."""
UNITS = {
    **dict.fromkeys(("steps", "checkpoint_every", "decay_from", "decay_until", "period"), "steps"),
    **dict.fromkeys(("batch_size", "eval_batch_size", "eval_examples"), "examples"),
    "warmup": "steps or epochs",
    "milestones": "epochs",
    "accumulate": "batches",
}
"""Units of settings that count something; other numbers have unit 1."""
ZERO_FOR_NONE = "; 0 stands for None"
"""How the meaning of a setting ends in a cube, if the setting may be None."""


def settings_of(spec: RunSpec) -> dict[str, Setting]:
    """Name -> location of every setting that can be changed: of the spec, its parts, its net and its data."""
    own = {name: place for name, place in places(type(spec)).items() if name not in NOT_SET_BY_NAME}
    fields = {part: dataclasses.fields(getattr(spec, part)) for part in PARTS}
    return {field.name: Setting(part=part, field=field) for part in PARTS for field in fields[part]} | own


def with_settings(spec: RunSpec, /, **values: Any) -> RunSpec:
    """The spec with some settings changed; ValueError suggests names, or says what a value may be."""
    known = settings_of(spec)
    for name, value in values.items():
        _require_setting(spec, name, known)
        require(known[name].field.type is not str or isinstance(value, str), name, value, "a word")
    parts = by_part(known, {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    own = parts.pop("")
    changed = {part: dataclasses.replace(getattr(spec, part), **fields) for part, fields in parts.items()}
    return dataclasses.replace(spec, **own, **changed)


def _require_setting(spec: RunSpec, name: str, known: Iterable[str]) -> None:
    """Raise ValueError, suggesting similar settings, unless the name is a setting."""
    names = sorted(known)
    if name in names:
        return
    meant = [ABBREVIATED[name]] if name in ABBREVIATED else difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(map(repr, meant))}? " if meant else ""
    every = f"`specdyn settings {spec.experiment}` lists all {len(names)}"
    raise ValueError(f"unknown setting of {spec.experiment} {name!r}: {hint}{every}")


def read_axes(spec: RunSpec, words: Sequence[str]) -> dict[str, list[Any]]:
    """Parse axes written as `name=value,value`, with values of the settings' types.

    Items of a tuple are separated by `/`, as in `milestones=82/123,100`; `none`
    means no value. ValueError names the setting and what was expected.
    """
    known, axes = settings_of(spec), {}
    for word in words:
        name, equals, text = word.partition("=")
        require(bool(equals), "setting", word, "NAME=VALUE")
        _require_setting(spec, name, known)
        require(name not in axes, "setting", word, f"{name} once")
        axes[name] = [read_value(name, known[name].field.type, value) for value in items_of(name, text)]
    return axes


def read_settings(spec: RunSpec, words: Sequence[str]) -> dict[str, Any]:
    """Parse settings written as `name=value`, like axes with one value each."""
    axes = read_axes(spec, words)
    for name, values in axes.items():
        require(len(values) == 1, name, values, "one value; `--axis` takes several")
    return {name: values[0] for name, values in axes.items()}


def read_value(name: str, kind: Any, text: str) -> Any:
    """Parse one value of a setting of that type."""
    if isinstance(kind, types.UnionType):
        if text.lower() == "none":
            return None
        kind = next(option for option in typing.get_args(kind) if option is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        if text.lower() == "none":
            return ()
        require(
            all(item.strip() for item in text.split("/")), name, text, "values separated by '/', none of them empty"
        )
        return tuple(read_value(name, typing.get_args(kind)[0], item) for item in text.split("/"))
    readers: dict[type, Callable[[str], Any]] = {bool: _boolean, int: _integer, float: float, str: str}
    try:
        return readers[kind](text)
    except ValueError:
        raise ValueError(f"{name}={text!r} is not allowed: expected {KINDS[kind]}") from None


def _integer(text: str) -> int:
    """An integer from its text, which may be like `1e4`."""
    value = float(text)
    if not value.is_integer():
        raise ValueError(text)
    return int(text) if text.lstrip("+-").isdigit() else int(value)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def unit_of(name: str, kind: Any) -> str:
    """The unit of a setting of that type: 1 for plain numbers, empty for words and flags."""
    numbers = {int, float} & {kind, *typing.get_args(kind)}
    return UNITS.get(name, "1" if numbers else "")


def described_settings(spec: RunSpec) -> dict[str, dict[str, str]]:
    """The attributes of each setting in a cube: its unit and its meaning; None is stored as 0."""
    said = {}
    for name, setting in settings_of(spec).items():
        kind = setting.field.type
        owner: Any = type(getattr(spec, setting.part)) if setting.part else type(spec)
        meaning = meanings(owner).get(setting.field.name, "").removesuffix(".")
        meaning += ZERO_FOR_NONE if types.NoneType in typing.get_args(kind) else ""
        of = {"units": unit_of(name, kind), "comment": meaning}
        said[name] = {key: text for key, text in of.items() if text}
    return said


@functools.cache
def meanings(owner: type) -> dict[str, str]:
    """The docstrings of a dataclass' fields, by field, read from its source."""
    try:
        source = inspect.getsource(owner)
    except (OSError, TypeError):  # a plug-in whose file is gone, or a generated class
        return {}
    tree = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(tree, ast.ClassDef) and dataclasses.is_dataclass(owner)
    found: dict[str, str] = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        match before, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found
