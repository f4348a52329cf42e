"""Settings of a run by name: fields of the RunSpec, of its net and of its data."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from specdyn.models.spec.checks import items_of, require, require_known
from specdyn.models.spec.run_spec import RunSpec

PARTS = ("net", "data")
KINDS: dict[type, str] = {bool: "true or false", int: "an integer", float: "a number", str: "a word"}
"""Types of a setting that can be written as text, and what is expected of one."""


def settings_of(spec: RunSpec) -> dict[str, tuple[str, Any]]:
    """Name -> where the setting lies (`net`, `data`, or empty for the spec itself) and its declared type."""
    own = {field.name: ("", field.type) for field in dataclasses.fields(spec)}
    for name in ("experiment", "start", *PARTS):
        own.pop(name)
    parts = {field.name: (part, field.type) for part in PARTS for field in dataclasses.fields(getattr(spec, part))}
    return {**parts, **own}


def with_settings(spec: RunSpec, values: Mapping[str, Any]) -> RunSpec:
    """The spec with some settings changed; ValueError lists the names there are, or what a value may be."""
    known = settings_of(spec)
    changes: dict[str, dict[str, Any]] = {"": {}, "net": {}, "data": {}}
    for name, value in values.items():
        require_known(f"setting of {spec.experiment}", name, known)
        part, kind = known[name]
        require(kind is not str or isinstance(value, str), name, value, "a word")
        changes[part][name] = tuple(value) if isinstance(value, list) else value
    parts = {part: dataclasses.replace(getattr(spec, part), **changes[part]) for part in PARTS if changes[part]}
    return dataclasses.replace(spec, **changes[""], **parts)


def read_axes(spec: RunSpec, words: Sequence[str]) -> dict[str, list[Any]]:
    """Axes written as `name=value,value`, their values of the types that the settings have.

    Values of a setting that is a tuple are its items with `/` between them, as in `milestones=82/123,100`; `none`
    is no value. ValueError names the setting and what was expected.
    """
    known, axes = settings_of(spec), {}
    for word in words:
        name, equals, text = word.partition("=")
        require(bool(equals), "setting", word, "NAME=VALUE")
        require_known(f"setting of {spec.experiment}", name, known)
        require(name not in axes, "setting", word, f"{name} once")
        axes[name] = [read_value(name, known[name][1], value) for value in items_of(name, text)]
    return axes


def read_settings(spec: RunSpec, words: Sequence[str]) -> dict[str, Any]:
    """Settings written as `name=value`, in the form of axes with one value each."""
    axes = read_axes(spec, words)
    for name, values in axes.items():
        require(len(values) == 1, name, values, "one value; `--axis` takes several")
    return {name: values[0] for name, values in axes.items()}


def read_value(name: str, kind: Any, text: str) -> Any:
    """One value of a setting of that type from its text."""
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
    """Also of `1e4`."""
    value = float(text)
    if not value.is_integer():
        raise ValueError(text)
    return int(text) if text.lstrip("+-").isdigit() else int(value)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
