"""A sweep run from a program: what it trains, what it leaves as it was, and what it says where runs fail."""

from pathlib import Path

import numpy as np
import pytest
import torch

import specdyn as sd
from specdyn.storage.places import Store
from specdyn.tasks.library.sweep import SweepFailed

FEW = ("effective_rank", "performance")


def test_a_sweep_is_trained_once_and_its_cube_comes_back(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    settings = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    state = torch.get_rng_state()
    tree = sd.run("modular_addition", "smoke", store=store, analyses=FEW, weight_decay=[0.0, 1.0], learning_rate=2e-3)
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == settings
    assert torch.equal(state, torch.get_rng_state())
    assert tree["layers"].to_dataset()["weight_decay"].values.tolist() == [0.0, 1.0]
    assert np.isfinite(tree["layers"].to_dataset()["effective_rank"].values).all()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*") if path.is_file()}
    again = sd.run("modular_addition", "smoke", store=store, analyses=FEW, weight_decay=[0.0, 1.0], learning_rate=2e-3)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*") if path.is_file()} == written
    assert again.identical(tree)
    grown = sd.run("modular_addition", "smoke", store=store, analyses=FEW, weight_decay=[2.0], learning_rate=2e-3)
    assert grown["layers"].to_dataset()["weight_decay"].values.tolist() == [0.0, 1.0, 2.0], "a sweep grows"
    assert sd.open(store, tree.attrs["sweep"]).identical(grown)


def test_a_run_that_fails_is_named_and_the_others_stand(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with pytest.raises(SweepFailed, match=r"learning_rate=1e\+30"):
        sd.run("modular_addition", "smoke", store=store, analyses=FEW, weight_decay=0.0, learning_rate=[1e-3, 1e30])
    (name,) = (path.name for path in Path(Store(store).studies).iterdir())
    status = sd.open(store, name)["layers"].to_dataset()["status"].values.tolist()
    assert sorted(status) == ["done", "failed"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"experiment": "addition"}, "experiment"),
        ({"experiment": "modular_addition", "weight_decays": [0.0]}, "weight_decays"),
        ({"experiment": "modular_addition", "executor": "slurm"}, "executor"),
        ({"experiment": "modular_addition", "weight_decay": [0.0, 0.0]}, "weight_decay"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_made(given: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        sd.run(**{"preset": "smoke", "store": str(tmp_path / "store"), **given})  # type: ignore[arg-type]
    assert not (tmp_path / "store").exists()
