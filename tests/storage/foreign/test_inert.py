"""Pickles of other programs: nothing in them is ever called, and the tensors come out as torch itself reads them."""

import argparse
import builtins
import collections
import copyreg
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.archives import read_archive, unpickled
from specdyn.storage.foreign.inert import StandIn
from specdyn.storage.foreign.pickled import PickledWeights
from specdyn.storage.foreign.stored import DENSE_BYTES, Bytes, Strided


def read(path: Path) -> PickledWeights:
    return PickledWeights((str(path),))


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def programs(trap: str) -> dict[str, bytes]:
    """Pickles that make the folder `trap`, each by another opcode, as bytes that leave one object on the stack."""
    mkdir, path = b"cos\nmkdir\n", text(trap)
    calls = b"cbuiltins\neval\n" + text(f"__import__('os').mkdir({trap!r})")
    return {
        "reduce": mkdir + path + b"\x85R",
        "reduce of eval": calls + b"\x85R",
        "stack_global": text("os") + text("mkdir") + b"\x93" + path + b"\x85R",
        "dotted name": text("os") + text("path.os.mkdir") + b"\x93" + path + b"\x85R",
        "newobj": mkdir + path + b"\x85\x81",
        "newobj_ex": mkdir + path + b"\x85}\x92",
        "inst": b"(" + path + b"ios\nmkdir\n",
        "obj": b"(" + mkdir + path + b"o",
        "build": b"cspecdyn_trap\nTrap\n)R" + path + b"b",
        "build slots": mkdir + b"N}" + text("__call__") + mkdir + b"s\x86b" + path + b"\x85R",
        "a rule's function": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + mkdir + b"N" + path + b"\x85NtR",
        "a tensor's storage": b"ctorch._utils\n_rebuild_tensor_v2\n(" + mkdir + path + b"\x85RK\x00))\x89NtR",
        "items": mkdir + b"(" + path + path + b"u" + path + b"\x85R",
        "appends": mkdir + b"(" + path + b"e",
        "within bytes": b"ctorch.storage\n_load_from_bytes\n"
        + _bytes(b"\x80\x02" + mkdir + path + b"\x85R.")
        + b"\x85R",
    }


