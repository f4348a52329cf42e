"""Factors kept as objects."""

import os
import pickle
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from specdyn.storage import scratch
from specdyn.storage.access import objects
from specdyn.storage.scratch import ScratchFactors, StoredFactors, share, shared


class Pair(NamedTuple):
    """Two tensors and a number, as factors have."""

    left: Tensor
    right: Tensor
    driver: int


def pair(value: float) -> Pair:
    return Pair(torch.full((2, 3), value), torch.full((3, 3), -value), int(value))


def test_what_is_put_comes_back_by_name(tmp_path: Path) -> None:
    kept = StoredFactors(str(tmp_path), Pair)
    names = ["layers.0.weight", "a/b[key]", "Ünï %2F", "x"]
    for i, name in enumerate(names):
        kept[name] = pair(i)
    assert sorted(kept) == sorted(names)
    assert len(kept) == 4
    for i, name in enumerate(names):
        found = kept[name]
        assert torch.equal(found.left, pair(i).left)
        assert torch.equal(found.right, pair(i).right)
        assert found.driver == i
    with pytest.raises(KeyError, match="other"):
        kept["other"]
    del kept["x"]
    assert "x" not in kept


def test_two_entries_are_held_and_others_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = StoredFactors(str(tmp_path), Pair)
    for i in range(4):
        kept[str(i)] = pair(i)
    read: list[str] = []
    real = objects.read
    monkeypatch.setattr(scratch.objects, "read", lambda url: read.append(url.rsplit("/", 1)[-1]) or real(url))
    for name in ("2", "3", "2", "3", "0", "0", "3", "2"):
        assert kept[name].driver == int(name)
    assert read == ["0.safetensors", "2.safetensors"]


def test_another_process_finds_them_by_the_url(tmp_path: Path) -> None:
    kept = StoredFactors(str(tmp_path), Pair)
    kept["w"] = pair(3)
    data = pickle.dumps(kept)
    assert len(data) < 500
    assert pickle.loads(data)["w"].driver == 3


def test_a_scratch_folder_goes_with_its_mapping() -> None:
    kept = ScratchFactors(Pair)
    kept["w"] = pair(1)
    folder = kept.url
    assert os.listdir(folder) == ["w.safetensors"]
    del kept
    assert not os.path.exists(folder)


def test_shared_factors_come_back_as_they_lay_in_memory(tmp_path: Path) -> None:
    url, columnwise = str(tmp_path / "scratch" / "x.safetensors"), torch.arange(6.0).view(3, 2).mT
    assert shared(url, Pair) is None
    share(url, {"a/b[key]": pair(1.0), "x": Pair(columnwise, torch.ones(3), 7)})
    found = shared(url, Pair)
    assert found is not None and list(found) == ["a/b[key]", "x"]
    assert torch.equal(found["a/b[key]"].right, pair(1.0).right)
    assert torch.equal(found["x"].left, columnwise) and found["x"].left.stride() == columnwise.stride()
    assert (found["x"].driver, found["x"].right.tolist()) == (7, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("place", [0, 40, -1])
def test_shared_factors_that_are_damaged_are_as_good_as_none(place: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    share(str(path), {"x": pair(1.0)})
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    for data in (bytes(damaged), whole[:-4], b""):
        path.write_bytes(data)
        assert shared(str(path), Pair) is None
