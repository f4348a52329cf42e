"""What stands beside the values in the cube of a sweep."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from helpers.analysed import analyse
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.parts import SCHEDULES
from specdyn.models.spec.settings import with_settings
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.plan import gathering, sweep_cube
from specdyn.tasks.plan.cost import steps_of_an_epoch
from specdyn.tasks.plan.gathering import complete_results, finished_results, gather
from specdyn.tasks.plan.sweeps import Sweep, make_sweep
from specdyn.tasks.spectra import network_layout
from specdyn.tasks.training.training import Batches

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


@pytest.mark.parametrize("accumulate", [1, 3])
def test_steps_have_the_examples_that_were_seen(local_store: Store, accumulate: int) -> None:
    """Counted batch by batch, as training takes them."""
    sweep, url = cube_of(local_store, 0, batch_size=32, accumulate=accumulate)
    (spec,) = sweep.specs
    batches, seen = Batches(spec, load_examples(spec, local_store)["train"]), [0]
    for number in range(20 * accumulate):
        seen.append(seen[-1] + len(batches(number).targets))
    found = open_results(url)["layers"]["examples_seen"]
    assert found.values.tolist() == [seen[step * accumulate] for step in (0, 10, 20)]
    assert found.dtype.kind == "i"


def test_every_coordinate_says_what_it_is_and_numbers_in_which_unit(local_store: Store) -> None:
    _, url = cube_of(local_store, 0, 1)
    tree = open_results(url)
    assert set(tree.attrs["groups"].partition(";")[0].split(", ")) == set(tree.children)
    for node in tree.children.values():
        for name, coordinate in node.to_dataset().coords.items():
            assert coordinate.attrs["long_name"], name
            assert ("units" in coordinate.attrs) == (coordinate.dtype.kind in "if"), name
    layers = tree["layers"].to_dataset()
    assert layers["weight_decay"].attrs["comment"].endswith("0 means off")
    assert layers["step"].attrs["units"] == "steps"
    assert tree["runs"]["clip_norm"].attrs["comment"].endswith("0 stands for None")
    assert layers["kind"].values.tolist() == ["embedding", "attention", "attention", "mlp", "mlp", "output"]
    assert layers["depth"].dtype.kind == "i" and layers["depth"].values.tolist() == [0, 1, 2, 3, 4, 5]
    by_kind = layers.singular_value.groupby("kind").mean(...)
    np.testing.assert_allclose(by_kind.sel(kind="mlp"), layers.singular_value.isel(layer=[3, 4]).mean(), rtol=1e-6)


def test_an_axis_called_as_a_coordinate_of_layers_keeps_its_name(local_store: Store) -> None:
    """A sweep over the depth of the network: layers that both networks have lie as deep, but for the last."""
    specs = tuple(with_settings(SPEC, depth=depth) for depth in (1, 2))
    sweep = Sweep(
        name="deep", experiment=SPEC.experiment, preset="smoke", specs=specs, analyses=("spectrum", "alignment")
    )
    analyse(sweep, local_store.url)
    layers = open_results(gather(sweep, local_store, report=False)[0].url)["layers"].to_dataset()
    assert layers["depth"].dims == ("run",) and layers["depth"].values.tolist() == [1, 2]
    assert layers["layer_depth"].dims == ("run", "layer")
    assert layers["layer_depth"].sel(layer="decoder.weight").values.tolist() == [5, 9]
    assert layers["short_name"].dims == ("layer",)
    assert "0.linear1" in layers["short_name"].values and "1.linear1" in layers["short_name"].values


def test_a_cube_without_the_new_coordinates_is_opened_and_gathered_again_by_the_next_call(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_cube, "described_settings", lambda spec: {})
    monkeypatch.setattr(network_layout, "layer_coordinates", lambda layout: {})
    monkeypatch.setattr(gathering, "COORDINATES_VERSION", 0)
    sweep_cube._layout.cache_clear()
    sweep, url = cube_of(local_store, 0)
    before = open_results(url)["layers"].to_dataset()
    assert "kind" not in before.coords
    monkeypatch.undo()
    sweep_cube._layout.cache_clear()
    assert finished_results(sweep, local_store, report=False) is None, "so that a call gathers it"
    assert gather(sweep, local_store, report=False)[1]
    after = open_results(url)["layers"].to_dataset()
    assert "kind" in after.coords
    xr.testing.assert_equal(after[list(before.data_vars)].drop_vars(["kind", "depth", "short_name"]), before)


RATE, EPOCHS = 0.01, 6


def by_epochs(step: int) -> float:
    """Warm-up of one epoch, then half a cosine over the epochs of the run; at its floor when warm-up ends."""
    rises = [0.55 + 0.45 * np.cos(np.pi * (epoch - 1) / EPOCHS) for epoch in (2, 3, 4, 5)]
    return RATE * float([0, 0.1, *rises, 0.1][step // 4])


def by_steps(step: int) -> float:
    """Warm-up of six steps, then half a cosine of 20 steps that ends at step 20; at its floor when warm-up ends."""
    if step < 6:
        return RATE * step / 6
    return RATE * (0.1 if step == 6 or step >= 20 else 0.55 + 0.45 * float(np.cos(np.pi * (step - 6) / 20)))


RATES: dict[str, tuple[dict[str, object], Callable[[int], float]]] = {
    "constant": ({}, lambda step: RATE),
    "warmup": ({"warmup": 12}, lambda step: RATE * min(step / 12, 1)),
    "milestones": ({"milestones": (2, 5)}, lambda step: RATE / (1 if step < 8 else 10 if step < 20 else 100)),
    "step": ({}, lambda step: RATE),  # drops after 10,000 epochs
    "cosine": ({"warmup": 1}, by_epochs),
    "warmup-cosine": ({"warmup": 6, "period": 20}, by_steps),
    "cosine-to-zero": ({}, lambda step: RATE * float(np.cos(np.pi * (step // 4) / (2 * EPOCHS)) ** 2)),
}
"""Of each schedule its settings, and the rate after a step in epochs of four steps, by its formula."""


def test_each_run_has_the_learning_rates_of_its_schedule(local_store: Store) -> None:
    examples = len(load_examples(SPEC, local_store)["train"].targets)
    common = {"steps": 4 * EPOCHS, "checkpoint_every": 3, "batch_size": -(-examples // 4), "learning_rate": RATE}
    specs = tuple(with_settings(SPEC, schedule=name, **common, **settings) for name, (settings, _) in RATES.items())
    sweep = Sweep(name="rates", experiment=SPEC.experiment, preset="smoke", specs=specs, analyses=("spectrum",))
    analyse(sweep, local_store.url)
    layers = open_results(gather(sweep, local_store, report=False)[0].url)["layers"].to_dataset()
    steps = layers["step"].values.tolist()
    assert steps == list(range(0, 25, 3)) and RATES.keys() == set(SCHEDULES)
    np.testing.assert_array_equal(layers["epoch"], [step / 4 for step in steps])
    assert layers["learning_rate_at"].dims == ("run", "step") and layers["learning_rate_at"].dtype == np.float64
    for spec, (_, rate) in zip(specs, RATES.values(), strict=True):
        found = layers["learning_rate_at"].sel(run=spec.run_id)
        np.testing.assert_allclose(found, [rate(step) for step in steps], rtol=1e-12, atol=1e-17)
        np.testing.assert_array_equal(layers["schedule"].sel(run=spec.run_id), spec.schedule.name)


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


def test_a_study_that_was_never_begun_is_looked_at_without_its_data_set(tmp_path: Path) -> None:
    sweep = make_sweep("image_classification", "smoke", [0.0], [0])
    assert sweep.specs[0].record.early_checkpoints  # their steps depend on the number of examples
    assert complete_results(sweep, Store(str(tmp_path))) is None
    assert list(tmp_path.iterdir()) == []
