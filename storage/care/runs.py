"""Checks of runs: manifests, checkpoints, training states, masks."""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import newest_place
from specdyn.storage.care.damage import Check, Checked, Look, bad, clean
from specdyn.storage.checkpoints import (
    CheckpointEntry,
    DamagedCheckpoint,
    Manifest,
    NotAsWritten,
    read_manifest,
    sound_bytes,
)
from specdyn.storage.places import Run

TRAINED_AGAIN = "`specdyn repair` marks the run as damaged; the next call trains it again"
MANIFEST_AGAIN = "`specdyn repair` deletes it, so that the version before counts; where none is left the run is resumed"


def runs_with_manifests(look: Look) -> list[Run]:
    """Every run in scope that has a manifest, of whatever version."""
    found = {
        (parts[0], parts[1].removesuffix(".json").removesuffix(".versions"))
        for key in look.below("runs")
        if len(parts := key.split("/")) > 1
    }
    return [look.store.run(*one) for one in sorted(found) if look.has_run(*one)]


def check_manifest(look: Look, run: Run, read: dict[str, Manifest]) -> Checked:
    """Check the newest manifest of a run; a sound one is added to `read`, by its URL."""
    place = newest_place(run.manifest)
    try:
        manifest = read_manifest(run)
    except (DamagedCheckpoint, StoreError) as error:
        return bad(look, "manifest", place, str(error), MANIFEST_AGAIN, run.manifest)
    if manifest is None:
        return Checked(objects=0)
    if (manifest.experiment, manifest.run_id) != (run.experiment, run.run_id):
        what = f"it is of run {manifest.run_id} of {manifest.experiment}"
        return bad(look, "manifest", place, what, MANIFEST_AGAIN, run.manifest)
    read[run.manifest] = manifest
    if manifest.status == "damaged":
        return bad(look, "run", place, manifest.reason, "the next call trains the run again", run.manifest)
    return clean(look, place)


def lost_manifests(look: Look) -> Iterator[Check]:
    """Runs that have results, which only trained runs get, but no manifest."""
    there = {(run.experiment, run.run_id) for run in runs_with_manifests(look)}
    measured = {
        (parts[0], parts[1].partition("-")[0])
        for key in look.below("results/runs")
        if len(parts := key.split("/")) == 3 and "-" in parts[1]
    }
    for experiment, run_id in sorted(measured - there):
        if look.has_run(experiment, run_id):
            url = look.store.run(experiment, run_id).manifest
            what = "is missing, though the run has results"
            yield functools.partial(bad, look, "manifest", url, what, "the next call resumes the run", url)


def checks_of_run(look: Look, run: Run, manifest: Manifest | None) -> Iterator[Check]:
    """Checks of a run's states, and of its checkpoints if it has a manifest."""
    if manifest is not None and manifest.status != "damaged":
        for entry in manifest.checkpoints:
            if entry.step not in manifest.thinned:
                yield functools.partial(_check_checkpoint, look, run, entry)


def check_states(look: Look) -> Iterator[Check]:
    """Check the states of all runs, finished or not, against the content hashes in their names."""
    for key in look.below("checkpoints"):
        experiment, run_id, *inside = key.split("/")
        if inside[:1] == ["state"] and look.has_run(experiment, run_id):
            yield functools.partial(
                _check_state, look, look.store.run(experiment, run_id), look.url(f"checkpoints/{key}")
            )


def _check_checkpoint(look: Look, run: Run, entry: CheckpointEntry) -> Checked:
    url = run.checkpoint(entry.step)
    try:
        sound_bytes(run, entry)
    except NotAsWritten as error:
        return bad(look, "checkpoint", url, str(error), TRAINED_AGAIN, run.manifest)
    return clean(look, url)


def _check_state(look: Look, run: Run, url: str) -> Checked:
    try:
        digest = hashlib.sha256(objects.read(url)).hexdigest()[:32]
    except FileNotFoundError:
        return Checked(objects=0)  # a newer state has replaced it
    if url.endswith(f"-{digest}.safetensors"):
        return clean(look, url)
    kept = url.rsplit("/", 1)[-1].startswith("kept=")
    again = "the base run is trained to that step again when a fork needs it" if kept else "training resumes without it"
    return bad(look, "state", url, f"has sha256 {digest[:12]}…", f"`specdyn repair` deletes it; {again}", run.manifest)


def check_mask(look: Look, url: str, used_by: str) -> Checked:
    """Check a mask against its name, the digest of its layers, shapes and entries."""
    repair = "`specdyn repair` deletes it and the results of its tickets; the next call measures these again"
    try:
        data = objects.read(url)
    except FileNotFoundError:
        return bad(look, "mask", url, "is missing, though a ticket was measured with it", repair, used_by)
    name = url.rsplit("/", 1)[-1].removesuffix(".safetensors")
    try:
        found = _mask_id(data)
    except Exception as error:  # noqa: BLE001 - whatever damaged bytes make a parser raise
        return bad(look, "mask", url, f"{type(error).__name__}: {error}", repair, used_by)
    return clean(look, url) if found == name else bad(look, "mask", url, f"holds mask {found}", repair, used_by)


def _mask_id(data: bytes) -> str:
    """The digest that names a mask, computed from its bytes; ValueError if they are not a mask."""
    from safetensors.numpy import load

    length = int.from_bytes(data[:8], "little")
    metadata: Mapping[str, Mapping[str, list[int]]] = json.loads(
        json.loads(data[8 : 8 + length])["__metadata__"]["specdyn"]
    )
    packed = load(data)
    if set(metadata["order"]) != set(packed) or set(metadata["shapes"]) != set(packed):
        raise ValueError("its layers differ from those that it names")
    digest = hashlib.sha256()
    for name in sorted(packed):
        if packed[name].dtype != "uint8":
            raise ValueError(f"{name} has dtype {packed[name].dtype}, expected uint8")
        digest.update(json.dumps([name, *metadata["shapes"][name]]).encode() + packed[name].tobytes())
    return digest.hexdigest()[:12]
