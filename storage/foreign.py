"""A series of checkpoints that other programs wrote: which files they are, and of which step."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property

from storage import locations
from storage.foreign_weights import ForeignWeights, PickledWeights, SafeWeights
from storage.listing import Listed, listing
from storage.locations import StoreError

SAFE = (".safetensors",)
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
INDEX = ".safetensors.index.json"

STEP_PATTERNS = (
    r"step[=_-]?(\d+)",
    r"(?:checkpoint|ckpt|iter|iteration|model|weights)[=_-](\d+)",
    r"^(\d+)$",
    r"epoch[=_-]?(\d+)",
)
"""Where a step stands in a name, tried in this order; epochs serve where there is no step."""


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
    """What the store says of the content without reading it: an ETag, or the time of writing."""

    def weights(self) -> ForeignWeights:
        """The tensors by name, each read when it is asked for."""
        if self.urls[0].endswith(SAFE):
            return SafeWeights(self.urls)
        return PickledWeights(self.urls)


@dataclass(frozen=True)
class Found:
    """The checkpoints of a place by ascending step, and the names that were passed over with the reason."""

    url: str
    checkpoints: tuple[ForeignCheckpoint, ...]
    skipped: tuple[tuple[str, str], ...]

    @cached_property
    def series_id(self) -> str:
        """First 12 hexadecimal digits of the sha256 of place, steps, names, sizes and tags; the content is not read."""
        known = [(c.step, c.name, c.bytes, c.tag) for c in self.checkpoints]
        return hashlib.sha256(json.dumps([self.url, known]).encode()).hexdigest()[:12]


def find_checkpoints(url: str, pattern: str | None = None) -> Found:
    """The series in a folder, or the one checkpoint of a file or of a folder with an index of shards.

    `pattern` is a regular expression whose first group, or whose group `step`, is the step. StoreError where nothing
    is found, naming what is there, and where two names have one step.
    """
    url = locations.normalise(url)
    patterns = STEP_PATTERNS if pattern is None else (_checked(pattern),)
    folder, _, own = url.rpartition("/")
    if own.endswith((*SAFE, *PICKLED)):
        names = {name: listed for name, listed in listing(folder).items() if name == own}
        found = [_checkpoint(folder, own, _step(own, patterns) or 0, [names[own]], (own,))] if names else []
        return _series(url, found, [])
    listed = listing(url)
    if (whole := _folder(url, listed)) is not None:
        return _series(url, [_checkpoint(url, own, _step(own, patterns) or 0, *whole)], [])
    found, skipped = [], []
    for name, item in listed.items():
        step = _step(name, patterns)
        if not name.endswith((*SAFE, *PICKLED)) and not item.folder:
            skipped.append((name, "not a file of weights"))
        elif step is None:
            skipped.append((name, "no step in its name"))
        elif not item.folder:
            found.append(_checkpoint(url, name, step, [item], (name,)))
        elif (inside := _folder(f"{url}/{name}", listing(f"{url}/{name}"))) is not None:
            items, files = inside
            found.append(_checkpoint(url, name, step, items, tuple(f"{name}/{file}" for file in files)))
        else:
            skipped.append((name, "a folder without weights"))
    return _series(url, found, skipped)


def _series(url: str, found: list[ForeignCheckpoint], skipped: list[tuple[str, str]]) -> Found:
    if not found:
        seen = "; ".join(f"{name}: {why}" for name, why in skipped[:8]) or "nothing"
        raise StoreError(
            f"{url}: no checkpoints there, found {seen}; "
            f"expected {', '.join((*SAFE, *PICKLED))} with a step in the name "
            "(step=1000, step_1000, checkpoint-1000, 1000.pt, epoch_3), folders of these, or a pattern that finds it"
        )
    by_step: dict[int, list[str]] = {}
    for checkpoint in found:
        by_step.setdefault(checkpoint.step, []).append(checkpoint.name)
    if twice := {step: names for step, names in by_step.items() if len(names) > 1}:
        step, names = next(iter(twice.items()))
        raise StoreError(f"{url}: {' and '.join(names)} both have step {step}: give a pattern that tells them apart")
    return Found(url, tuple(sorted(found, key=lambda checkpoint: checkpoint.step)), tuple(skipped))


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
            if not text.isdigit():
                raise ValueError(f"pattern={pattern!r} finds {text!r} in {name!r}: expected digits")
            return int(text)
    return None


def _folder(url: str, listed: dict[str, Listed]) -> tuple[list[Listed], tuple[str, ...]] | None:
    """The files of a folder that is one checkpoint: shards by their index, or a single file of weights."""
    if indices := [name for name in listed if name.endswith(INDEX)]:
        shards = sorted(set(json.loads(locations.read(f"{url}/{indices[0]}"))["weight_map"].values()))
        if missing := [shard for shard in shards if shard not in listed]:
            raise StoreError(f"{url}: the index {indices[0]} names {missing[0]}, which is not there")
        return [listed[shard] for shard in shards], tuple(shards)
    for suffixes in (SAFE, PICKLED):
        files = [name for name in listed if name.endswith(suffixes)]
        common = [name for name in files if name.startswith(("model.", "pytorch_model.", "diffusion_pytorch_model."))]
        if len(common) == 1:
            return [listed[common[0]]], (common[0],)
    return None
