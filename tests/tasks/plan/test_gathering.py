"""What of a sweep is in its cube, by what of it is analysed."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from helpers.analysed import analyse
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError, delete
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.places import Store
from specdyn.storage.query import open_measured, open_results
from specdyn.storage.results import blocks_of, part_name
from specdyn.storage.rows import Row
from specdyn.tasks.identity import results_id
from specdyn.tasks.plan import gathering
from specdyn.tasks.plan.sweeps import Sweep
from specdyn.tasks.spectra.analysis import versions_of

ANALYSES = ("spectrum", "effective_rank", "performance", "trajectory", "shape")
SPEC = with_settings(get_experiment("modular_addition").preset("smoke").spec, steps=30, checkpoint_every=10)
STEPS = (0, 10, 20, 30)


def sweep_of(specs: Sequence[RunSpec]) -> Sweep:
    return Sweep(name="hand", experiment=SPEC.experiment, preset="smoke", specs=tuple(specs), analyses=ANALYSES)


def gather(sweep: Sweep, store: Store) -> tuple[str, bool]:
    """Where the cube lies, and whether it was written."""
    results, built = gathering.gather(sweep, store, report=False)
    return results.url, built


def lose(store: Store, spec: RunSpec, block: tuple[int, ...]) -> None:
    """Take the object of a block away."""
    delete(f"{folder_of(store, spec)}/{part_name(block, versions_of(ANALYSES))}")


def folder_of(store: Store, spec: RunSpec) -> str:
    manifest = read_manifest(store.run_of(spec))
    assert manifest is not None
    return store.run_results(spec.experiment, results_id(manifest))


def groups_of(url: str) -> dict[str, xr.Dataset]:
    return {name: group.to_dataset().load() for name, group in open_results(url).children.items()}


@pytest.fixture
def sweep(local_store: Store) -> Sweep:
    """Two runs, trained and analysed."""
    chosen = sweep_of([SPEC, dataclasses.replace(SPEC, seed=1)])
    analyse(chosen, local_store.url)
    return chosen


def test_a_run_is_in_the_cube_with_what_is_known_of_it_and_the_rest_follows(local_store: Store, sweep: Sweep) -> None:
    first, second = sweep.specs
    url, built = gather(sweep, local_store)
    assert built
    whole = groups_of(url)
    assert whole["layers"]["run"].values.tolist() == [first.run_id, second.run_id]
    assert whole["layers"]["status"].values.tolist() == ["done", "done"]
    assert gather(sweep, local_store) == (url, False)

    objects.delete(url)
    lose(local_store, first, (0,))
    lose(local_store, second, (30,))
    assert gather(sweep, local_store) == (url, True)
    part = groups_of(url)
    assert part["layers"]["run"].values.tolist() == [first.run_id, second.run_id]
    assert part["layers"]["status"].values.tolist() == ["partial", "partial"]
    for name in ("singular_value", "effective_rank", "energy_rank"):
        gone = {"run": first.run_id, "step": 0}
        assert part["layers"][name].sel(gone).isnull().all()
        there = {"run": first.run_id, "step": [10, 20, 30]}
        np.testing.assert_array_equal(part["layers"][name].sel(there), whole["layers"][name].sel(there))
    assert part["metrics"]["loss"].sel(run=first.run_id, step=0).isnull().all()
    assert part["layers"]["singular_value"].sel(run=second.run_id, step=30).isnull().all()
    assert part["layers"]["trajectory_coordinate"].sel(run=second.run_id).isnull().all()
    assert part["layers"]["trajectory_participation_ratio"].sel(run=second.run_id).isnull().all()
    assert part["layers"]["trajectory_participation_ratio"].sel(run=first.run_id).notnull().all()
    # Whether they grokked where nothing is measured is not known.
    assert whole["metrics"]["grok_censored"].values.tolist() == [1, 1]
    assert part["metrics"]["grok_censored"].isnull().all()

    analyse(sweep, local_store.url)
    assert gather(sweep, local_store) == (url, True)
    for name, group in groups_of(url).items():
        assert group.identical(whole[name])


def test_values_stay_while_they_are_measured_again(local_store: Store, sweep: Sweep) -> None:
    url, _ = gather(sweep, local_store)
    whole = groups_of(url)
    for block in blocks_of(STEPS):
        lose(local_store, sweep.specs[0], block)
        assert gather(sweep, local_store) == (url, True)
        part = groups_of(url)
        for name in ("layers", "metrics"):
            xr.testing.assert_identical(part[name].drop_vars("status"), whole[name].drop_vars("status"))
    assert part["layers"]["status"].values.tolist() == ["planned", "done"]
    analyse(sweep, local_store.url)
    assert gather(sweep, local_store) == (url, True)
    for name, group in groups_of(url).items():
        assert group.identical(whole[name])


def test_a_run_of_which_nothing_is_known_is_planned(local_store: Store, sweep: Sweep) -> None:
    first, second = sweep.specs
    for block in blocks_of(STEPS):
        lose(local_store, first, block)
    url, _ = gather(sweep, local_store)
    layers = open_results(url)["layers"]
    assert layers["status"].values.tolist() == ["planned", "done"]
    assert layers["singular_value"].sel(run=first.run_id).isnull().all()
    assert open_measured(url)["layers"]["run"].values.tolist() == [second.run_id]
    objects.delete(url)
    for block in blocks_of(STEPS):
        lose(local_store, second, block)
    assert gather(sweep, local_store) == (url, False)


def test_a_damaged_result_is_removed_said_and_measured_again(local_store: Store, sweep: Sweep) -> None:
    url, _ = gather(sweep, local_store)
    whole = groups_of(url)
    objects.delete(url)
    folder = folder_of(local_store, sweep.specs[0])
    for name in objects.names(folder)[:2]:
        objects.write(f"{folder}/{name}", objects.read(f"{folder}/{name}")[:-3])
    with pytest.raises(StoreError, match=r"1 other object too.*call again to measure it again"):
        gather(sweep, local_store)
    assert len(objects.names(folder)) == 2
    assert open_results(url)["layers"]["status"].values.tolist() == ["partial", "done"]
    analyse(sweep, local_store.url)
    gather(sweep, local_store)
    for name, group in groups_of(url).items():
        assert group.identical(whole[name])


def test_a_run_with_other_checkpoints_replaces_its_values_at_once(local_store: Store, sweep: Sweep) -> None:
    """Not one after another, as values of both would stand side by side meanwhile."""
    url, _ = gather(sweep, local_store)
    held, results = open_results(url), sweep.results(local_store)
    other = results_of(results.rows, seed=1)
    before = held["layers/effective_rank"].isel(run=0).values
    held = open_results(url)
    results.writer(None).write(other, results.described())
    now = open_results(url)["layers/effective_rank"]
    np.testing.assert_array_equal(now.isel(run=0), now.isel(run=1))
    np.testing.assert_array_equal(held["layers/effective_rank"].isel(run=0), before)
    assert (now.isel(run=0).values != before).any()


def results_of(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows, the first with the results of another."""
    return [dataclasses.replace(rows[0], results=rows[seed].results, parts=rows[seed].parts), *rows[1:]]
