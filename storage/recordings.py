"""Recordings of users' training loops: one immutable object per step, metrics, and a record.

Only the holder of the lease writes. The metadata of each file hold a digest of every tensor.
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
    """A recording already holds something else at a step; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRecord:
    """The record of a recording."""

    name: str
    settings: dict[str, Any]
    """All settings as JSON holds them."""
    keep: str
    """`checkpoints`, or `spectra` if only singular values are kept."""
    layers: str = ""
    """With `spectra`: a regular expression that selects layers by name; empty for all."""
    every: int
    at: tuple[int, ...]
    per_decade: int
    tied: dict[str, str] = field(default_factory=dict)
    """Names of tensors that alias another one, with the name of that one, which is stored."""
    versions: dict[str, str] = field(default_factory=dict)
    finished: bool = False


def read_recording(place: Recording) -> RecordingRecord | None:
    """The record of a recording; None if there is none. StoreError if it is damaged."""
    try:
        return decode(RecordingRecord, place.record, objects.read(place.record))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(f"{place.record} is not as it was written ({error}); record under another name") from None


def write_recording(place: Recording, record: RecordingRecord) -> None:
    """Write the record of a recording, and its labels: the settings that are text, numbers or booleans."""
    labels = {name: value for name, value in record.settings.items() if isinstance(value, str | int | float)}
    for url, data in ((place.labels, json.dumps(labels, indent=1).encode()), (place.record, encode(record))):
        if not (objects.exists(url) and objects.read(url) == data):
            objects.write(url, data)


def recorded_steps(folder: str, ending: str = SAFETENSORS) -> list[int]:
    """The steps of the objects in a folder of a recording, ascending; one listing."""
    names = (name for name in objects.names(folder) if name.startswith("step=") and name.endswith(ending))
    return sorted(int(name.removeprefix("step=").removesuffix(ending)) for name in names)


def packed(step: int, tensors: Mapping[str, Tensor]) -> bytes:
    """The object of a step, with the digest of each tensor."""
    return pack(tensors, {"step": step, "sha256": {name: tensor_digest(tensor) for name, tensor in tensors.items()}})


def read_step(url: str) -> dict[str, Tensor]:
    """The tensors of a step in order; DamagedCheckpoint unless each matches its digest."""
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
    """The metrics by step of one object; DamagedCheckpoint if it holds something else."""
    found: dict[int, dict[str, float]] = {}
    try:
        for line in objects.read(url).decode().splitlines():
            plain = json.loads(line)
            found.setdefault(int(plain.pop("step")), {}).update(plain)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{url}: not lines of metrics ({type(error).__name__}: {error})") from None
    return found


def as_lines(metrics: Mapping[int, Line]) -> bytes:
    """Metrics as JSON lines, one per step."""
    return "".join(json.dumps({"step": step, **metrics[step]}) + "\n" for step in sorted(metrics)).encode()


class Written:
    """A recording that this process writes in order of steps."""

    def __init__(self, place: Recording, check: Callable[[], None]) -> None:
        """`check` raises if another process may have taken over."""
        self._place, self._check = place, check
        self._there = {folder: recorded_steps(folder) for folder in (place.folder, place.spectra)}
        self._lines = set(recorded_steps(place.metrics, LINES))

    @property
    def steps(self) -> list[int]:
        """The recorded steps, ascending."""
        return sorted({step for steps in self._there.values() for step in steps})

    def put(self, url: str, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the object of a step; does nothing if the same one exists.

        AlreadyRecorded if a different one or later steps exist.
        """
        there, data = self.steps, packed(step, tensors)
        if step not in there and there and step < there[-1]:
            raise AlreadyRecorded(
                f"{self._place.folder}: step {step} is missing, but step {there[-1]} exists: use resume_from={step} "
                "to remove later steps, or choose another name"
            )
        self._check()
        if (step in there or not objects.create(url, data)) and objects.read(url) != data:
            raise AlreadyRecorded(
                f"{url} holds other values than the new ones of step {step}: use resume_from={max(0, step - 1)} to "
                "remove it and later steps, or choose another name"
            )
        if step not in there:
            self._there[url.rpartition("/")[0]].append(step)

    def put_lines(self, step: int, metrics: Mapping[int, Line]) -> None:
        """Write metrics up to a step, merged with existing ones.

        AlreadyRecorded if an existing value differs.
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
                        f"{url} has {name}={known} at step {at}, but the new value is {value}: use "
                        f"resume_from={max(0, at - 1)} to remove it and later steps, or choose another name"
                    )
        if as_lines(before) != as_lines(there):
            objects.write(url, as_lines(before))

    def truncate(self, step: int) -> None:
        """Remove everything after a step, last first; an object of metrics that spans the step is cut there."""
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
    """The steps after a step, last first."""
    return sorted((at for at in steps if at > step), reverse=True)
