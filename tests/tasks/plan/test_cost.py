"""The estimate of a run against the run."""

import dataclasses
from pathlib import Path

import pytest
import torch

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.tasks.plan import cost
from specdyn.tasks.plan.cost import checkpoint_bytes, measure, schedule
from specdyn.tasks.spectra.network_layout import Anatomy, anatomy
from specdyn.tasks.training.training import train

SMOKE = get_experiment("modular_addition").preset("smoke").spec


@pytest.mark.parametrize(("preset", "checkpoints"), [("paper", 401), ("slingshot", 1001), ("demo", 51), ("smoke", 7)])
def test_the_schedule_has_the_checkpoints_of_the_run(preset: str, checkpoints: int) -> None:
    assert len(schedule(get_experiment("modular_addition").preset(preset).spec, "nowhere")) == checkpoints


def test_checkpoints_are_as_large_as_estimated_but_for_their_header(tmp_path: Path) -> None:
    spec = dataclasses.replace(SMOKE, steps=10)
    for entry in train(spec, str(tmp_path)).checkpoints:
        assert checkpoint_bytes(spec) == entry.bytes - entry.header_bytes - 8


def test_the_bytes_of_the_paper_are_those_of_its_parameters() -> None:
    assert checkpoint_bytes(get_experiment("modular_addition").preset("paper").spec) == 4 * 227_058


def test_measured_times_are_positive_and_nothing_is_written() -> None:
    rates = measure(SMOKE, "nowhere", steps=2)
    assert 0 < rates.step < 5
    assert 0 < rates.checkpoint < 30


def test_the_parts_of_a_checkpoint_make_up_the_whole() -> None:
    rates = measure(SMOKE, "nowhere", steps=1)
    matrices = len(anatomy(SMOKE).matrices)
    # Whole, top and bottom half on two splits.
    whole = 3 * 2 * rates.evaluation + 2 * rates.renewal + matrices * rates.decomposition
    assert rates.checkpoint == pytest.approx(whole)
    assert min(rates.evaluation, rates.decomposition) > 0


def test_settings_that_diverge_at_once_are_measured_too() -> None:
    assert measure(dataclasses.replace(SMOKE, learning_rate=1e30), "nowhere").step > 0


def test_a_measurement_has_the_threads_of_a_unit_and_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = [], torch.get_num_threads()
    real = cost.anatomy

    def looked(spec: RunSpec) -> Anatomy:
        seen.append(torch.get_num_threads())
        return real(spec)

    monkeypatch.setattr(cost, "anatomy", looked)
    measure(SMOKE, "nowhere", steps=1, threads=before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
