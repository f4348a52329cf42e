"""A series of checkpoints that other programs wrote: which files they are, and of which step."""

import json
import re
from dataclasses import dataclass
from typing import Literal

from specdyn.storage.access import objects
from specdyn.storage.access.listing import Listed, listing
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.weights import ForeignWeights, PickledWeights, SafeWeights, same_content

SAFE = (".safetensors",)
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
INDEX = ".safetensors.index.json"

WHOLE = r"(\d+)(?![\da-z]|\.\d)"
"""Digits that are the whole number: those of 10k, 7b and 0.25 are not."""
STEP_PATTERNS = (
    rf"(?i)step[=_-]?{WHOLE}",
    rf"(?i)(?:checkpoint|ckpt|iter|iteration|model|weights)[=_-]{WHOLE}",
    r"^(\d+)$",
)
"""Where a step stands in a name, tried in this order."""
EPOCH_PATTERNS = (rf"(?i)epoch[=_-]?{WHOLE}",)
"""Epochs serve where no name has a step."""
Unit = Literal["steps", "epochs"]
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignCheckpoint:
    """One checkpoint: its step, the name it was found by, and the objects it lies in."""

    step: int
    name: str
    urls: tuple[str, ...]
    bytes: int
    written: float
    """When it was written, in seconds since 1970; NaN where the store does not tell."""
    tag: str
    """What a listing says of the content without reading it: of each file an ETag, or its times and its place."""

    def weights(self) -> ForeignWeights:
        """The tensors by name, each read when it is asked for."""
        if self.urls[0].endswith(SAFE):
            return SafeWeights(self.urls)
        return PickledWeights(self.urls)


@dataclass(frozen=True, slots=True)
class Found:
    """The checkpoints of a place by ascending step, and the names that were passed over with the reason."""

    url: str
    checkpoints: tuple[ForeignCheckpoint, ...]
    skipped: tuple[tuple[str, str], ...]
    unit: Unit = "steps"
    """What the numbers in the names count."""
    repeated: tuple[str, ...] = ()
    """The names among them that were passed over as another has the same step and content."""


def find_checkpoints(url: str, pattern: str | None = None) -> Found:
    """The series in a folder, or the one checkpoint of a file, or of a folder of weights where nothing has a step.

    `pattern` is a regular expression whose first group, or whose group `step`, is the step. Where names have epochs
    alone, these are the steps. Of two names with one step and equal content the second is passed over. StoreError
    where nothing is found, naming what is there, and where two names with one step differ in content.
    """
    url = objects.normalise(url)
    attempts: list[tuple[tuple[str, ...], Unit]] = [(STEP_PATTERNS, "steps"), (EPOCH_PATTERNS, "epochs")]
    if pattern is not None:
        attempts = [((_checked(pattern),), "steps")]
    for patterns, unit in attempts:
        series = _find(url, patterns, unit)
        if series.checkpoints:
            return series
    seen = "; ".join(f"{name}: {why}" for name, why in series.skipped[:8]) or "nothing"
    raise StoreError(
        f"{url}: no checkpoints there, found {seen}; "
        f"expected {', '.join((*SAFE, *PICKLED))} with a step in the name "
        "(step=1000, step_1000, checkpoint-1000, 1000.pt, epoch_3), folders of these, or a pattern that finds it"
    )


def _find(url: str, patterns: tuple[str, ...], unit: Unit) -> Found:
    folder, _, own = url.rpartition("/")
    whole_step = _step(own, patterns)
    if own.endswith((*SAFE, *PICKLED)):
        listed = listing(folder)
        checkpoints = [_checkpoint(folder, own, whole_step or 0, [listed[own]], (own,))] if own in listed else []
        return _series(url, checkpoints, [], unit)
    listed = listing(url)
    checkpoints, skipped = [], []
    for name in listed:
        one = _named(url, name, listed[name], patterns)
        if isinstance(one, str):
            skipped.append((name, one))
        else:
            checkpoints.append(one)
    # Trainers put the final weights beside the folders of a series.
    if not checkpoints and (whole := _folder(url, listed)) is not None:
        return _series(url, [_checkpoint(url, own, whole_step or 0, *whole)], [], unit)
    return _series(url, checkpoints, skipped, unit)


