"""Turns metrics logged by training programs into variables of a series' cube, one value per checkpoint."""

import bisect
import hashlib
import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from specdyn.models.wording import plural
from specdyn.storage.foreign.logged import Log
from specdyn.storage.results import SUFFIX, write_values
from specdyn.storage.schema import SPLITS, Variable
from specdyn.tasks.foreign.labels import NAME, taken_names

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "eval", "dev")}
"""Names of data splits in logs, before a metric's name or, as a folder, after it."""
ALWAYS_SPLIT = frozenset({"loss"})
"""Metrics that have a value per split in every cube; without a prefix they refer to the training set."""
RATE = "learning_rate"
RENAMED = {RATE: f"{RATE}_at"}
"""Names, as in cubes of our own runs, of quantities that change during a run; the plain name is a setting."""
ABOUT = (
    "as the training program logged it at the checkpoint, or last before it and after the checkpoint before; NaN where "
    "nothing was logged there"
)


MOST_FILES = 3
"""That are named of one series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """Metrics of a series at its checkpoints."""

    files: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By name in the file, a value for each step; NaN if there is none."""
    told: tuple[str, ...] = ()

    @property
    def where(self) -> tuple[str, ...]:
        """Its files for people: a recording has one for each step."""
        more = len(self.files) - MOST_FILES
        return (*self.files[:MOST_FILES], *([f"and {more} more"] if more > 0 else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The same as variables of a cube."""

    steps: tuple[int, ...] = ()
    variables: Mapping[str, Variable] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    """Values, with the shapes declared by the variables."""
    told: tuple[str, ...] = ()

    def of(self, steps: Sequence[int]) -> "Metrics":
        """The metrics of some of the steps."""
        places = [self.steps.index(step) for step in steps] if self.variables else []
        values = {name: array[..., places] for name, array in self.values.items()}
        return replace(self, steps=tuple(steps), values=values)

    @property
    def part(self) -> str:
        """The name of the object that holds them, a digest of its content; empty if there are none."""
        if not self.variables:
            return ""
        digest = hashlib.sha256(repr(self.steps).encode())
        for name, array in sorted(self.values.items()):
            digest.update(f"{name} {self.variables[name].dims}".encode() + array.tobytes())
        return f"metrics-{digest.hexdigest()[:12]}{SUFFIX}"

    def write(self, folder: str, metadata: Mapping[str, object]) -> bool:
        """Write them as one object among the results of their series; False if it existed already."""
        labels = {"step": list(self.steps), "split": list(SPLITS)}
        decides = {**metadata, "steps": list(self.steps), "labels": labels, "of_run": sorted(self.values)}
        return write_values(f"{folder}/{self.part}", self.values, decides)


def logged_at(log: Log, steps: Sequence[int], unit: str) -> Logged:
    """A value of each metric for each checkpoint: the one at its step, else the last since the previous checkpoint.

    For the first checkpoint, looks as far back as the second is ahead. Notes count values that are missing or not from
    the step itself.
    """
    gap = steps[1] - steps[0] if len(steps) > 1 else math.inf
    spans = list(zip([steps[0] - gap, *steps[:-1]], steps, strict=True))
    values: dict[str, tuple[float, ...]] = {}
    alike: dict[str, list[str]] = {}
    for name, noted in log.values.items():
        places = list(noted)
        found = [_last_in(places, *span) for span in spans]
        values[name] = tuple(math.nan if at is None else noted[at] for at in found)
        early = [step - at for step, at in zip(steps, found, strict=True) if at is not None and at != step]
        alike.setdefault(_said(len(steps), found.count(None), early, unit), []).append(name)
    said = [f"{', '.join(names)}: {what}" for what, names in alike.items()]
    return Logged(files=log.files, steps=tuple(steps), values=values, told=(*log.told, *said))


def _last_in(places: Sequence[float], after: float, until: float) -> float | None:
    """The last of ascending places in (after, until]."""
    i = bisect.bisect_right(places, until)
    return places[i - 1] if i and places[i - 1] > after else None


def _said(steps: int, missing: int, early: Sequence[float], unit: str) -> str:
    parts = [f"at {steps - missing} of {plural(steps, 'checkpoint')}"]
    if early:
        furthest = "1 " + unit[:-1] if max(early) == 1 else f"{max(early):g} {unit}"
        parts.append(f"{len(early)} of these logged up to {furthest} before")
    return ", ".join(parts)


def split_of(name: str) -> tuple[str, str]:
    """A metric's name without its split, and the split; empty if the name has none."""
    for split, spellings in SPLIT_NAMES.items():
        either = "|".join(spellings)
        if match := re.fullmatch(rf"(?i)(?:{either})[/_.-](.+)|(.+)/(?:{either})", name):
            return match[1] or match[2], split
    return name, ""


def metrics_of(series: Sequence[Logged], labels: Collection[str]) -> list[Metrics]:
    """The variables of several series in one cube, with consistent declarations.

    A metric that any of the series has with a split has one in all, plain names meaning the training set. Names taken
    by labels or results are left out, with a note.
    """
    names = dict.fromkeys(name for one in series for name in one.values)
    split = {_plain(base) for base, part in map(split_of, names) if part} | ALWAYS_SPLIT
    return [_variables(one, split, frozenset(labels)) for one in series]


def _plain(base: str) -> str:
    """A valid name for an array."""
    name = re.sub(r"\W+", "_", base).strip("_")
    return RENAMED.get(name, name)


def _variables(logged: Logged, split: Collection[str], labels: Collection[str]) -> Metrics:
    variables: dict[str, Variable] = {}
    values: dict[str, np.ndarray] = {}
    origin: dict[tuple[str, str], str] = {}
    told: list[str] = []
    # Names with an explicit split come first, sorted.
    for raw in sorted(logged.values, key=_rank):
        base, part = split_of(raw)
        name = _plain(base)
        part = part or (SPLITS[0] if name in split else "")
        taken = name in labels or name.startswith("final_") or (name in taken_names() - set(RENAMED.values()))
        if taken or not NAME.fullmatch(name):
            told.append(f"{raw} is left out, as {name!r} is {'another part of the results' if taken else 'no name'}")
        elif (other := origin.setdefault((name, part), raw)) != raw:
            told.append(f"{raw} is left out, as {other} is the same metric")
        else:
            if name not in variables:
                dims = ("split", "step") if part else ("step",)
                long_name = name.removesuffix("_at").replace("_", " ")
                variables[name] = Variable(dims=dims, long_name=long_name, dtype="float64", about=ABOUT)
                shape = (len(SPLITS), len(logged.steps)) if part else (len(logged.steps),)
                values[name] = np.full(shape, np.nan)
            values[name][SPLITS.index(part) if part else ...] = logged.values[raw]
    return Metrics(steps=logged.steps, variables=variables, values=values, told=tuple(told))


def _rank(name: str) -> tuple[bool, int, str]:
    spellings = list(itertools.chain.from_iterable(SPLIT_NAMES.values()))
    said = next((i for i, spelling in enumerate(spellings) if re.search(rf"(?i)\b{spelling}(\b|_)", name)), 0)
    return not split_of(name)[1], said, name
