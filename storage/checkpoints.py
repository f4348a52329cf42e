"""Checkpoints, training states and manifests as immutable files, verified on every read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from specdyn.storage.access import objects
from specdyn.storage.access.codec import decode, encode
from specdyn.storage.access.listing import listing
from specdyn.storage.access.records import (
    Version,
    change_record,
    newest_place,
    read_record,
    read_records,
    versions_below,
)
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Run, Store
from specdyn.storage.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from torch import Tensor

LISTED_ALONE = 16
"""Up to this many runs each is listed separately, as the store may hold many others."""

LENGTH = 8
"""Bytes at the start of a safetensors file that hold the length of its header."""
KEPT = "kept="
"""Prefix of states that newer ones do not replace."""


class NotAsWritten(Exception):
    """Bytes differ from the recorded ones; the message says how."""


class DamagedCheckpoint(Exception):
    """An object is missing, truncated or altered; the message says which run and step, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointEntry:
    """A checkpoint's entry in the manifest."""

    step: int
    bytes: int
    sha256: str
    header_bytes: int
    """Length of the safetensors header, from which a layer's byte range follows without another request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Written last: its existence means that training ended, `status` says how."""

    experiment: str
    run_id: str
    spec: str
    """Canonical JSON of the RunSpec."""
    status: str
    """`complete`, `failed` (the loss diverged) or `damaged` (a checkpoint does not verify)."""
    reason: str = ""
    checkpoints: tuple[CheckpointEntry, ...]
    device: str
    processor: str = ""
    """Model of the CPU or GPU; empty in older manifests, which did not record it."""
    threads: int
    forward: str = "layers"
    """How outputs were computed in training: by the network's own `layers`, or by `tables` (docs/benchmarks.md)."""
    seconds: float
    """Training time, summed over all processes that worked on the run."""
    versions: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    """Ids of the runs that it started from or follows, with the digest of their checkpoints at that time.

    A data set of a plug-in is also here, with its key.
    """
    thinned: tuple[int, ...] = ()
    """Steps whose checkpoints were removed after they were measured."""
    schema_version: int = SCHEMA_VERSION

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the tensors of one checkpoint; the same for all of a run."""
        return self.checkpoints[0].bytes - self.checkpoints[0].header_bytes - LENGTH

    @property
    def digest(self) -> str:
        """A digest of all checkpoints: equal if and only if all their bytes are."""
        return short_digest([(entry.step, entry.sha256) for entry in self.checkpoints])

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints, ascending."""
        return tuple(entry.step for entry in self.checkpoints)


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Tensors as safetensors bytes; `metadata` (JSON) and the order of the names go into the metadata of the file.

    One metadata key only: safetensors writes several in no fixed order, and equal runs must give equal bytes.
    """
    from safetensors.torch import save

    text = json.dumps({"order": list(tensors), **metadata}, sort_keys=True)
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={"specdyn": text})


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors in the order they were packed, and the metadata."""
    from safetensors.torch import load

    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header["__metadata__"]["specdyn"])
    tensors = load(data)
    return {name: tensors[name] for name in metadata.pop("order")}, metadata


def tensor_digest(tensor: Tensor) -> str:
    """The sha256 of a tensor's type, shape and elements."""
    import torch

    told = f"{tensor.dtype} {list(tensor.shape)} ".encode()
    elements = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    digest = hashlib.sha256(told)
    digest.update(elements.data)
    return digest.hexdigest()


def write_checkpoint(run: Run, step: int, weights: Mapping[str, Tensor]) -> CheckpointEntry:
    """Write one checkpoint with one request; returns its manifest entry."""
    data = pack(weights, {"step": step, "run_id": run.run_id})
    objects.write(run.checkpoint(step), data)
    return CheckpointEntry(
        step=step,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        header_bytes=int.from_bytes(data[:8], "little"),
    )


def read_checkpoint(run: Run, entry: CheckpointEntry) -> dict[str, Tensor]:
    """Weights and buffers in registration order; DamagedCheckpoint unless size and sha256 are the recorded ones."""
    try:
        data = sound_bytes(run, entry)
    except NotAsWritten as error:
        what = f"run {run.run_id} step {entry.step}: {run.checkpoint(entry.step)}"
        raise DamagedCheckpoint(f"{what} {error}; the next call of the sweep trains the run again") from None
    return unpack(data)[0]


def sound_bytes(run: Run, entry: CheckpointEntry) -> bytes:
    """The bytes of a checkpoint; NotAsWritten unless size and sha256 are the recorded ones."""
    try:
        data = objects.read(run.checkpoint(entry.step))
    except FileNotFoundError:
        raise NotAsWritten("is missing") from None
    if len(data) != entry.bytes:
        raise NotAsWritten(f"has {len(data)} bytes, expected {entry.bytes}")
    if (digest := hashlib.sha256(data).hexdigest()) != entry.sha256:
        raise NotAsWritten(f"has sha256 {digest[:12]}…, expected {entry.sha256[:12]}…")
    return data


def read_finished(store: Store, manifest: Manifest, step: int) -> dict[str, Tensor]:
    """The checkpoint of a finished run at a step; if it fails verification, the manifest is marked as damaged."""
    entry = next(entry for entry in manifest.checkpoints if entry.step == step)
    try:
        return read_checkpoint(store.run_of(manifest), entry)
    except DamagedCheckpoint as error:
        mark_damaged(store, manifest, str(error))
        raise


