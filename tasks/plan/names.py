"""Names of results: validates user-supplied ones, and derives automatic ones from settings."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from specdyn.models.experiments.base import Preset
from specdyn.models.spec.checks import require
from specdyn.models.spec.run_spec import RunSpec, as_text
from specdyn.models.spec.settings import settings_of

LONGEST = 81
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._=-]{{0,{LONGEST - 1}}}")
WORD = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")
DIGITS = 8
"""Digits of the hash that replaces the rest of a long name."""


def require_name(field: str, name: str) -> None:
    """ValueError unless the name is valid as a folder and as a part of a URL."""
    allowed = f"letters, digits, '.', '_', '=' and '-', at most {LONGEST} of them, a letter or digit first"
    require(bool(NAME.fullmatch(name)), field, name, allowed)


def automatic_name(
    key: str, preset: Preset, spec: RunSpec, settings: Iterable[str] = (), axes: Iterable[str] = ()
) -> str:
    """The name of a grid of runs, one of which is `spec`: experiment, preset, axes, and settings with their values.

    Different settings have different names. The values of an axis are not included, since later calls may add some, as
    for weight decays and seeds. A setting equal to the preset's is left out.
    """
    known, grid = settings_of(spec), {"weight_decay", "seed", *preset.axes}
    changed = []
    for name in sorted(settings):
        before, after = known[name].of(preset.spec), known[name].of(spec)
        if name in grid or before != after:
            changed.append(f"{name}={word(after)}")
    return bounded("-".join([spec.experiment, key, *sorted(axes), *changed]))


def name_of_series(urls: Sequence[str], options: Mapping[str, Any]) -> str:
    """The name of series of checkpoints: the last part of the first URL, non-default options, a hash of all URLs."""
    last = re.sub(r"[^A-Za-z0-9._-]+", "-", urls[0].rsplit("/", 1)[-1]).strip("-._") or "series"
    given = [f"{name}={word(value)}" for name, value in sorted(options.items())]
    return bounded("-".join([last, *given, _hashed(sorted(set(urls)))]))


def word(value: Any) -> str:
    """A value as a part of a name; equal exactly for equal values."""
    if isinstance(value, tuple | list):
        return "_".join(map(word, value)) if all(isinstance(item, int) for item in value) and value else _hashed(value)
    text = as_text(value).replace("e+", "e")
    return text if WORD.fullmatch(text) else f"{_slug(text)}{_hashed(value)}"


def bounded(name: str) -> str:
    """The name, with its end replaced by a hash of the whole if it is too long."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - DIGITS - 1].rstrip('-.=')}-{_hashed(name)}"


def _slug(text: str) -> str:
    kept = re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_.")[:24]
    return f"{kept}_" if kept else ""


def _hashed(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:DIGITS]
