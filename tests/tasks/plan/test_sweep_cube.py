"""What stands beside the values in the cube of a sweep."""

import dataclasses

import numpy as np

from helpers.analysed import analyse
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.settings import with_settings
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.plan.cost import steps_of_an_epoch
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.sweeps import Sweep

SPEC = with_settings(get_experiment("modular_addition").preset("smoke").spec, steps=20, checkpoint_every=10)


def cube_of(store: Store, *seeds: int, **settings: object) -> tuple[Sweep, str]:
    spec = with_settings(SPEC, **settings)
    specs = tuple(dataclasses.replace(spec, seed=seed) for seed in seeds)
    sweep = Sweep(
        name="hand", experiment=SPEC.experiment, preset="smoke", specs=specs, analyses=("spectrum", "alignment")
    )
    analyse(sweep, store.url)
    return sweep, gather(sweep, store, report=False)[0].url


def test_steps_have_their_epoch_and_learning_rate(local_store: Store) -> None:
    sweep, url = cube_of(local_store, 0, schedule="warmup", warmup=40, learning_rate=0.01)
    layers = open_results(url)["layers"]
    np.testing.assert_allclose(layers["epoch"], np.array([0, 10, 20]) / steps_of_an_epoch(sweep.specs[0], local_store))
    np.testing.assert_allclose(layers["learning_rate_at"], [0, 0.01 * 10 / 40, 0.01 * 20 / 40])


def test_runs_whose_epochs_differ_have_their_own(local_store: Store) -> None:
    """Pairs (a, b) and (b, a) stay together, so that the number of examples depends on the seed."""
    seeds = range(6)
    specs = [with_settings(SPEC, prime=13, mirrored_together=True, batch_size=1, seed=seed) for seed in seeds]
    lengths = [steps_of_an_epoch(spec, local_store) for spec in specs]
    assert len(set(lengths)) > 1
    _, url = cube_of(local_store, *seeds, prime=13, mirrored_together=True, batch_size=1)
    epoch = open_results(url)["layers"]["epoch"]
    assert epoch.dims == ("run", "step")
    np.testing.assert_allclose(epoch.sel(step=20), 20 / np.array(lengths))


def test_pairs_have_their_writer_and_reader(local_store: Store) -> None:
    _, url = cube_of(local_store, 0)
    pairs = open_results(url)["pairs"]
    for name, writer, reader in zip(pairs["pair"].values, pairs["writer"].values, pairs["reader"].values, strict=True):
        assert name == f"{writer} -> {reader}"


def test_settings_that_vary_are_coordinates_and_all_are_in_the_group_of_runs(local_store: Store) -> None:
    _, url = cube_of(local_store, 0, 1)
    tree = open_results(url)
    of_runs = {str(name) for name, one in tree["layers"].coords.items() if one.dims == ("run",)}
    assert of_runs == {"run", "status", "weight_decay", "seed"}
    runs = tree["runs"].to_dataset()
    assert {"learning_rate", "prime", "batch_size", "computed_on", "results", "parts", "contents"} <= set(
        runs.data_vars
    )
    assert runs["seed"].values.tolist() == [0, 1]
