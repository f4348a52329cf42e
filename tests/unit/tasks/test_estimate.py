"""The estimate of a run against the run."""

import dataclasses
from pathlib import Path

import pytest

from models.experiment import get_experiment
from tasks.estimate import checkpoint_bytes, measure, schedule
from tasks.training import train

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
