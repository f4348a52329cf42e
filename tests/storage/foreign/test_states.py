"""Which of the things that a file holds are taken for the weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from specdyn.storage.access.objects import StoreError
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.found import Search
from specdyn.storage.foreign.pickled import PickledWeights
from specdyn.storage.foreign.weights import Choice

W = {"a": torch.ones(2, 2), "b": torch.zeros(3)}
V = {"a": torch.full((2, 2), 2.0), "b": torch.zeros(3)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(2, 2)}}, "param_groups": [{"lr": 0.1}]}


def read(path: Path, content: Any, **choice: str) -> PickledWeights:
    torch.save(content, path / "x.pt")
    return PickledWeights((str(path / "x.pt"),), Choice(**choice))


@pytest.mark.parametrize(
    "content",
    [
        {"model_state": W, "optimizer_state": {}, "epoch": 3},
        {"model_state": W, "optimizer": OPTIMIZER},
        {"net_g": W, "optim_g": {"m": torch.ones(2, 2)}},
        {"checkpoint": {"weights": W}},
        {**W, "step": 3, "0._extra_state": None},
        {**W, "nested": {"loss": [1, 2]}},
        {"weights": W, "rng_state": torch.ones(8, dtype=torch.uint8), "losses": torch.ones(3)},
        {"model": W, "model_ema": V},
        {"model_ema": V, "state_dict": W},
        {"ema": V, "raw": W},
        {"state_dict": W, "callbacks": {"EMA": {"ema_weights": V}}},
    ],
)
def test_the_weights_are_found_among_other_things(content: Any, tmp_path: Path) -> None:
    weights = read(tmp_path, content)
    assert list(weights) == ["a", "b"]
    assert torch.equal(weights["a"], W["a"])


def test_dicts_within_dicts_are_joined(tmp_path: Path) -> None:
    nested = {"model": {"language_model": {"embedding": {"weight": W["a"]}, "encoder": {"layer": V}}}, "args": None}
    assert list(read(tmp_path, nested)) == [
        "language_model.embedding.weight",
        "language_model.encoder.layer.a",
        "language_model.encoder.layer.b",
    ]


def test_what_is_no_tensor_is_passed_over_and_listed(tmp_path: Path) -> None:
    weights = read(tmp_path, {**W, "step": 3, "0._extra_state": None, "history": [1.5]})
    assert weights.passed_over == {
        "step": "not a tensor: int",
        "0._extra_state": "not a tensor: None",
        "history": "not a tensor: list",
    }


def test_two_sets_are_reported_and_chosen(tmp_path: Path) -> None:
    content = {"model": W, "model_ema": V, "optimizer": OPTIMIZER}
    weights = read(tmp_path, content)
    assert weights.sets == {"model": True, "model_ema": False}
    assert float(weights["a"][0, 0]) == 1
    for choice in ({"weights": "ema"}, {"weights": "model_ema"}, {"key": "model_ema"}):
        assert float(read(tmp_path, content, **choice)["a"][0, 0]) == 2
    assert float(read(tmp_path, content, weights="raw")["a"][0, 0]) == 1
    with pytest.raises(StoreError, match="no state dict under key='ema'; state dicts in this file: model, model_ema"):
        list(read(tmp_path, content, key="ema"))


def test_running_means_alone_are_read(tmp_path: Path) -> None:
    assert float(read(tmp_path, {"ema_state": V, "epoch": 2})["a"][0, 0]) == 2


def test_several_equally_good_ones_are_not_chosen_among(tmp_path: Path) -> None:
    content = {"generator": W, "discriminator": V}
    with pytest.raises(StoreError, match=r"several candidate state dicts; .*: generator, discriminator: choose"):
        list(read(tmp_path, content))
    assert float(read(tmp_path, content, key="discriminator")["a"][0, 0]) == 2
    with pytest.raises(StoreError, match="weights='or' matches generator, discriminator: choose one with `--key`"):
        list(read(tmp_path, content, weights="or"))


@pytest.mark.parametrize(
    ("content", "steps", "unit"),
    [
        ({"state_dicts": [W, V, W], "losses": [3.0, 2.0, 1.0], "epochs": [0, 100, 200]}, [0, 100, 200], "epochs"),
        ({"states": [W, V], "train_loss": [2.0, 1.0], "steps": [5, 9]}, [5, 9], "steps"),
        ({"states": [W, V], "train_loss": [2.5, 1.5]}, [0, 1], "checkpoints"),
        ({"states": [W, V], "steps": [5, 9, 12]}, [0, 1], "checkpoints"),
        ([W, V], [0, 1], "checkpoints"),
        ({0: W, 50: V}, [0, 50], "steps"),
        ({"history": {50: V, 0: W}}, [0, 50], "steps"),
    ],
)
def test_a_list_of_states_in_one_file_is_a_series(content: Any, steps: list[int], unit: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "full_run_data.pth")
    for place in (tmp_path, tmp_path / "full_run_data.pth"):
        found = find_checkpoints(str(place))
        assert ([c.step for c in found.checkpoints], found.unit) == (steps, unit)
        assert found.told == (f"full_run_data.pth holds {len(steps)} state dicts: a series",)
        assert [float(c.weights()["a"][0, 0]) for c in found.checkpoints[:2]] == [1, 2]


def test_the_step_inside_a_file_counts_where_its_name_has_none(tmp_path: Path) -> None:
    torch.save({"state_dict": W, "global_step": 700}, tmp_path / "last.ckpt")
    assert [c.step for c in find_checkpoints(str(tmp_path / "last.ckpt")).checkpoints] == [700]
    (tmp_path / "last.ckpt").rename(tmp_path / "step=5.ckpt")
    assert [c.step for c in find_checkpoints(str(tmp_path / "step=5.ckpt")).checkpoints] == [5]


def test_a_choice_reaches_every_file_of_a_series(tmp_path: Path) -> None:
    for step in (1, 2):
        torch.save({"model": W, "model_ema": V}, tmp_path / f"step_{step}.pt")
    found = find_checkpoints(str(tmp_path), search=Search(choice=Choice(weights="ema")))
    assert [float(c.weights()["a"][0, 0]) for c in found.checkpoints] == [2, 2]
