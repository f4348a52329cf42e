"""The estimate of a run against the run."""

import dataclasses
import resource
import tempfile
from pathlib import Path

import pytest
import torch

from helpers.analysed import sweep_called
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access.objects import delete
from specdyn.storage.checkpoints import write_checkpoint
from specdyn.storage.places import Store
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.plan import measuring, plan
from specdyn.tasks.plan.cost import Rates, checkpoint_bytes, schedule, steps_of_an_epoch
from specdyn.tasks.plan.measuring import measure
from specdyn.tasks.plan.plan import make_plan
from specdyn.tasks.spectra.network_layout import NetworkLayout
from specdyn.tasks.training.training import train

SMOKE = get_experiment("modular_addition").preset("smoke").spec


@pytest.mark.parametrize(("preset", "checkpoints"), [("paper", 401), ("slingshot", 1001), ("demo", 51), ("smoke", 7)])
def test_the_schedule_has_the_checkpoints_of_the_run(preset: str, checkpoints: int) -> None:
    assert len(schedule(get_experiment("modular_addition").preset(preset).spec, Store("nowhere"))) == checkpoints


def test_checkpoints_are_as_large_as_estimated_but_for_their_header(tmp_path: Path) -> None:
    spec = dataclasses.replace(SMOKE, steps=10)
    for entry in train(spec, Store(str(tmp_path))).checkpoints:
        assert checkpoint_bytes(spec) == entry.bytes - entry.header_bytes - 8


def test_the_bytes_of_the_paper_match_its_parameters() -> None:
    assert checkpoint_bytes(get_experiment("modular_addition").preset("paper").spec) == 4 * 227_058


def test_measured_times_are_positive_and_nothing_is_written() -> None:
    rates = measure(SMOKE, Store("nowhere"), None, ("spectrum",), steps=2)
    assert 0 < rates.step < 5
    assert min(rates.beginning, rates.writing) > 0
    assert 0 < rates.checkpoint < 30


def test_an_estimate_needs_no_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not in the folder of temporary files, and no file as large as a checkpoint."""
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        assert measure(SMOKE, Store("nowhere"), steps=1).writing == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        rates = measure(SMOKE, Store("nowhere"), steps=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (rates.writing, rates.step > 0) == (0, True)


@pytest.mark.parametrize(("analyses", "evaluations"), [(("spectrum",), 0), (("performance",), 1), (("pruning",), 2)])
def test_evaluations_of_a_checkpoint_are_counted(
    analyses: tuple[str, ...], evaluations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, or both halves; each on two splits."""
    monkeypatch.setattr(measuring, "_seconds_of_evaluations", lambda *_: (1e6, 0.0))
    rates = measure(SMOKE, Store("nowhere"), None, analyses, steps=1)
    assert rates.checkpoint // 1e6 == 2 * evaluations
    assert min(rates.checkpoint, rates.decomposition) > 0
    assert measure(SMOKE, Store("nowhere"), steps=1).checkpoint == 0


def test_settings_that_diverge_at_once_are_measured_too() -> None:
    assert measure(with_settings(SMOKE, learning_rate=1e30), Store("nowhere")).step > 0


def test_a_measurement_uses_the_threads_of_a_unit_and_restores_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = [], torch.get_num_threads()
    real = measuring.network_layout

    def looked(spec: RunSpec) -> NetworkLayout:
        seen.append(torch.get_num_threads())
        return real(spec)

    monkeypatch.setattr(measuring, "network_layout", looked)
    measure(SMOKE, Store("nowhere"), steps=1, threads=before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_a_written_checkpoint_tells_the_bytes_left(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "measure", lambda *_: Rates(step=1.0, checkpoint=1.0))
    sweep = sweep_called("bytes", 0.0, 1.0)
    first, second = sweep.specs
    weights = get_experiment(first.experiment).net(first).state_dict()
    each = 4 * sum(tensor.numel() for tensor in weights.values())
    assert make_plan(sweep, local_store).bytes == 6 * each
    monkeypatch.setattr(plan, "checkpoint_bytes", lambda spec: pytest.fail("a network was built"))
    write_checkpoint(local_store.run_of(first), 0, weights)
    assert make_plan(sweep, local_store).bytes == 5 * each
    delete(local_store.run_of(first).folder)
    train(second, local_store)
    assert make_plan(sweep, local_store).bytes == 3 * each


def test_the_examples_of_one_seed_are_not_mistaken_for_anothers(local_store: Store) -> None:
    """Which pairs are mirrored, and so how many there are to train on, depends on the seed."""
    spec = dataclasses.replace(get_experiment("modular_addition").preset("demo").spec, batch_size=1)
    counts = {}
    for seed in range(5):
        one = dataclasses.replace(spec, seed=seed)
        counts[seed] = steps_of_an_epoch(one, local_store)
        assert counts[seed] == len(load_examples(one, local_store)["train"].targets)
    assert len(set(counts.values())) > 1
