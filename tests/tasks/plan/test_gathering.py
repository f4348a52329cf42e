"""What of a sweep is in its cube, by what of it is analysed."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from helpers.analysed import analyse
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access.objects import delete
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.commits import blocks_of, marker
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.identity import results_id
from specdyn.tasks.plan import gathering
from specdyn.tasks.plan.sweeps import Sweep
from specdyn.tasks.spectra.analysis import get_analysis

ANALYSES = ("spectrum", "effective_rank", "performance", "trajectory", "shape")
SPEC = with_settings(get_experiment("modular_addition").preset("smoke").spec, steps=30, checkpoint_every=10)
STEPS = (0, 10, 20, 30)


def sweep_of(specs: Sequence[RunSpec]) -> Sweep:
    return Sweep(name="hand", experiment=SPEC.experiment, preset="smoke", specs=tuple(specs), analyses=ANALYSES)


def gather(sweep: Sweep, store: Store) -> tuple[str, bool]:
    """Where the cube lies, and whether it was written."""
    results, built = gathering.gather(sweep, store, report=False)
    return results.url, built


def lose(store: Store, spec: RunSpec, block: tuple[int, ...], names: Sequence[str] = ANALYSES) -> None:
    """Take the markers of a block away."""
    manifest = read_manifest(store.run_of(spec))
    assert manifest is not None
    commits = store.commits(spec.experiment, results_id(manifest))
    for name in names:
        delete(f"{commits}/{marker(name, get_analysis(name).version, block)}")


@pytest.fixture
def sweep(local_store: Store) -> Sweep:
    """Two runs, trained and analysed."""
    chosen = sweep_of([SPEC, dataclasses.replace(SPEC, seed=1)])
    analyse(chosen, local_store.url)
    return chosen


def test_a_run_stays_in_the_cube_with_what_is_known_of_it(local_store: Store, sweep: Sweep) -> None:
    first, second = sweep.specs
    url, built = gather(sweep, local_store)
    assert built
    whole = {name: group.to_dataset().load() for name, group in open_results(url).children.items()}
    assert whole["layers"]["run"].values.tolist() == [first.run_id, second.run_id]
    assert gather(sweep, local_store) == (url, False)

    lose(local_store, first, (0,))
    lose(local_store, second, (30,), ["trajectory", "spectrum"])
    assert gather(sweep, local_store) == (url, True)
    part = {name: group.to_dataset().load() for name, group in open_results(url).children.items()}
    assert part["layers"]["run"].values.tolist() == [first.run_id, second.run_id]
    for name in ("singular_value", "effective_rank", "energy_rank"):
        gone = {"run": first.run_id, "step": 0}
        assert part["layers"][name].sel(gone).isnull().all()
        there = {"run": first.run_id, "step": [10, 20, 30]}
        np.testing.assert_array_equal(part["layers"][name].sel(there), whole["layers"][name].sel(there))
    assert part["metrics"]["loss"].sel(run=first.run_id, step=0).isnull().all()
    assert part["layers"]["singular_value"].sel(run=second.run_id, step=30).isnull().all()
    assert part["layers"]["effective_rank"].sel(run=second.run_id).notnull().all()
    assert part["layers"]["trajectory_coordinate"].sel(run=second.run_id).isnull().all()
    assert part["layers"]["trajectory_participation_ratio"].sel(run=second.run_id).isnull().all()
    assert part["layers"]["trajectory_participation_ratio"].sel(run=first.run_id).notnull().all()
    # Whether it grokked at its first checkpoint is not known any more.
    assert whole["metrics"]["grok_censored"].values.tolist() == [1, 1]
    np.testing.assert_array_equal(part["metrics"]["grok_censored"], [np.nan, 1])

    analyse(sweep, local_store.url)
    assert gather(sweep, local_store) == (url, True)
    for name, group in open_results(url).children.items():
        assert group.to_dataset().load().identical(whole[name])


def test_a_run_of_which_nothing_is_known_is_not_in_the_cube(local_store: Store, sweep: Sweep) -> None:
    first, second = sweep.specs
    for block in blocks_of(STEPS):
        lose(local_store, first, block)
    url, _ = gather(sweep, local_store)
    assert open_results(url)["layers"]["run"].values.tolist() == [second.run_id]
    for block in blocks_of(STEPS):
        lose(local_store, second, block)
    assert gather(sweep, local_store) == (url, False)
