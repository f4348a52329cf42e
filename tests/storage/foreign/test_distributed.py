"""Folders of torch.distributed.checkpoint, read back as torch's own writer wrote them."""

import dataclasses
import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.distributed import DistributedWeights
from specdyn.storage.foreign.find import find_checkpoints

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
W = {"a": torch.arange(12.0).view(4, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
OPTIMIZER = {"state": {"0": {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}


def save(folder: Path, content: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    dcp.save(content, checkpoint_id=str(folder), no_dist=True)
    return folder


def test_a_series_of_folders_is_read(tmp_path: Path) -> None:
    for step in (10, 20):
        state = {"model": {name: w * step for name, w in W.items()}, "optimizer": OPTIMIZER, "step": step}
        save(tmp_path / f"step-{step}", state)
    found = find_checkpoints(str(tmp_path))
    assert [c.step for c in found.checkpoints] == [10, 20]
    weights = found.checkpoints[1].weights()
    assert dict(weights.shapes) == {"a": (4, 3), "b": (2,)} and weights.dtypes["b"] == torch.bfloat16
    assert torch.equal(weights["a"], 20 * W["a"])
    assert torch.equal(weights.read("b"), 20 * W["b"])
    assert weights.passed_over["optimizer.state.0.exp_avg"] == "of an optimizer" and weights.passed_over["step"]


def test_a_folder_of_accelerate_has_the_weights_beside_the_optimizer(tmp_path: Path) -> None:
    save(tmp_path / "checkpoint-5" / "pytorch_model_fsdp_0", {"model": W})
    save(tmp_path / "checkpoint-5" / "optimizer_0", {"optimizer": OPTIMIZER})
    (found,) = find_checkpoints(str(tmp_path)).checkpoints
    assert torch.equal(found.weights()["a"], W["a"])


def sharded(folder: Path) -> Path:
    """A tensor of four rows in two blocks, as two processes write it."""
    save(folder, {"top": W["a"][:2].clone(), "bottom": W["a"][2:].clone()})
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    places = {index.fqn: info for index, info in metadata.storage_data.items()}
    blocks = {name: torch.Size((2 * i, 0)) for i, name in enumerate(("top", "bottom"))}
    whole = dataclasses.replace(
        metadata.state_dict_metadata["top"],
        size=torch.Size((4, 3)),
        chunks=[ChunkStorageMetadata(offset, torch.Size((2, 3))) for offset in blocks.values()],
    )
    data = {MetadataIndex("a", offset): places[name] for name, offset in blocks.items()}
    metadata = dataclasses.replace(metadata, state_dict_metadata={"a": whole}, storage_data=data)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder


def test_blocks_are_put_together(tmp_path: Path) -> None:
    assert torch.equal(DistributedWeights(str(sharded(tmp_path / "d")))["a"], W["a"])


def test_what_is_missing_or_cut_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "d")
    whole = (folder / "__0_0.distcp").read_bytes()
    (folder / "__0_0.distcp").write_bytes(whole[:-300])
    with pytest.raises(DamagedCheckpoint, match=r"__0_0\.distcp: tensor 'a' has \d+ bytes, expected \d+; .*cut short"):
        DistributedWeights(str(folder))["a"]
    (folder / "__0_0.distcp").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"__0_0\.distcp: the file is missing, expected a block of tensor 'a'"):
        DistributedWeights(str(folder))["a"]
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    metadata.state_dict_metadata["a"].chunks.pop()
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(DamagedCheckpoint, match=r"'a' of shape \(4, 3\) has blocks of 6 elements"):
        DistributedWeights(str(folder))["a"]
    (folder / ".metadata").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DamagedCheckpoint, match=r"not the metadata of torch\.distributed\.checkpoint"):
        list(DistributedWeights(str(folder)))


def test_an_optimizer_alone_is_no_checkpoint(tmp_path: Path) -> None:
    folder = save(tmp_path / "d", {"optimizer": OPTIMIZER})
    with pytest.raises(StoreError, match="none of a network"):
        list(DistributedWeights(str(folder)))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_the_metadata_is_not_run(tmp_path: Path) -> None:
    folder = save(tmp_path / "d", {"model": W})
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    metadata.planner_data = Trap(str(tmp_path / "trap"))
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    assert torch.equal(DistributedWeights(str(folder))["a"], W["a"])
    assert not (tmp_path / "trap").exists()
