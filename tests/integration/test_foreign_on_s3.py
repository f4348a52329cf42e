"""Checkpoints of other programs on a real S3 server: which requests it takes to find and to read them."""

import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from helpers.servers import BUCKET, S3Server
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.archives import LOCAL_HEADER
from specdyn.storage.foreign.content import content_digests, refreshed
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.safe import FIRST_READ
from specdyn.storage.places import Store

pytestmark = pytest.mark.integration

SIDE = 200
"""A layer of 160 kB: more than the first read of a file."""


def weights(step: int) -> dict[str, Tensor]:
    return {f"layer{i}.weight": torch.full((SIDE, SIDE), float(10 * step + i)) for i in range(4)}


@pytest.fixture
def series(s3_store: Store) -> str:
    for step in (1, 2):
        objects.write(f"{s3_store}/run/step={step}.safetensors", save(weights(step)))
    return f"{s3_store}/run"


def test_finding_is_one_listing_and_reads_nothing(series: str, s3_server: S3Server) -> None:
    with s3_server.counted() as requests:
        found = find_checkpoints(series)
    assert [(c.step, c.bytes) for c in found.checkpoints] == [(step, len(save(weights(step)))) for step in (1, 2)]
    assert [request.split("?")[0] for request in requests] == [f"GET /{BUCKET}"]


def test_a_layer_is_two_ranged_requests_and_no_bytes_of_others(
    series: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_checkpoints(series)
    sizes: list[int] = []
    real = objects.read_range

    def counted(url: str, start: int, end: int) -> bytes:
        sizes.append(len(data := real(url, start, end)))
        return data

    monkeypatch.setattr(objects, "read_range", counted)
    with s3_server.counted() as requests:
        read = found.checkpoints[1].weights()
        assert read.shapes["layer2.weight"] == (SIDE, SIDE)
        assert torch.equal(read["layer2.weight"], weights(2)["layer2.weight"])
    assert [request.split("/")[-1] for request in requests] == 2 * ["step=2.safetensors"]
    assert {request.split()[0] for request in requests} == {"GET"}
    assert sizes == [FIRST_READ, 4 * SIDE * SIDE]


def test_a_layer_of_a_file_of_torch_is_read_by_ranges_and_nothing_is_put_on_the_disk(
    s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"state_dict": weights(3)}, tmp_path / "x.pt")
    objects.write(f"{s3_store}/step=3.pt", (tmp_path / "x.pt").read_bytes())
    (checkpoint,) = find_checkpoints(s3_store.url).checkpoints
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    sizes: list[int] = []
    real = objects.read_range

    def counted(url: str, start: int, end: int) -> bytes:
        sizes.append(len(data := real(url, start, end)))
        return data

    monkeypatch.setattr(objects, "read_range", counted)
    read = checkpoint.weights()
    assert list(read) == list(weights(3)) and sizes == []
    assert torch.equal(read["layer2.weight"], weights(3)["layer2.weight"])
    assert sizes == [LOCAL_HEADER, 4 * SIDE * SIDE]
    assert all(torch.equal(read[name], w) for name, w in weights(3).items())
    assert list(scratch.iterdir()) == []


def test_the_digest_of_a_checkpoint_changes_with_its_content_and_nothing_is_read_for_it(
    series: str, s3_store: Store, s3_server: S3Server
) -> None:
    found = find_checkpoints(series)
    with s3_server.counted() as requests:
        before = content_digests(found, s3_store)
    assert requests == [] and len(set(before)) == len(before) == len(found.checkpoints)
    assert content_digests(refreshed(found), s3_store) == before
    objects.write(f"{series}/step=2.safetensors", save(weights(3)))
    after = content_digests(refreshed(found), s3_store)
    assert [old == new for old, new in zip(before, after, strict=True)].count(False) == 1


def test_cut_and_empty_files_are_refused(s3_store: Store) -> None:
    objects.write(f"{s3_store}/step=1.safetensors", save(weights(1))[:-10])
    objects.write(f"{s3_store}/step=2.safetensors", b"")
    cut, empty = find_checkpoints(s3_store.url).checkpoints
    assert torch.equal(cut.weights()["layer0.weight"], weights(1)["layer0.weight"])
    with pytest.raises(DamagedCheckpoint, match="expected 160000; the file is cut short"):
        cut.weights()["layer3.weight"]
    with pytest.raises((DamagedCheckpoint, StoreError), match=r"step=2\.safetensors"):
        len(empty.weights())
