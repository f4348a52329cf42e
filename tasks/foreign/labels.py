"""Labels of series from other programs: typed settings that group them like the axes of a sweep."""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from specdyn.models.spec.checks import require
from specdyn.models.spec.run_spec import as_text
from specdyn.storage.foreign.beside import LABELS, labels_beside
from specdyn.storage.foreign.found import Found
from specdyn.storage.schema import DIMENSIONS, LIVE
from specdyn.tasks.foreign.findings import some
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis

Label = bool | int | float | str
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SEED = "seed"
OPTION = "--label"
"""Origin of labels given in a call, for messages about conflicts."""
OF_CUBES = (
    *("ticket", "series", "source", "family", "spec", "rows", "columns", "made", "role", "writer", "reader"),
    *("learning_rate_at", "examples_seen", "short_name", "kind", "depth"),
)
"""Reserved names in every cube besides dimensions, variables and the status."""
LARGEST = 2**63
MOST = 6
"""Most labels of one origin that are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of one series."""

    values: Mapping[str, Label] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    """The file or option from which each label comes."""
    told: tuple[str, ...] = ()
    """Notes on conflicts between origins, and on what was left out."""

    @property
    def by_hand(self) -> tuple[str, ...]:
        """The labels given explicitly."""
        return tuple(name for name, origin in self.origins.items() if origin in (OPTION, LABELS))

    @property
    def described(self) -> tuple[str, ...]:
        """Lines for display: one with all labels, others for what was left out."""
        of: dict[str, list[str]] = {}
        for name, value in self.values.items():
            of.setdefault(self.origins[name], []).append(f"{name}={as_text(value)}")
        parts = [f"{some(said, MOST)} ({origin})" for origin, said in of.items()]
        return (*([f"labels: {'; '.join(parts)}"] if parts else []), *self.told)


def read_labels(words: Sequence[str]) -> dict[str, Label]:
    """Parse labels written as `name=value`: true or false, numbers, otherwise words; ValueError for an invalid one."""
    labels: dict[str, Label] = {}
    for word in words:
        name, equals, text = word.partition("=")
        require(bool(equals), "label", word, "NAME=VALUE")
        require(name not in labels, "label", word, f"{name} once")
        labels[name] = _typed(text)
    return labels


def _typed(text: str) -> Label:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def labels_of(found: Found | None, given: Mapping[str, Any]) -> Labels:
    """The labels of a series: those of the call, then those from files next to it (none for models in memory).

    ValueError names an invalid label of the call; invalid labels of files are left out, with a note.
    """
    values: dict[str, Label] = {}
    origins: dict[str, str] = {}
    told: list[str] = []
    for origin, said in {OPTION: given, **(labels_beside(found) if found else {})}.items():
        for name, value in said.items():
            if why := _refusal(name, value):
                if origin == OPTION:
                    raise ValueError(f"label {name}={value!r} is not allowed: expected {why}")
                told.append(f"{name}={value!r} of {origin} is not a label: expected {why}")
            elif name not in values:
                values[name], origins[name] = value, origin
            elif as_text(values[name]) != as_text(value):
                told.append(f"{name}={as_text(values[name])} ({origins[name]}) counts, not {as_text(value)} ({origin})")
    return Labels(values=values, origins=origins, told=tuple(told))


def _refusal(name: str, value: Any) -> str:
    """What was expected of an invalid label; empty if it is valid."""
    if not NAME.fullmatch(name):
        return "a name of letters, digits and _"
    if name in taken_names():
        return f"another name, as {name!r} is a part of the results"
    if not isinstance(value, bool | int | float | str) or value == "":
        return "true, false, a number or a word"
    if isinstance(value, bool | str):
        return {SEED: "a whole number", "weight_decay": "a number"}.get(name, "")
    if not (math.isfinite(value) and abs(value) < LARGEST):
        return "a finite number below 2**63"
    return "a whole number" if name == SEED and value != int(value) else ""


@functools.cache
def taken_names() -> frozenset[str]:
    """Names that have another meaning in a cube."""
    from specdyn.tasks.spectra.facts import FACTS

    analyses = [get_analysis(name) for name in analysis_names()]
    variables = (name for one in analyses for name in (*one.variables, *one.labels))
    return frozenset([*DIMENSIONS, *LIVE, *OF_CUBES, *FACTS, *variables])


def require_alike(labels: Mapping[str, Labels]) -> None:
    """Raise ValueError if series have a label with different types, as an axis has only one type."""
    seen: dict[str, tuple[str, Label]] = {}
    for series, of in labels.items():
        for name, value in of.values.items():
            first, other = seen.setdefault(name, (series, value))
            if _kind(value) != _kind(other):
                raise ValueError(
                    f"label {name} is {_kind(other)}, {as_text(other)}, of {first} and {_kind(value)}, "
                    f"{as_text(value)}, of {series}: expected one kind for all"
                )


def _kind(value: Label) -> str:
    return {bool: "true or false", str: "a word"}.get(type(value), "a number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A series with what distinguishes it from others."""

    labels: Labels
    family: str
    layers: Any
    """What seeds of one setting must share: names and shapes of their layers."""


def not_told_apart(series: Sequence[Labelled]) -> str:
    """Why labels do not distinguish series, so that each is separate; empty if they do.

    Series are seeds of one setting only if all labels but the seed agree, and the family, and every layer.
    """
    if not any(one.labels.values for one in series):
        return "no series has labels"
    groups: dict[str, list[Labelled]] = {}
    for one in series:
        others = sorted((name, as_text(value)) for name, value in one.labels.values.items() if name != SEED)
        groups.setdefault(repr((one.family, others)), []).append(one)
    for group in groups.values():
        seeds = {one.labels.values.get(SEED) for one in group}
        if len(group) > 1 and (None in seeds or len(seeds) < len(group)):
            return f"{len(group)} series have the same labels, and no seed that differs"
        if any(one.layers != group[0].layers for one in group):
            return f"{len(group)} series differ in their seeds, and in their layers"
    return ""
