"""Reading tensors that other programs wrote, byte by byte as the formats say, and refusing all else."""

import json
import math
import os
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.pickled import PickledWeights
from specdyn.storage.foreign.safe import FIRST_READ, SafeWeights
from specdyn.storage.foreign.weights import same_content
from specdyn.storage.schema import OutOfRange


def by_hand(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def at(path: Path, content: bytes) -> SafeWeights:
    path.write_bytes(content)
    return SafeWeights((str(path),))


@pytest.mark.parametrize(
    ("largest", "told"), [(-4e38, "4e+38"), (1e300, "1e+300"), (1e-39, "1e-39"), (-1e-300, "1e-300")]
)
def test_float64_that_float32_cannot_hold_is_refused_by_name(largest: float, told: str, tmp_path: Path) -> None:
    torch.save({"w": torch.tensor([[0.0, largest]], dtype=torch.float64)}, tmp_path / "a.pt")
    with pytest.raises(
        OutOfRange, match=rf"^tensor 'w' is out of range: its largest entry is {re.escape(told)}, expected"
    ):
        PickledWeights((str(tmp_path / "a.pt"),))["w"]


def test_float64_within_the_range_of_float32_is_rounded(tmp_path: Path) -> None:
    given_ = torch.tensor([[0.1, -3.4e38, 1e-50], [0.0, math.inf, math.nan]], dtype=torch.float64)
    torch.save({"w": given_, "zero": 0 * given_[:, 0], "none": given_[:0]}, tmp_path / "a.pt")
    weights = PickledWeights((str(tmp_path / "a.pt"),))
    expected = given_.numpy().astype(np.float32)
    np.testing.assert_array_equal(weights["w"].numpy(), expected, strict=True)
    assert weights["zero"].tolist() == [0, 0]
    assert weights["none"].shape == (0, 3)


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    halves = np.array([1.5, -2.0], dtype="<f2")
    header = {
        "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "h": {"dtype": "F16", "shape": [2], "data_offsets": [24, 28]},
        "n": {"dtype": "I64", "shape": [], "data_offsets": [28, 36]},
        "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [36, 36]},
        "__metadata__": {"format": "pt"},
    }
    weights = at(tmp_path / "x", by_hand(header, values.tobytes() + halves.tobytes() + struct.pack("<q", 7)))
    assert list(weights) == ["h", "n", "none", "w"]
    assert weights["w"].tolist() == values.tolist()
    assert weights["h"].dtype == torch.float32
    assert weights["h"].tolist() == [1.5, -2.0]
    assert (weights["n"].dtype, int(weights["n"])) == (torch.int64, 7)
    assert weights["none"].shape == (0, 3)
    assert weights.shapes["w"] == (2, 3)
    assert weights.dtypes["h"] == torch.float16
    with pytest.raises(KeyError, match="other"):
        weights["other"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_floating_type_comes_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    w = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_file({"w": w}, tmp_path / "x.safetensors")
    found = SafeWeights((str(tmp_path / "x.safetensors"),))["w"]
    assert found.dtype == torch.float32
    assert torch.equal(found, w.float())


def test_names_are_in_natural_order_unless_one_is_recorded(tmp_path: Path) -> None:
    names = ["h.10.w", "h.2.w", "h.1.b", "emb"]
    save_file({name: torch.ones(1) for name in names}, tmp_path / "x")
    assert list(SafeWeights((str(tmp_path / "x"),))) == ["emb", "h.1.b", "h.2.w", "h.10.w"]
    order = json.dumps({"order": names})
    save_file({name: torch.ones(1) for name in names}, tmp_path / "y", metadata={"specdyn": order})
    assert list(SafeWeights((str(tmp_path / "y"),))) == names


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "header would have 0 bytes"),
        (b"PK\x03\x04 a zip file of some kind", "not a safetensors file"),
        (struct.pack("<Q", 10**12) + b"{}", "header would have 1000000000000 bytes"),
        (by_hand({"w": GOOD}, bytes(8))[:20], "the header has 12 bytes, expected"),
        (by_hand(b"not json at all"), "its header is not JSON"),
        (by_hand(b"[1, 2]"), "its header is not JSON"),
        (by_hand({"w": {**GOOD, "shape": [3]}}, bytes(8)), r"'w' of shape \(3,\) takes 8 bytes, expected 12"),
        (by_hand({"w": {**GOOD, "data_offsets": [-8, 0]}}, bytes(8)), "takes 8 bytes, expected 8|'w'"),
        (by_hand({"w": {**GOOD, "dtype": "F33"}}, bytes(8)), "which is not understood"),
        (by_hand({"w": {"dtype": "F32"}}, bytes(8)), "which is not understood"),
        (by_hand({"w": GOOD, "v": {**GOOD, "data_offsets": [4, 12]}}, bytes(12)), "'w' and 'v' overlap by 4 bytes"),
        (by_hand({"w": GOOD, "__metadata__": {"specdyn": '{"order": ["z"]}'}}, bytes(8)), "expected 1, found 0"),
        (by_hand({"w": GOOD, "__metadata__": {"specdyn": "{"}}, bytes(8)), "does not name the tensors of the header"),
        (by_hand(b"[" * 200_000), "its header is not JSON"),
        (by_hand({"w": GOOD}, bytes(5)), "tensor 'w' has 5 bytes, expected 8; the file is cut short"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(content: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match=why):
        at(tmp_path / "x", content)["w"]


def test_a_tensor_is_read_alone_by_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({f"w{i}": torch.full((100, 100), float(i)) for i in range(5)}, tmp_path / "x")
    reads: list[tuple[int, int]] = []
    real = objects.read_range

    def counted(url: str, start: int, end: int) -> bytes:
        reads.append((start, end))
        return real(url, start, end)

    monkeypatch.setattr(objects, "read_range", counted)
    monkeypatch.setattr(objects, "read", lambda url: pytest.fail("read whole"))
    weights = SafeWeights((str(tmp_path / "x"),))
    assert weights.shapes["w3"] == (100, 100)
    assert reads == [(0, FIRST_READ)]
    assert float(weights["w3"][0, 0]) == 3.0
    assert float(weights["w3"][1, 1]) == 3.0  # held
    assert [end - start for start, end in reads[1:]] == [40_000]


def test_a_long_header_takes_a_second_request(tmp_path: Path) -> None:
    tensors = {f"a-rather-long-name-of-a-tensor-{i:05d}": torch.ones(1) for i in range(2000)}
    save_file(tensors, tmp_path / "x")
    weights = SafeWeights((str(tmp_path / "x"),))
    assert len(weights) == 2000
    assert float(weights["a-rather-long-name-of-a-tensor-01999"]) == 1.0


def pickled(path: Path, content: Any) -> PickledWeights:
    torch.save(content, path)
    return PickledWeights((str(path),))


W = {"b": torch.ones(2, 2), "a": torch.zeros(3, dtype=torch.float16)}


@pytest.mark.parametrize(
    "content",
    [
        W,
        {"state_dict": W, "epoch": 3, "optimizer_states": [{"x": torch.ones(1)}]},
        {"model": W, "step": 5},
        {"model_state_dict": W, "loss": 0.5},
        {"model": {"state_dict": W}},
    ],
)
def test_the_state_dict_is_found(content: dict[str, Any], tmp_path: Path) -> None:
    weights = pickled(tmp_path / "x.pt", content)
    assert list(weights) == ["b", "a"]  # the order of registration
    assert torch.equal(weights["b"], W["b"])
    assert weights["a"].dtype == torch.float32
    assert weights.dtypes["a"] == torch.float16


def test_the_old_format_of_torch_is_read_too(tmp_path: Path) -> None:
    torch.save(W, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(PickledWeights((str(tmp_path / "x.pt"),))["b"], W["b"])


@pytest.mark.parametrize(
    ("content", "seen"),
    [({"epoch": 3, "weights": [1, 2]}, "epoch, weights"), ([1, 2], "list"), (torch.ones(2), "Tensor")],
)
def test_a_file_without_a_state_dict_is_refused_with_its_keys(content: Any, seen: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"no state dict found; .*found {seen}"):
        pickled(tmp_path / "x.pt", content)["w"]


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_holds_a_program_is_read_and_the_program_not_run(zipped: bool, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"w": torch.ones(1), "x": Payload(str(trap))}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    weights = PickledWeights((str(tmp_path / "x.pt"),))
    assert weights["w"].tolist() == [1.0]
    assert weights.passed_over == {"x": "not a tensor: posix.mkdir"}
    (tmp_path / "y.pt").write_bytes(pickle.dumps(Payload(str(trap))))
    with pytest.raises(StoreError, match=r"no state dict found; .*found posix\.mkdir"):
        list(PickledWeights((str(tmp_path / "y.pt"),)))
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_damaged_pickle_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises((DamagedCheckpoint, StoreError), match=r"x\.pt"):
        list(PickledWeights((str(tmp_path / "x.pt"),)))


def test_tensors_that_share_storage_come_as_they_are(tmp_path: Path) -> None:
    tied: Tensor = torch.arange(6.0).view(2, 3)
    weights = pickled(tmp_path / "x.pt", {"a": tied, "b": tied, "t": tied.T})
    assert torch.equal(weights["t"], tied.T)
    assert torch.equal(weights["a"], weights["b"])


def test_content_is_compared_to_the_bit(tmp_path: Path) -> None:
    w = torch.tensor([[1.0, float("nan")], [0.0, -0.0]])
    a = pickled(tmp_path / "a.pt", {"w": w})
    save_file({"w": w}, tmp_path / "b")
    assert same_content(a, SafeWeights((str(tmp_path / "b"),)))
    for i, other in enumerate((w + 1, w.abs(), w.half(), w.view(4))):
        assert not same_content(a, pickled(tmp_path / f"{i}.pt", {"w": other}))