def _bytes(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


NAMES = sorted(programs(""))
NO_FUNCTION = {"build slots", "items", "appends", "newobj", "newobj_ex"}
"""Those whose opcode takes no function, so that an ordinary unpickler refuses them."""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that no pickle may make."""

    class Trap:
        def __setstate__(self, state: str) -> None:
            os.mkdir(state)

    module = types.ModuleType("specdyn_trap")
    module.Trap = Trap  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "specdyn_trap", module)
    return tmp_path / "trap"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_FUNCTION])
def test_the_programs_of_these_tests_do_run_in_an_ordinary_unpickler(name: str, trap: Path) -> None:
    program = programs(str(trap))[name]
    if name == "within bytes":
        program = programs(str(trap))["reduce"]
    try:
        pickle.loads(b"\x80\x04" + program + b".")
    except Exception:  # noqa: BLE001 - the folder is there by then
        assert trap.exists()
    assert trap.exists()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_pickle_is_called(name: str, trap: Path, tmp_path: Path) -> None:
    program = programs(str(trap))[name]
    tensor = io.BytesIO()
    torch.save({"w": torch.ones(2, 2)}, tensor)
    with zipfile.ZipFile(tensor) as archive:
        records = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for info, data in records.items():
            # The program's value is put under a second key of the same dict.
            whole = data[:-1] + text("x") + program + b"s." if info.filename.endswith("data.pkl") else data
            archive.writestr(info.filename, whole)
    try:
        weights = read(tmp_path / "x.pt")
        assert weights["w"].tolist() == [[1, 1], [1, 1]]
        assert list(weights.passed_over) == ["x"]
    except DamagedCheckpoint:
        assert name in ("appends", "items", "build slots")
    (tmp_path / "y.pt").write_bytes(b"\x80\x04" + program + b".")
    with pytest.raises((StoreError, DamagedCheckpoint)):
        list(read(tmp_path / "y.pt"))
    assert not trap.exists()


def test_extension_codes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    copyreg.add_extension("os", "mkdir", 211)
    try:
        with pytest.raises(DamagedCheckpoint, match="an extension code"):
            unpickled(b"\x80\x02\x82\xd3.", "x.pt")
    finally:
        copyreg.remove_extension("os", "mkdir", 211)


def test_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.pt").write_bytes(b"\x80\x04}" + text("w") + b"cspecdyn_never_there\nName\n)Rs.")
    real = builtins.__import__

    def noted(name: str, *args: Any, **options: Any) -> Any:
        assert "never_there" not in name
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", noted)
    found = read_archive(str(tmp_path / "x.pt"))
    assert isinstance(found["w"], StandIn) and found["w"].name == "specdyn_never_there.Name"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("fleeting", torch.ones(7), persistent=False)


TENSORS: dict[str, Callable[[], Tensor]] = {
    "float8": lambda: torch.arange(6.0).view(2, 3).to(torch.float8_e4m3fn),
    "uint16": lambda: torch.tensor([[1, 2], [3, 4]], dtype=torch.uint16),
    "bfloat16": lambda: torch.arange(6.0).view(2, 3).bfloat16(),
    "complex": lambda: torch.arange(6.0).view(2, 3) * 1j,
    "bool": lambda: torch.tensor([True, False]),
    "scalar": lambda: torch.tensor(3.5),
    "empty": lambda: torch.empty(0, 4),
    "transposed": lambda: torch.arange(6.0).view(2, 3).T,
    "a part": lambda: torch.arange(24.0).view(6, 4)[2:5, 1:3],
    "expanded": lambda: torch.arange(3.0).expand(4, 3),
    "parameter": lambda: nn.Parameter(torch.ones(2, 2)),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_match_what_torch_reads(zipped: bool, protocol: int, tmp_path: Path) -> None:
    content = {name: make() for name, make in TENSORS.items()}
    torch.save(content, tmp_path / "x.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    weights = read(tmp_path / "x.pt")
    assert list(weights) == list(TENSORS)
    for name, tensor in content.items():
        found = weights.read(name)
        assert (
            (found.dtype, found.shape) == (tensor.dtype, tensor.shape) == (weights.dtypes[name], weights.shapes[name])
        )
        assert torch.equal(found.view(torch.uint8) if name == "float8" else found, _plain(name, tensor))


def _plain(name: str, tensor: Tensor) -> Tensor:
    return tensor.detach().view(torch.uint8) if name == "float8" else tensor.detach()


def test_a_plain_pickle_and_numpy_arrays_are_read(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    content = {"w": torch.arange(4.0).view(2, 2), "n": array, "big": np.arange(3, dtype=">i4")}
    for protocol in (2, 5):
        (tmp_path / "x.pt").write_bytes(pickle.dumps(content, protocol))
        weights = read(tmp_path / "x.pt")
        assert weights["w"].tolist() == [[0, 1], [2, 3]]
        assert weights["n"].tolist() == array.tolist()
        assert weights.read("big").tolist() == [0, 1, 2]


def test_numbers_of_numpy_and_containers_are_plain_values(tmp_path: Path) -> None:
    content = {"best": np.float64(0.9), "step": np.int64(7), "names": {"a", "b"}, "flag": np.bool_(True)}
    content |= {"counts": collections.Counter("aab"), "lists": collections.defaultdict(list, {"k": [1]})}
    torch.save({"model": {"w": torch.ones(1)}, **content}, tmp_path / "x.pt")
    found = read_archive(str(tmp_path / "x.pt"))
    assert {name: found[name] for name in content} == content
    assert list(read(tmp_path / "x.pt")) == ["w"]


def test_a_whole_module_is_its_state_dict(tmp_path: Path) -> None:
    net = nn.Sequential(Block(), nn.Linear(4, 2))
    for zipped in (True, False):
        torch.save(net, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        weights = read(tmp_path / "x.pt")
        assert set(weights) == set(net.state_dict())
        assert all(torch.equal(weights.read(name), value) for name, value in net.state_dict().items())
    torch.save({"epoch": 3, "model": net}, tmp_path / "x.pt")
    assert set(read(tmp_path / "x.pt")) == set(net.state_dict())


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_traced_module_is_read_too(tmp_path: Path) -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    net = Doubled()
    traced = torch.jit.trace(net, torch.ones(1, 3))
    torch.jit.save(traced, tmp_path / "x.pt")
    weights = read(tmp_path / "x.pt")
    assert torch.equal(weights["fc.weight"], net.fc.weight.detach())


def test_hyper_parameters_of_any_class_stand_beside_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lightning's files have them; the classes are gone when the file is read."""
    module = types.ModuleType("omegaconf_like")

    class DictConfig(dict[str, Any]):
        pass

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf_like", "DictConfig"
    module.DictConfig = DictConfig  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "omegaconf_like", module)
    config = DictConfig(lr=0.1, inner=DictConfig(depth=2))
    w = torch.arange(4.0).view(2, 2)
    content = {"state_dict": {"w": w}, "hyper_parameters": argparse.Namespace(lr=0.1), "config": config, "epoch": 1}
    torch.save(content, tmp_path / "x.ckpt")
    monkeypatch.delitem(sys.modules, "omegaconf_like")
    assert torch.equal(read(tmp_path / "x.ckpt")["w"], w)


