"""Norms held at those of another run."""

import dataclasses
import functools
from pathlib import Path

import pytest
import torch

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.checkpoints import read_finished, read_manifest
from specdyn.storage.places import Store
from specdyn.tasks.training import training
from specdyn.tasks.training.norm_control import norms_of_run
from specdyn.tasks.training.optimizers import matrices

train = functools.partial(training.train, device=torch.device("cpu"))
SMOKE = get_experiment("modular_addition").preset("smoke").spec
DECAYED = with_settings(SMOKE, weight_decay=5.0, learning_rate=0.01, steps=40)
HELD = with_settings(DECAYED, weight_decay=0.0, norm_run=DECAYED.run_id)


def norms(store: Store, spec: RunSpec, step: int) -> torch.Tensor:
    """Norms of the matrices at a checkpoint, and last that of all other parameters."""
    manifest = read_manifest(store.run_of(spec))
    assert manifest is not None
    weights = read_finished(store, manifest, step)
    return torch.stack([weights[name].norm() for name in matrices(get_experiment(spec.experiment).net(spec))])


def test_a_run_without_decay_has_the_norms_of_the_decayed_one_and_other_weights(tmp_path: Path) -> None:
    store = str(tmp_path)
    train(DECAYED, Store(store))
    held = train(HELD, Store(store))
    for step in held.steps[1:]:
        torch.testing.assert_close(
            norms(Store(store), HELD, step), norms(Store(store), DECAYED, step), rtol=1e-5, atol=0
        )
    assert (norms(Store(store), DECAYED, 40) < 0.6 * norms(Store(store), DECAYED, 0)).any()
    decayed = read_manifest(Store(store).run_of(DECAYED))
    assert decayed is not None
    assert held.checkpoints[-1].sha256 != decayed.checkpoints[-1].sha256


def test_between_checkpoints_norms_lie_on_a_straight_line_and_stay_after_the_last(tmp_path: Path) -> None:
    store = str(tmp_path)
    train(DECAYED, Store(store))
    at = norms_of_run(HELD, Store(store), get_experiment(HELD.experiment).net(HELD))
    first, second = norms(Store(store), DECAYED, 10), norms(Store(store), DECAYED, 20)
    torch.testing.assert_close(at(13), 0.7 * first + 0.3 * second)
    torch.testing.assert_close(at(10), first)
    torch.testing.assert_close(at(0), norms(Store(store), DECAYED, 0))
    torch.testing.assert_close(at(99), norms(Store(store), DECAYED, 40))


def test_norms_of_a_run_that_is_not_there_or_has_another_network_are_refused(tmp_path: Path) -> None:
    store = str(tmp_path)
    with pytest.raises(ValueError, match=f"norm_run='{DECAYED.run_id}' of modular_addition is not finished"):
        train(HELD, Store(store))
    train(DECAYED, Store(store))
    with pytest.raises(ValueError, match=r"has net=.* they must be the same"):
        train(dataclasses.replace(HELD, net=dataclasses.replace(HELD.net, width=20)), Store(store))


def test_two_controls_of_norms_are_refused() -> None:
    with pytest.raises(ValueError, match="norm_run='abc' is not allowed: expected none beside norm_control"):
        with_settings(SMOKE, norm_run="abc", norm_control="initial")