def _named(url: str, name: str, item: Listed, patterns: tuple[str, ...]) -> ForeignCheckpoint | str:
    """The checkpoint of a name, or why it is passed over."""
    step = _step(name, patterns)
    if not item.folder and not name.endswith((*SAFE, *PICKLED)):
        return "not a file of weights"
    if not item.folder and SHARD.search(name):
        return "a shard, which is read by its index"
    if step is None:
        other = patterns == STEP_PATTERNS and _step(name, EPOCH_PATTERNS) is not None
        return "an epoch in its name, not a step" if other else "no step in its name"
    if not item.folder:
        return _checkpoint(url, name, step, [item], (name,))
    if (inside := _folder(f"{url}/{name}", listing(f"{url}/{name}"))) is None:
        return "a folder without weights"
    items, files = inside
    return _checkpoint(url, name, step, items, tuple(f"{name}/{file}" for file in files))


def _series(url: str, checkpoints: list[ForeignCheckpoint], skipped: list[tuple[str, str]], unit: Unit) -> Found:
    by_step: dict[int, ForeignCheckpoint] = {}
    repeated: list[tuple[str, str]] = []
    for checkpoint in checkpoints:
        step, first = checkpoint.step, by_step.setdefault(checkpoint.step, checkpoint)
        if first is checkpoint:
            continue
        if not same_content(first.weights(), checkpoint.weights()):
            raise StoreError(
                f"{url}: {first.name} and {checkpoint.name} both have step {step} and differ in content: "
                "give a pattern that tells them apart"
            )
        repeated.append((checkpoint.name, f"the step and the content of {first.name}"))
    ascending = tuple(by_step[step] for step in sorted(by_step))
    return Found(url, ascending, (*skipped, *repeated), unit, tuple(name for name, _ in repeated))


def _checkpoint(url: str, name: str, step: int, items: list[Listed], files: tuple[str, ...]) -> ForeignCheckpoint:
    return ForeignCheckpoint(
        step=step,
        name=name,
        urls=tuple(f"{url}/{file}" for file in files),
        bytes=sum(item.bytes for item in items),
        written=max(item.written for item in items),
        tag=" ".join(item.tag for item in items),
    )


def _checked(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"pattern={pattern!r} is not a regular expression: {error}") from None
    if not groups:
        raise ValueError(f"pattern={pattern!r} has no group: expected one around the step, such as 'run-(\\d+)'")
    return pattern


def _step(name: str, patterns: tuple[str, ...]) -> int | None:
    stem = name
    for suffix in (*SAFE, *PICKLED):
        stem = stem.removesuffix(suffix)
    for pattern in patterns:
        if match := re.search(pattern, stem):
            text = match.groupdict().get("step") or match.group(1)
            if text is None or not text.isdecimal():
                raise ValueError(f"pattern={pattern!r} finds {text!r} in {name!r}: expected digits")
            return int(text)
    return None


def _folder(url: str, listed: dict[str, Listed]) -> tuple[list[Listed], tuple[str, ...]] | None:
    """The files of a folder that is one checkpoint: shards by their index, or a single file of weights."""
    if indices := [name for name in listed if name.endswith(INDEX)]:
        shards = _shards(f"{url}/{indices[0]}")
        if missing := [shard for shard in shards if shard not in listed]:
            raise StoreError(f"{url}: the index {indices[0]} names {missing[0]}, which is not there")
        return [listed[shard] for shard in shards], tuple(shards)
    for suffixes in (SAFE, PICKLED):
        files = [name for name in listed if name.endswith(suffixes)]
        common = [name for name in files if name.startswith(("model.", "pytorch_model.", "diffusion_pytorch_model."))]
        if len(common) == 1:
            return [listed[common[0]]], (common[0],)
    return None


def _shards(index: str) -> list[str]:
    try:
        return sorted(set(json.loads(objects.read(index))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedCheckpoint(f"{index}: not an index of shards: expected JSON with a weight_map") from None
