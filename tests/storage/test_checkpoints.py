"""Checkpoints, states and manifests: what is written is read, and damage is named."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from specdyn.storage import checkpoints
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import CheckpointEntry, DamagedCheckpoint, Manifest, pack, unpack
from specdyn.storage.places import Store
from specdyn.storage.schema import SCHEMA_VERSION

RUN = ("modular_addition", "0123456789ab")


def weights() -> dict[str, Tensor]:
    """Tensors of several kinds whose registration order is not the alphabet's."""
    draw = torch.Generator().manual_seed(0)
    return {
        "unembed.weight": torch.randn(5, 3, generator=draw),
        "block.0.weight": torch.randn(4, 3, generator=draw).to(torch.bfloat16),
        "block.0.running": torch.randn(3, generator=draw, dtype=torch.float64),
        "block.0.batches": torch.tensor(7),
        "a.transposed": torch.randn(2, 6, generator=draw).T,
        "empty": torch.zeros(0, 2),
        "flag": torch.tensor([True, False]),
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def manifest(entries: tuple[CheckpointEntry, ...]) -> Manifest:
    return Manifest(
        experiment=RUN[0],
        run_id=RUN[1],
        spec='{"type":"RunSpec"}',
        status="complete",
        checkpoints=entries,
        device="cpu",
        threads=1,
        seconds=1.5,
        versions={"torch": "2.13.0"},
    )


def test_unpacking_has_names_in_order_kinds_and_body() -> None:
    tensors, body = unpack(pack(weights(), {"step": 3, "nested": [1, {"a": None}]}))
    assert same(tensors, weights())
    assert body == {"step": 3, "nested": [1, {"a": None}]}


def test_other_processes_pack_the_same_bytes() -> None:
    code = (
        "import sys; sys.path[:0] = ['.', 'tests/storage']\n"
        "from test_checkpoints import weights, pack\n"
        "import hashlib; print(hashlib.sha256(pack(weights(), {'step': 1, 'run_id': 'a', 'z': 1})).hexdigest())"
    )
    own = hashlib.sha256(pack(weights(), {"step": 1, "run_id": "a", "z": 1})).hexdigest()
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == own


def test_a_checkpoint_is_read_as_it_was_written(local_store: Store) -> None:
    entry = checkpoints.write_checkpoint(local_store.run(*RUN), 200, weights())
    data = objects.read(local_store.run(*RUN).checkpoint(200))
    assert (entry.step, entry.bytes, entry.sha256) == (200, len(data), hashlib.sha256(data).hexdigest())
    assert "unembed.weight" in json.loads(data[8 : 8 + entry.header_bytes])
    assert same(checkpoints.read_checkpoint(local_store.run(*RUN), entry), weights())


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "truncated": lambda data: data[:-1],
    "empty": lambda _: b"",
    "longer": lambda data: data + b"\0",
    "bit flipped": lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
    "header's bit flipped": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named(local_store: Store, damage: str) -> None:
    entry = checkpoints.write_checkpoint(local_store.run(*RUN), 200, weights())
    url = local_store.run(*RUN).checkpoint(200)
    data = DAMAGES[damage](objects.read(url))
    if data is None:
        objects.delete(url)
    else:
        objects.write(url, data)
    with pytest.raises(DamagedCheckpoint) as caught:
        checkpoints.read_checkpoint(local_store.run(*RUN), entry)
    for part in (RUN[1], "step 200", url, "train"):
        assert part in str(caught.value)


def test_only_checkpoints_are_counted(local_store: Store) -> None:
    assert checkpoints.checkpoints_written(local_store.run(*RUN)) == 0
    entries = tuple(checkpoints.write_checkpoint(local_store.run(*RUN), step, weights()) for step in (0, 100))
    checkpoints.write_state(local_store.run(*RUN), 100, weights(), {})
    checkpoints.write_manifest(local_store, manifest(entries))
    folder = local_store.run(*RUN).folder
    with open(f"{folder}/.abc{objects.PARTIAL}", "wb") as half, open(f"{folder}/step=1{objects.PARTIAL}", "wb"):
        half.write(b"half")
    assert checkpoints.checkpoints_written(local_store.run(*RUN)) == 2


def test_the_newest_state_is_read_and_older_ones_removed(local_store: Store) -> None:
    assert checkpoints.read_state(local_store.run(*RUN)) is None
    for step in (0, 100, 200):
        checkpoints.write_state(local_store.run(*RUN), step, {"m": torch.tensor(step)}, {"step": step})
    found = checkpoints.read_state(local_store.run(*RUN))
    assert found is not None
    tensors, body = found
    assert int(tensors["m"]) == body["step"] == 200
    assert len(objects.names(local_store.run(*RUN).states)) == 1


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d != "missing"])
def test_a_damaged_state_is_passed_over(local_store: Store, damage: str) -> None:
    folder = local_store.run(*RUN).states
    checkpoints.write_state(local_store.run(*RUN), 200, weights(), {"step": 200})
    (newest,) = objects.names(folder)
    data = DAMAGES[damage](objects.read(f"{folder}/{newest}"))
    assert data is not None
    checkpoints.write_state(local_store.run(*RUN), 100, weights(), {"step": 100})
    objects.write(f"{folder}/{newest}", data)
    found = checkpoints.read_state(local_store.run(*RUN))
    assert found is not None
    assert found[1] == {"step": 100}
    objects.delete(f"{folder}/{next(name for name in objects.names(folder) if name != newest)}")
    assert checkpoints.read_state(local_store.run(*RUN)) is None


def test_a_forgotten_state_is_gone(local_store: Store) -> None:
    checkpoints.write_state(local_store.run(*RUN), 100, weights(), {})
    checkpoints.forget_state(local_store.run(*RUN))
    assert checkpoints.read_state(local_store.run(*RUN)) is None


def test_a_manifest_is_read_as_it_was_written(local_store: Store) -> None:
    assert checkpoints.read_manifest(local_store.run(*RUN)) is None
    entries = tuple(CheckpointEntry(step=step, bytes=1, sha256="00", header_bytes=8) for step in (0, 100))
    checkpoints.write_manifest(local_store, manifest(entries))
    found = checkpoints.read_manifest(local_store.run(*RUN))
    assert found == manifest(entries)
    assert found is not None
    assert found.steps == (0, 100)


def test_a_run_is_marked_damaged(local_store: Store) -> None:
    checkpoints.write_manifest(local_store, manifest(()))
    checkpoints.mark_damaged(local_store, manifest(()), "step 100 is short")
    found = checkpoints.read_manifest(local_store.run(*RUN))
    assert found == replace(manifest(()), status="damaged", reason="step 100 is short")


def test_a_newer_manifest_is_refused(local_store: Store) -> None:
    checkpoints.write_manifest(local_store, replace(manifest(()), schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(StoreError, match=f"schema version {SCHEMA_VERSION + 1}.*install a newer specdyn"):
        checkpoints.read_manifest(local_store.run(*RUN))


@pytest.mark.parametrize("text", ["", '{"run_id": "01', "[]", "{}", '{"schema_version": 2, "checkpoints": []}'])
def test_what_is_no_manifest_is_named(local_store: Store, text: str) -> None:
    url = local_store.run(*RUN).manifest
    objects.write(url, text.encode())
    with pytest.raises(DamagedCheckpoint, match=f"run {RUN[1]}: {url} is not a manifest.*delete it"):
        checkpoints.read_manifest(local_store.run(*RUN))
