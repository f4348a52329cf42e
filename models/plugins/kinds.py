"""Looks up declarations by name, in the package (one per module) and in plug-ins."""

import functools
import importlib
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from specdyn.models.modules import module_names
from specdyn.models.plugins.places import CONSTANTS, OFF, PATHS, Plugin, plugins
from specdyn.models.plugins.sources import IMPORTER
from specdyn.models.spec.checks import require_known

T = TypeVar("T")
log = logging.getLogger("specdyn.plugins")


class NotUsable(ValueError):
    """A plug-in does not import, or its declaration is invalid; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[T]):
    """A kind of declaration, such as experiments."""

    group: str
    """One of CONSTANTS."""
    noun: str
    """The noun for one of them in messages."""
    package: str
    """The package whose modules declare the built-in ones, except `base` and subpackages. Empty with `within`."""
    checked: Callable[[object, str, str], T]
    """Checks a plug-in's declaration, given its name and the digest of its source; TypeError or ValueError."""
    within: Callable[[], Mapping[str, T]] | None = None
    """The built-in ones by name, if they are not one per module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A plug-in that cannot be used."""

    name: str
    place: str
    why: str
    """The reason in one line."""


def names(kind: Kind[T]) -> list[str]:
    """Sorted names of all declarations of a kind, without importing them; ValueError if two have the same name."""
    return sorted([*_inside(kind), *_outside(kind)])


def get(kind: Kind[T], name: str) -> T:
    """The declaration of that name; ValueError lists the known ones, or says why a plug-in cannot be used."""
    outside = _outside(kind)
    try:
        require_known(kind.noun, name, [*_inside(kind), *outside])
    except ValueError as error:
        raise ValueError(f"{error}; add your own with --plugins or {PATHS}") from None
    if name not in outside:
        return _of_package(kind, name)
    loaded = _loaded(kind, outside[name])
    if isinstance(loaded, str):
        raise NotUsable(f"{kind.noun} {name!r} of {outside[name].place} cannot be used: {loaded}")
    return loaded


def inside(kind: Kind[T]) -> dict[str, T]:
    """The built-in declarations by name."""
    return {name: _of_package(kind, name) for name in _inside(kind)}


def usable(kind: Kind[T]) -> Mapping[str, T]:
    """All usable declarations of a kind, sorted by name; logs once which plug-ins are not usable."""
    return _usable(kind, tuple(_inside(kind)), plugins())


@functools.lru_cache(maxsize=64)
def _usable(kind: Kind[T], _inside: tuple[str, ...], _every: tuple[Plugin, ...]) -> Mapping[str, T]:
    unusable = broken(kind)
    for one in unusable:
        log.warning("skipping the %s %s of %s: %s", kind.noun, one.name, one.place, one.why)
    without = {one.name for one in unusable}
    return {name: get(kind, name) for name in names(kind) if name not in without}


def broken(kind: Kind[T]) -> list[Broken]:
    """The plug-ins of a kind that cannot be used."""
    found = ((name, plugin, _loaded(kind, plugin)) for name, plugin in sorted(_outside(kind).items()))
    return [Broken(name=name, place=plugin.place, why=why) for name, plugin, why in found if isinstance(why, str)]


def origin(kind: Kind[T], name: str) -> str:
    """Where a plug-in is declared; empty for built-in declarations."""
    plugin = _outside(kind).get(name)
    return plugin.place if plugin else ""


def _of_package(kind: Kind[T], name: str) -> T:
    if kind.within:
        return kind.within()[name]
    found: T = getattr(importlib.import_module(f"{kind.package}.{name}"), CONSTANTS[kind.group])
    return found


def _inside(kind: Kind[T]) -> list[str]:
    return list(kind.within()) if kind.within else module_names(importlib.import_module(kind.package))


def _outside(kind: Kind[T]) -> dict[str, Plugin]:
    return _by_name(kind.group, kind.noun, tuple(_inside(kind)), plugins())


@functools.lru_cache(maxsize=64)
def _by_name(group: str, noun: str, inside: tuple[str, ...], every: tuple[Plugin, ...]) -> dict[str, Plugin]:
    found: dict[str, Plugin] = {}
    for plugin in every:
        if plugin.kind != group:
            continue
        other = "specdyn itself" if plugin.name in inside else found[plugin.name].place if plugin.name in found else ""
        if other:
            raise ValueError(
                f"{noun} {plugin.name!r} is declared twice, by {other} and by {plugin.place}: rename one, or take one "
                f"out of --plugins, {PATHS} or pyproject.toml; {OFF}=1 leaves out every plug-in"
            )
        found[plugin.name] = plugin
    return found


@functools.cache
def _loaded(kind: Kind[T], plugin: Plugin) -> T | str:
    """The declaration of a plug-in, or why it cannot be used."""
    try:
        if not (plugin.name.isascii() and plugin.name.isidentifier()):
            raise ValueError(f"its name is {plugin.name!r}: expected letters, digits and '_', the first no digit")
        code = plugin.code()
        if not plugin.installed:
            IMPORTER.add(code.sources)
        declared: object = importlib.import_module(code.module)
        for part in plugin.attribute.split("."):
            declared = getattr(declared, part)
        return kind.checked(declared, plugin.name, code.digest)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plug-in does, others are not kept from work
        return _why(error, plugin)


def _why(error: BaseException, plugin: Plugin) -> str:
    """An error in one line, with the line number in the plug-in's own file if it has one."""
    text = " ".join(str(error).split())[:300]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == plugin.place]
    where = f" (line {lines[-1]})" if lines else ""
    beside = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if beside and plugin.place.endswith(".py") and beside in _beside(plugin.place):
        text += f"; a file beside it is imported by `from . import {beside}`"
    return f"{type(error).__name__}: {text}{where}"


def _beside(file: str) -> set[str]:
    return {path.stem for path in Path(file).parent.glob("*.py")}


def named(declared: object, name: str, kind: type[T]) -> T:
    """Check that a plug-in's declaration has this class and the name under which it is listed."""
    if not isinstance(declared, kind):
        raise TypeError(f"expected {kind.__name__} of specdyn, got {type(declared).__name__}")
    if (own := getattr(declared, "name", name)) != name:
        raise ValueError(
            f"it declares name={own!r} and is listed as {name!r}: write the name as a text in the declaration, or call "
            "the file, or the entry point, like it"
        )
    return declared
