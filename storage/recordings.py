"""What a training loop of one's own recorded: an immutable object for each step, lines of metrics, what it is.

One process writes, who holds the lease. Every tensor has its digest in the metadata of its file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from specdyn.storage.access import objects
from specdyn.storage.access.codec import decode, encode
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint, pack, tensor_digest, unpack
from specdyn.storage.places import Recording, named

if TYPE_CHECKING:
    from torch import Tensor

Line = Mapping[str, float]
"""The metrics of a step, by name."""
SAFETENSORS, LINES = ".safetensors", ".jsonl"


class AlreadyRecorded(ValueError):
    """A recording has something else at a step than what is to be recorded: says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRecord:
    """What a recording is."""

    name: str
    settings: dict[str, Any]
    """All settings as JSON holds them."""
    keep: str
    """`checkpoints`, or `spectra` where only singular values are kept."""
    layers: str = ""
    """The regular expression that names of layers are searched for, where `spectra` are kept; empty for all."""
    every: int
    at: tuple[int, ...]
    per_decade: int
    tied: dict[str, str] = field(default_factory=dict)
    """Names of tensors that are another one, each with the name of that one, which is kept."""
    versions: dict[str, str] = field(default_factory=dict)
    finished: bool = False


def read_recording(place: Recording) -> RecordingRecord | None:
    """What a recording is; None where there is none. StoreError where it is not as it was written."""
    try:
        return decode(RecordingRecord, place.record, objects.read(place.record))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(f"{place.record} is not as it was written ({error}); record under another name") from None


def write_recording(place: Recording, record: RecordingRecord) -> None:
    """Put what a recording is, and its labels: the settings that are text, numbers or booleans."""
    labels = {name: value for name, value in record.settings.items() if isinstance(value, str | int | float)}
    for url, data in ((place.labels, json.dumps(labels, indent=1).encode()), (place.record, encode(record))):
        if not (objects.exists(url) and objects.read(url) == data):
            objects.write(url, data)


def recorded_steps(folder: str, ending: str = SAFETENSORS) -> list[int]:
    """The steps of the objects in a folder of a recording, ascending; one listing."""
    names = (name for name in objects.names(folder) if name.startswith("step=") and name.endswith(ending))
    return sorted(int(name.removeprefix("step=").removesuffix(ending)) for name in names)


def packed(step: int, tensors: Mapping[str, Tensor]) -> bytes:
    """The object of a step, which says the digest of each tensor."""
    return pack(tensors, {"step": step, "sha256": {name: tensor_digest(tensor) for name, tensor in tensors.items()}})


def read_step(url: str) -> dict[str, Tensor]:
    """The tensors of a step in their order; DamagedCheckpoint unless each is as it was recorded."""
    data = objects.read(url)
    try:
        tensors, metadata = unpack(data)
        digests = metadata["sha256"]
    except Exception as error:  # noqa: BLE001 - whatever damaged bytes make a parser raise
        raise DamagedCheckpoint(f"{url} is not an object of a recording ({type(error).__name__}: {error})") from None
    for name, tensor in tensors.items():
        if tensor_digest(tensor) != digests.get(name):
            raise DamagedCheckpoint(f"{url}: tensor {name!r} is not as it was recorded; its sha256 differs")
    if named(metadata.get("step", -1)) != url.rsplit("/", 1)[-1].removesuffix(SAFETENSORS):
        raise DamagedCheckpoint(f"{url} holds step {metadata.get('step')}")
    return tensors


def read_lines(url: str) -> dict[int, dict[str, float]]:
    """Metrics by step of one object; DamagedCheckpoint where it is no such object."""
    found: dict[int, dict[str, float]] = {}
    try:
        for line in objects.read(url).decode().splitlines():
            plain = json.loads(line)
            found.setdefault(int(plain.pop("step")), {}).update(plain)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{url}: not lines of metrics ({type(error).__name__}: {error})") from None
    return found


def as_lines(metrics: Mapping[int, Line]) -> bytes:
    """Metrics by step as JSON, a line for each step."""
    return "".join(json.dumps({"step": step, **metrics[step]}) + "\n" for step in sorted(metrics)).encode()


class Written:
    """A recording that this process writes, in order of steps."""

    def __init__(self, place: Recording, check: Callable[[], None]) -> None:
        """`check` raises where another process may have taken over."""
        self._place, self._check = place, check
        self._there = {folder: recorded_steps(folder) for folder in (place.folder, place.spectra)}
        self._lines = set(recorded_steps(place.metrics, LINES))

    @property
    def steps(self) -> list[int]:
        """The steps that are there, ascending."""
        return sorted({step for steps in self._there.values() for step in steps})

    def put(self, url: str, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Put the object of a step; nothing where the same is there.

        AlreadyRecorded where another one is, or where later steps are.
        """
        there, data = self.steps, packed(step, tensors)
        if step not in there and there and step < there[-1]:
            raise AlreadyRecorded(
                f"{self._place.folder}: step {step} is not there, but step {there[-1]} is: resume_from={step} removes "
                "what comes after, or choose another name"
            )
        self._check()
        if (step in there or not objects.create(url, data)) and objects.read(url) != data:
            raise AlreadyRecorded(
                f"{url} has other values than those of step {step} now: resume_from={max(0, step - 1)} removes it and "
                "what comes after, or choose another name"
            )
        if step not in there:
            self._there[url.rpartition("/")[0]].append(step)

    def put_lines(self, step: int, metrics: Mapping[int, Line]) -> None:
        """Put lines of metrics up to a step, beside those that are there already for it.

        AlreadyRecorded where a value is there that differs.
        """
        if not metrics:
            return
        url = self._place.lines(step)
        self._check()
        # Not every server refuses to replace an object.
        if step not in self._lines and objects.create(url, as_lines(metrics)):
            self._lines.add(step)
            return
        there = read_lines(url)
        before = {at: dict(line) for at, line in there.items()}
        for at, line in metrics.items():
            for name, value in line.items():
                known = before.setdefault(at, {}).setdefault(name, value)
                if known != value and not math.isnan(known):
                    raise AlreadyRecorded(
                        f"{url} has {name}={known} at step {at}, which is {value} now: resume_from={max(0, at - 1)} "
                        "removes it and what comes after, or choose another name"
                    )
        if as_lines(before) != as_lines(there):
            objects.write(url, as_lines(before))

    def truncate(self, step: int) -> None:
        """Remove all that comes after a step, the last first; of lines that go beyond it the others are kept."""
        self._check()
        for at in _after(step, list(self._lines)):
            url = self._place.lines(at)
            kept = {of: line for of, line in read_lines(url).items() if of <= step}
            self.put_lines(max(kept, default=step), kept)
            objects.delete(url)
            self._lines.discard(at)
        for folder in self._there:
            steps = recorded_steps(folder)
            for at in _after(step, steps):
                objects.delete(f"{folder}/{named(at)}{SAFETENSORS}")
            self._there[folder] = [at for at in steps if at <= step]


def _after(step: int, steps: Sequence[int]) -> list[int]:
    """Those that come after a step, the last first."""
    return sorted((at for at in steps if at > step), reverse=True)
