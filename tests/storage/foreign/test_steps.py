"""The order of a series: by the step that the Trainer noted, else by names; what the numbers count is told."""

import json
from pathlib import Path

import pytest
import torch

from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.found import Found, Search
from specdyn.storage.foreign.steps import numbered


def save(path: Path, value: float = 1.0, **more: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {"w": torch.full((2, 2), value)}, **more}, path)


def series(folder: Path, **search: object) -> Found:
    return find_checkpoints(str(folder), search=Search(**search))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("model010000.pt", 10_000),
        ("ckpt5.pt", 5),
        ("checkpoint_2_5000.pt", 5000),
        ("snapshot_00300.pth", 300),
        ("global_step143000", 143_000),
        ("step1000-tokens4B", 1000),
        ("iter_0000500", 500),
        ("checkpoint-10-v2.ckpt", 10),
        ("step-000100.pth.tar", 100),
        ("resnet50.pt", None),
        ("vgg16.pth", None),
        ("llama-7b.pt", None),
        ("v0.25.pt", None),
        ("last.ckpt", None),
    ],
)
def test_a_step_in_a_name(name: str, step: int | None) -> None:
    found = numbered(name)
    assert (found.step if found else None) == step


@pytest.mark.parametrize(
    ("names", "steps", "unit"),
    [
        (("tokens_4B", "tokens_12B"), [4 * 10**9, 12 * 10**9], "tokens"),
        (("ckpt-500Mtokens", "ckpt-2Btokens"), [500 * 10**6, 2 * 10**9], "tokens"),
        (("checkpoint_epoch1.pth.tar", "checkpoint_epoch2.pth.tar"), [1, 2], "epochs"),
        (("ep1_it10.pt", "ep2_it20.pt"), [10, 20], "steps"),
        (("ep0_it0.pt", "ep0_it500.pt", "ep20_it0.pt"), [0, 1, 2], "checkpoints"),
    ],
)
def test_what_the_numbers_count(names: tuple[str, ...], steps: list[int], unit: str, tmp_path: Path) -> None:
    for i, name in enumerate(names):
        save(tmp_path / name if "." in name else tmp_path / name / "model.pt", float(i))
    found = series(tmp_path)
    assert ([c.step for c in found.checkpoints], found.unit) == (steps, unit)
    assert [float(c.weights()["w"][0, 0]) for c in found.checkpoints] == list(map(float, range(len(names))))


def test_units_are_never_mixed(tmp_path: Path) -> None:
    save(tmp_path / "step_10.pt")
    save(tmp_path / "tokens_4B" / "model.pt")
    save(tmp_path / "epoch_3.pt")
    found = series(tmp_path)
    assert ([c.step for c in found.checkpoints], found.unit) == ([10], "steps")
    assert dict(found.skipped) == {
        "tokens_4B": "a number of tokens in its name, not a step",
        "epoch_3.pt": "an epoch in its name, not a step",
    }


def test_epochs_become_steps_where_their_length_is_given(tmp_path: Path) -> None:
    for epoch, iteration in ((0, 0), (0, 500), (20, 0)):
        save(tmp_path / f"model_ep{epoch}_it{iteration}.pth", epoch + iteration)
    save(tmp_path / "mask.pth")
    found = series(tmp_path)
    assert (found.unit, [c.step for c in found.checkpoints]) == ("checkpoints", [0, 1, 2])
    assert found.told == ("numbered in order of epoch, then iteration: pass --steps-per-epoch to get steps",)
    found = series(tmp_path, per_epoch=782)
    assert (found.unit, [c.step for c in found.checkpoints]) == ("steps", [0, 500, 20 * 782])
    own = series(tmp_path, pattern=r"ep(?P<epoch>\d+)_it(?P<iteration>\d+)", per_epoch=1000)
    assert [c.step for c in own.checkpoints] == [0, 500, 20_000]


def test_what_the_trainer_noted_beats_the_name(tmp_path: Path) -> None:
    for name, noted in (("checkpoint-1", 300), ("checkpoint-2", 200), ("checkpoint-3", None), ("epoch_9", 100)):
        save(tmp_path / name / "model.pt")
        if noted is not None:
            (tmp_path / name / "trainer_state.json").write_text(json.dumps({"global_step": noted, "epoch": 1.5}))
    found = series(tmp_path)
    assert [(c.step, c.name) for c in found.checkpoints] == [
        (3, "checkpoint-3"),
        (100, "epoch_9"),
        (200, "checkpoint-2"),
        (300, "checkpoint-1"),
    ]
    assert found.told == (
        "checkpoint-1 (300) and 1 more: the step in trainer_state.json counts, not the one in the name",
    )
    for text in ("{", '{"global_step": "x"}'):
        (tmp_path / "checkpoint-1" / "trainer_state.json").write_text(text)
        assert series(tmp_path).checkpoints[0].name == "checkpoint-1", "the name counts"


def test_the_newest_version_counts_and_last_is_known_as_a_copy(tmp_path: Path) -> None:
    for step in (100, 200):
        save(tmp_path / f"epoch=0-step={step}.ckpt", step, global_step=step)
    save(tmp_path / "epoch=0-step=200-v1.ckpt", 201)
    save(tmp_path / "epoch=0-step=200-v2.ckpt", 202)
    save(tmp_path / "last.ckpt", 200)
    found = series(tmp_path)
    assert [float(c.weights()["w"][0, 0]) for c in found.checkpoints] == [100, 202]
    assert dict(found.skipped) == {
        "epoch=0-step=200.ckpt": "an older version of epoch=0-step=200-v2.ckpt",
        "epoch=0-step=200-v1.ckpt": "an older version of epoch=0-step=200-v2.ckpt",
        "last.ckpt": "a copy of epoch=0-step=200.ckpt",
    }
    save(tmp_path / "last.ckpt", 7)
    assert ("last.ckpt", "no step in its name") in series(tmp_path).skipped
