"""Finding the checkpoints that other programs wrote, and their steps."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint, write_checkpoint
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.places import Store

W = {"w": torch.eye(2)}


def save(path: Path, value: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"w": torch.full((2, 2), value)}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step=00001000.safetensors", 1000),
        ("step1000.pt", 1000),
        ("model_step_1000.pth", 1000),
        ("checkpoint-1000.bin", 1000),
        ("epoch=3-step=1000.ckpt", 1000),
        ("iter_1000.pt", 1000),
        ("1000.safetensors", 1000),
        ("epoch_12.pt", 12),
        ("weights-7.pt", 7),
    ],
)
def test_the_step_is_read_from_usual_names(name: str, step: int, tmp_path: Path) -> None:
    save(tmp_path / name)
    assert [c.step for c in find_checkpoints(str(tmp_path)).checkpoints] == [step]


def test_a_series_is_sorted_by_step_and_reports_what_it_skipped(tmp_path: Path) -> None:
    for name in ("step=9.safetensors", "step=100.safetensors", "step=20.pt", "last.ckpt", "last-v1.ckpt", "best.pt"):
        save(tmp_path / name, 2.0 if name == "last.ckpt" else 1.0)
    (tmp_path / "log.txt").write_text("hello")
    (tmp_path / "step=5").mkdir()
    found = find_checkpoints(str(tmp_path))
    assert [(c.step, c.name) for c in found.checkpoints] == [
        (9, "step=9.safetensors"),
        (20, "step=20.pt"),
        (100, "step=100.safetensors"),
    ]
    assert dict(found.skipped) == {
        "best.pt": "a copy of step=100.safetensors",
        "last.ckpt": "no step in its name",
        "last-v1.ckpt": "a copy of step=100.safetensors",
        "log.txt": "not a file of weights",
        "step=5": "a folder without weights",
    }


def test_folders_of_hugging_face_are_checkpoints_sharded_or_not(tmp_path: Path) -> None:
    save(tmp_path / "checkpoint-10" / "model.safetensors", 1.0)
    save(tmp_path / "checkpoint-10" / "optimizer.pt")
    save(tmp_path / "checkpoint-20" / "pytorch_model.bin", 2.0)
    sharded = tmp_path / "checkpoint-30"
    sharded.mkdir()
    save_file({"b.10.w": torch.eye(3)}, sharded / "model-00001-of-00002.safetensors")
    save_file({"b.9.w": 2 * torch.eye(3)}, sharded / "model-00002-of-00002.safetensors")
    index = {"b.10.w": "model-00001-of-00002.safetensors", "b.9.w": "model-00002-of-00002.safetensors"}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    ten, twenty, thirty = find_checkpoints(str(tmp_path)).checkpoints
    assert [c.step for c in (ten, twenty, thirty)] == [10, 20, 30]
    assert float(ten.weights()["w"][0, 0]) == 1.0
    assert float(twenty.weights()["w"][0, 0]) == 2.0
    assert list(thirty.weights()) == ["b.9.w", "b.10.w"]
    assert float(thirty.weights()["b.9.w"][0, 0]) == 2.0
    # The folder itself is a checkpoint too, of the step in its own name.
    assert [c.step for c in find_checkpoints(str(sharded)).checkpoints] == [30]
    (sharded / "model-00002-of-00002.safetensors").unlink()
    cut = find_checkpoints(str(tmp_path)).checkpoints[-1]
    with pytest.raises(DamagedCheckpoint, match=r"names model-00002-of-00002\.safetensors, which is missing"):
        cut.weights()


def test_a_single_file_is_a_series_of_one(tmp_path: Path) -> None:
    save(tmp_path / "final.safetensors")
    (found,) = find_checkpoints(str(tmp_path / "final.safetensors")).checkpoints
    assert (found.step, found.name) == (0, "final.safetensors")
    with pytest.raises(StoreError, match="no checkpoints there"):
        find_checkpoints(str(tmp_path / "other.safetensors"))


def test_runs_of_our_own_are_a_series(tmp_path: Path) -> None:
    for step in (0, 100):
        write_checkpoint(Store(str(tmp_path)).run("e", "r"), step, {"z": torch.eye(2), "a": torch.eye(3)})
    found = find_checkpoints(Store(str(tmp_path)).run("e", "r").folder)
    assert [c.step for c in found.checkpoints] == [0, 100]
    assert list(found.checkpoints[0].weights()) == ["z", "a"]


def test_a_pattern_finds_the_step_elsewhere(tmp_path: Path) -> None:
    for name in ("run3-at-10.pt", "run3-at-20.pt", "run4-at-20.pt"):
        save(tmp_path / name)
    found = find_checkpoints(str(tmp_path), r"run3-at-(\d+)")
    assert [c.step for c in found.checkpoints] == [10, 20]
    named = find_checkpoints(str(tmp_path), r"run(\d)-at-(?P<step>1\d)")
    assert [c.step for c in named.checkpoints] == [10]
    for pattern, why in (
        (r"at-\d+", "has no group"),
        ("(", "not a regular expression"),
        (r"(run)", "expected digits"),
        (r"(?P<step>x)?run", "finds None"),
    ):
        with pytest.raises(ValueError, match=why):
            find_checkpoints(str(tmp_path), pattern)


def test_two_names_of_one_step_are_refused_where_they_differ(tmp_path: Path) -> None:
    save(tmp_path / "step=1.pt")
    save(tmp_path / "step_1.safetensors")
    found = find_checkpoints(str(tmp_path))
    assert [c.name for c in found.checkpoints] == ["step=1.pt"]
    assert found.skipped == (("step_1.safetensors", "the step and the content of step=1.pt"),)
    assert found.repeated == ("step_1.safetensors",)
    save(tmp_path / "step_1.safetensors", 2.0)
    with pytest.raises(StoreError, match=r"step=1\.pt and step_1\.safetensors both have step 1 and differ"):
        find_checkpoints(str(tmp_path))
    save_file({"v": torch.ones(2, 2)}, tmp_path / "step_1.safetensors")
    with pytest.raises(StoreError, match="both have step 1 and differ"):
        find_checkpoints(str(tmp_path))


def test_final_weights_beside_the_series_do_not_hide_it(tmp_path: Path) -> None:
    for name in ("checkpoint-10/model.safetensors", "checkpoint-20/model.safetensors", "model.safetensors"):
        save(tmp_path / name)
    found = find_checkpoints(str(tmp_path))
    assert [c.step for c in found.checkpoints] == [10, 20]
    assert found.skipped == (("model.safetensors", "no step in its name"),)


def test_shards_without_their_index_are_no_steps(tmp_path: Path) -> None:
    for i in (1, 2):
        save(tmp_path / f"model-0000{i}-of-00002.safetensors")
    with pytest.raises(StoreError, match=r"model-00001-of-00002\.safetensors: a shard, which is read by its index"):
        find_checkpoints(str(tmp_path))


def test_epochs_serve_only_where_there_is_no_step(tmp_path: Path) -> None:
    save(tmp_path / "epoch=3-val_loss=0.25.ckpt")
    save(tmp_path / "Epoch_4.pt")
    epochs = find_checkpoints(str(tmp_path))
    assert (epochs.unit, [c.step for c in epochs.checkpoints]) == ("epochs", [3, 4])
    save(tmp_path / "step=100.ckpt")
    steps = find_checkpoints(str(tmp_path))
    assert (steps.unit, [c.step for c in steps.checkpoints]) == ("steps", [100])
    assert dict(steps.skipped) == dict.fromkeys(
        ("Epoch_4.pt", "epoch=3-val_loss=0.25.ckpt"), "an epoch in its name, not a step"
    )


@pytest.mark.parametrize("name", ["step10k.pt", "model-7b.pt", "weights_0.25.pt"])
def test_part_of_a_number_is_no_step(name: str, tmp_path: Path) -> None:
    for one in (name, f"other-{name}"):
        save(tmp_path / one)
    with pytest.raises(StoreError, match=f"{name}: no step in its name"):
        find_checkpoints(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_damaged_index_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "step=1").mkdir()
    (tmp_path / "step=1/model.safetensors.index.json").write_text(content)
    (found,) = find_checkpoints(str(tmp_path)).checkpoints
    with pytest.raises(DamagedCheckpoint, match="not an index of shards: expected JSON with a weight_map"):
        found.weights()


def test_an_empty_place_says_what_is_understood(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(StoreError, match=re.escape("found notes.md: not a file of weights; expected .safetensors")):
        find_checkpoints(str(tmp_path))
    with pytest.raises(StoreError, match="found nothing"):
        find_checkpoints(str(tmp_path / "nowhere"))