def write_state(run: Run, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write the training state of a step, then remove older ones; the name contains the content's hash."""
    data = pack(tensors, metadata)
    folder = run.states
    name = f"step={step:08d}-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
    objects.write(f"{folder}/{name}", data)
    for other in objects.names(folder):
        if other < f"step={step:08d}" and other.startswith("step="):
            objects.delete(f"{folder}/{other}")


def read_state(run: Run) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest intact state, or None; damaged ones are skipped."""
    folder = run.states
    for name in sorted((n for n in objects.names(folder) if n.startswith("step=")), reverse=True):
        try:
            data = objects.read(f"{folder}/{name}")
        except FileNotFoundError:
            continue
        if name.endswith(f"-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"):
            return unpack(data)
    return None


def keep_state(run: Run, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write the training state of a step so that it is kept, for branches that start there."""
    data = pack(tensors, metadata)
    name = f"{KEPT}{step:08d}-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
    objects.write(f"{run.states}/{name}", data)


def kept_states(run: Run) -> dict[int, str]:
    """Steps at which branches can start, with the URL of each state; one listing."""
    folder = run.states
    return {step: f"{folder}/{name}" for step, name in kept_steps(objects.names(folder)).items()}


def kept_steps(names: Iterable[str]) -> dict[int, str]:
    """Steps and names of the kept states among the names of a run's states."""
    return {int(name.removeprefix(KEPT).partition("-")[0]): name for name in sorted(names) if name.startswith(KEPT)}


def read_kept_state(url: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A state that `kept_states` lists; DamagedCheckpoint if it fails verification."""
    data = objects.read(url)
    if not url.endswith(f"-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"):
        raise DamagedCheckpoint(f"{url} is altered; delete it, and have the trunk trained to that step again")
    return unpack(data)


def forget_state(run: Run) -> None:
    """Remove the training state, so that the run is trained from scratch."""
    objects.delete(run.states)


def mark_damaged(store: Store, manifest: Manifest, reason: str) -> None:
    """Mark the manifest as damaged because a checkpoint failed verification; the run is then trained again.

    Does nothing if the run has been trained again meanwhile.
    """
    url = store.run_of(manifest).manifest

    def marked(text: bytes | None) -> bytes | None:
        now = None if text is None else decode(Manifest, url, text)
        return encode(dataclasses.replace(manifest, status="damaged", reason=reason)) if now == manifest else None

    change_record(url, marked)


def mark_thinned(run: Run, steps: Sequence[int]) -> None:
    """Record in a finished run's manifest that its checkpoints at these steps are removed; ValueError for others."""

    def marked(text: bytes | None) -> bytes | None:
        now = None if text is None else decode(Manifest, run.manifest, text)
        if now is None or now.status != "complete" or not set(steps) < set(now.steps):
            raise ValueError(f"{run.manifest}: the run is not trained, or has no checkpoint at some of these steps")
        thinned = tuple(step for step in now.steps if step in {*steps, *now.thinned})
        return None if thinned == now.thinned else encode(dataclasses.replace(now, thinned=thinned))

    change_record(run.manifest, marked)


def checkpoints_written(run: Run) -> int:
    """How many checkpoints a run has so far, finished or not; one listing."""
    found = objects.names(run.folder)
    return sum(name.startswith("step=") for name in found)


def checkpoint_times(run: Run) -> dict[int, float]:
    """When each checkpoint was written (seconds since 1970), by ascending step. One listing."""
    found = {name: item.written for name, item in listing(run.folder).items() if name.startswith("step=")}
    return {int(name.removeprefix("step=").partition(".")[0]): written for name, written in sorted(found.items())}


def tensor_bytes(run: Run) -> int:
    """Bytes of the tensors of one checkpoint of a run, finished or not; 0 if there is none. Reads its first bytes."""
    folder = run.folder
    name, found = next(((n, item) for n, item in listing(folder).items() if n.startswith("step=")), ("", None))
    if found is None:
        return 0
    length = int.from_bytes(objects.read_range(f"{folder}/{name}", 0, LENGTH), "little")
    return max(0, found.bytes - length - LENGTH)


def write_manifest(store: Store, manifest: Manifest) -> None:
    """Write the manifest as the newest version, as the last object of the run's training."""
    change_record(store.run_of(manifest).manifest, lambda _: encode(manifest))


def read_manifest(run: Run, newest: Mapping[str, Version] | None = None) -> Manifest | None:
    """The manifest, or None if training has not ended; StoreError for a newer schema.

    With `newest`, the `versions_below` of the experiment's manifests, no listing is needed.
    """
    return _manifest(run, read_record(run.manifest, newest))


def _manifest(run: Run, text: bytes | None) -> Manifest | None:
    """The manifest in the content of its record."""
    if text is None:
        return None
    try:
        return decode(Manifest, run.manifest, text)
    except ValueError as error:
        place = newest_place(run.manifest)
        raise DamagedCheckpoint(
            f"run {run.run_id}: {place} is not a manifest ({error}); delete it to train on"
        ) from None


def read_manifests(store: Store, experiment: str, run_ids: Sequence[str]) -> list[Manifest | None]:
    """The manifests of runs of an experiment, several read at a time; many runs need only one listing."""
    runs = [store.run(experiment, run_id) for run_id in run_ids]
    if len(runs) > LISTED_ALONE:
        found = dict(listed_manifests(runs, versions_below(store.manifests(experiment))))
        return [found.get(run) for run in runs]
    with ThreadPoolExecutor(LISTED_ALONE) as pool:
        return list(pool.map(read_manifest, runs))


def listed_manifests(runs: Iterable[Run], newest: Mapping[str, Version]) -> Iterator[tuple[Run, Manifest | None]]:
    """The manifests of runs that are in `newest`, many read at a time; they are as those of `read_manifest`."""
    by_url = {run.manifest: run for run in runs}
    for url, text in read_records(list(by_url), newest):
        yield by_url[url], _manifest(by_url[url], text)