SPARSE: dict[str, Callable[[Tensor], Tensor]] = {
    "coo": lambda w: w.to_sparse(),
    "hybrid": lambda w: w.to_sparse(1),
    "not coalesced": lambda w: torch.sparse_coo_tensor(
        torch.tensor([[0, 0], [1, 1]]), torch.tensor([1.0, 2.0]), w.shape, check_invariants=True
    ),
    "csr": lambda w: w.to_sparse_csr(),
    "csc": lambda w: w.to_sparse_csc(),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_tensors_are_made_dense(name: str, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    sparse = SPARSE[name](torch.randn(5, 4, generator=draw) * (torch.rand(5, 4, generator=draw) > 0.6))
    torch.save({"w": sparse}, tmp_path / "x.pt")
    weights = read(tmp_path / "x.pt")
    assert weights.shapes["w"] == (5, 4)
    assert torch.equal(weights["w"], sparse.to_dense())


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_that_do_not_fit_are_passed_over_with_the_reason(tmp_path: Path) -> None:
    large = torch.sparse_coo_tensor(torch.tensor([[0], [1]]), torch.ones(1), (10**6, 10**6), check_invariants=True)
    blocks = torch.eye(4).to_sparse_bsr((2, 2))
    torch.save({"w": torch.ones(1), "large": large, "blocks": blocks}, tmp_path / "x.pt")
    weights = read(tmp_path / "x.pt")
    assert list(weights) == ["w"] and DENSE_BYTES < 4 * 10**12
    assert weights.passed_over["large"] == "sparse, and 4,000,000,000,000 bytes if made dense"
    assert "_rebuild_sparse_tensor" in weights.passed_over["blocks"]


def at(data: bytes, count: int) -> Bytes:
    return Bytes(lambda start, end: data[start:end], torch.float32, count)


@pytest.mark.parametrize(
    ("offset", "shape", "stride", "why"),
    [
        (0, (3, 3), (3, 1), "elements 0 to 9 of a storage of 4"),
        (-1, (2,), (1,), "elements -1 to 1"),
        (3, (2,), (-1,), "elements 3 to"),
        (0, (2**13, 2**13), (0, 0), "more elements than its storage of 4"),
        (2, (2, 2), (2, 1), "elements 2 to 6 of a storage of 4"),
    ],
)
def test_a_tensor_that_is_not_within_its_storage_is_refused(
    offset: int, shape: tuple[int, ...], stride: tuple[int, ...], why: str
) -> None:
    with pytest.raises(DamagedCheckpoint, match=why):
        Strided(at(bytes(16), 4), torch.float32, offset, shape, stride).read()


def test_a_storage_that_is_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(10, 10)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        for name, data in records.items():
            archive.writestr(name, data[:-4] if name.endswith("data/0") else data)
    with pytest.raises(DamagedCheckpoint, match=r"y\.pt: storage 0 has 396 bytes, expected 400"):
        list(read(tmp_path / "y.pt"))
    with zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    assert torch.equal(read(tmp_path / "z.pt")["w"], torch.ones(10, 10)), "an archive that was packed again"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_was_cut_at_any_place_is_refused_with_the_reason(zipped: bool, tmp_path: Path) -> None:
    torch.save({"w": torch.randn(40, 40)}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "x.pt").read_bytes()
    for length in (*range(0, 200, 7), len(whole) // 2, len(whole) - 1):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpoint, match=r"x\.pt: .*(empty|cut short|truncated|begins with)"):
            read(tmp_path / "x.pt")["w"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"hello", "it begins with b'hello'"),
        (struct.pack("<Q", 2) + b"{}", "a safetensors file: name it .safetensors"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (bytes(257) + b"ustar" + bytes(300), "a tar archive; if torch before 0.1.10 wrote it"),
    ],
)
def test_other_files_are_called_what_they_are(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises((DamagedCheckpoint, StoreError), match=why):
        list(read(tmp_path / "x.pt"))


def test_tied_weights_are_known_by_their_storage(tmp_path: Path) -> None:
    w = torch.arange(6.0).view(2, 3)
    content = {"embed": w, "head": w, "copy": w.clone(), "turned": w.T, "part": w[:1]}
    for zipped in (True, False):
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        assert read(tmp_path / "x.pt").shared == {"head": "embed"}
