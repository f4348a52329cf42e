"""Lines between runs: values at the ends and inside, barriers, counts, and pairs that differ by a permutation alone."""

import dataclasses
import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import specdyn as sd
from specdyn.models.experiments.base import experiment_of, get_experiment
from specdyn.models.nets.mlp import Mlp
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.models.spec.start import StartFrom
from specdyn.storage.checkpoints import read_finished, read_manifest, write_checkpoint, write_manifest
from specdyn.storage.places import Store
from specdyn.storage.results import read_values
from specdyn.tasks.connect.curves import train_control
from specdyn.tasks.connect.factors import forget_factors
from specdyn.tasks.connect.ids import end_id, line_id
from specdyn.tasks.connect.line import connect, decompose_end, finished, measure_end
from specdyn.tasks.connect.matching import groups, match, permute
from specdyn.tasks.connect.meter import Meter, data_key
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.paths import ALPHAS, barrier, bezier, blend
from specdyn.tasks.plan.branching.graph import Graph
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.training import training
from specdyn.tasks.work import Work

train = functools.partial(training.train, device=torch.device("cpu"))
SMOKE = with_settings(get_experiment("modular_addition").preset("smoke").spec, steps=20, weight_decay=1.0)
TRUNK = dataclasses.replace(SMOKE, net=Mlp(width=12))
LAYERS = len(network_layout(TRUNK).layers)


def branch(order: int) -> RunSpec:
    """A branch of the trunk at step 10."""
    return dataclasses.replace(TRUNK, start=StartFrom(run_id=TRUNK.run_id, step=10, order=order))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a trunk and two branches."""
    store = Store(str(tmp_path_factory.mktemp("graph")))
    train(TRUNK, store, (10,))
    for order in (5, 6):
        train(branch(order), store)
    return store


PAIR = Pair(a=branch(5), b=branch(6), kind="within")


def measured(pair: Pair, store: Store) -> dict[str, np.ndarray] | None:
    """What is kept of the line between the weights that the runs have now."""
    name = line_id(pair, finished(pair.a, store), finished(pair.b, store))
    found = read_values(store.result("pairs", TRUNK.experiment, name))
    return found and found.values


def final_weights(spec: RunSpec, store: Store) -> dict[str, Tensor]:
    manifest = finished(spec, store)
    return read_finished(store, manifest, manifest.steps[-1])


@pytest.fixture(scope="module")
def values(store: Store) -> dict[str, np.ndarray]:
    """What was measured between the branches."""
    for spec in (PAIR.a, PAIR.b):
        measure_end(spec, PAIR.a, store)
    connect(PAIR, store)
    found = measured(PAIR, store)
    assert found is not None
    return found


def replaced(store: Store, spec: RunSpec, weights: dict[str, Tensor]) -> None:
    """Put other weights in the place of a run's last checkpoint."""
    manifest = read_manifest(store.run_of(spec))
    assert manifest is not None
    entry = write_checkpoint(store.run_of(spec), manifest.steps[-1], weights)
    write_manifest(store, dataclasses.replace(manifest, checkpoints=(*manifest.checkpoints[:-1], entry)))


def test_a_pair_takes_the_evaluations_and_decompositions_that_it_must_and_no_other(
    store: Store, tmp_path: Path
) -> None:
    other = str(tmp_path / "other")
    train(TRUNK, Store(other), (10,))
    for order in (5, 6):
        train(branch(order), Store(other))
    # Each end is decomposed once, whatever is measured of it then.
    for spec in (PAIR.a, PAIR.b):
        assert [decompose_end(spec, Store(other)) for _ in range(2)] == [Work(0, LAYERS), Work()]
    # An end: whole, top and bottom half, on two splits.
    assert measure_end(PAIR.a, PAIR.a, Store(other)) == measure_end(PAIR.b, PAIR.a, Store(other)) == Work(6)
    # Nine points inside by three parts and two splits, and the nine of the matched line; the published way takes 66
    # evaluations for the line alone, ends included. Nine points are decomposed, and none of them twice.
    assert connect(PAIR, Store(other)) == Work(54 + 18, 9 * LAYERS)
    assert measure_end(PAIR.a, PAIR.a, Store(other)) == connect(PAIR, Store(other)) == Work()


def test_factors_that_are_not_kept_are_made_again_and_give_the_same_values(
    store: Store, values: dict[str, np.ndarray], tmp_path: Path
) -> None:
    other = str(tmp_path / "other")
    shutil.copytree(store.url, other)
    shutil.rmtree(Store(other).results)
    forget_factors(Store(other), TRUNK.experiment, [PAIR.a.run_id, PAIR.b.run_id])
    assert not Path(Store(other).scratch).exists()
    decompose_end(PAIR.a, Store(other))
    (kept,) = Path(Store(other).scratch).iterdir()
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    assert [measure_end(spec, PAIR.a, Store(other)) for spec in (PAIR.a, PAIR.b)] == [Work(6, LAYERS)] * 2
    assert len(list(Path(Store(other).scratch).iterdir())) == 2
    forget_factors(Store(other), TRUNK.experiment, [PAIR.b.run_id])
    assert list(Path(Store(other).scratch).iterdir()) == [kept]
    assert connect(PAIR, Store(other)) == Work(54 + 18, (9 + 1) * LAYERS)
    again = measured(PAIR, Store(other))
    assert again is not None and all(np.array_equal(again[name], values[name], equal_nan=True) for name in values)


def test_a_line_is_measured_again_where_an_end_has_other_weights_and_stays_where_it_has_the_same(
    store: Store, values: dict[str, np.ndarray], tmp_path: Path
) -> None:
    other = str(tmp_path / "other")
    shutil.copytree(store.url, other)
    before = final_weights(PAIR.b, Store(other))
    replaced(Store(other), PAIR.b, final_weights(PAIR.a, Store(other)))
    assert measured(PAIR, Store(other)) is None
    assert [measure_end(spec, PAIR.a, Store(other)) for spec in (PAIR.a, PAIR.b)] == [Work(), Work(6, LAYERS)]
    assert connect(PAIR, Store(other)) == Work(54 + 18, 9 * LAYERS)
    found = measured(PAIR, Store(other))
    assert found is not None and found["distance"] == 0 < values["distance"]
    replaced(Store(other), PAIR.b, before)
    assert measure_end(PAIR.b, PAIR.a, Store(other)) == connect(PAIR, Store(other)) == Work()
    again = measured(PAIR, Store(other))
    assert again is not None and all(np.array_equal(again[name], values[name], equal_nan=True) for name in values)


def test_the_ends_of_the_line_are_the_ends(store: Store, values: dict[str, np.ndarray]) -> None:
    for spec, place in ((PAIR.a, 0), (PAIR.b, -1)):
        name = end_id(finished(spec, store), data_key(PAIR.a, store))
        end = read_values(store.result("ends", TRUNK.experiment, name))
        assert end is not None
        assert all(np.array_equal(values[name][place], of, equal_nan=True) for name, of in end.values.items())


@pytest.mark.parametrize("place", [1, 5, 9])
def test_points_match_the_blended_weights(place: int, store: Store, values: dict[str, np.ndarray]) -> None:
    a, b = final_weights(PAIR.a, store), final_weights(PAIR.b, store)
    middle = {name: a[name] + ALPHAS[place] * (b[name] - a[name]) for name in a}
    meter = Meter(PAIR.a, store)
    for name, expected in meter.metrics(middle).items():
        np.testing.assert_allclose(values[name][place, 0], expected, rtol=1e-4, atol=1e-4)
    for i, layer in enumerate(meter.layers):
        s = np.linalg.svd(middle[layer.parameter].double().numpy(), compute_uv=False)
        np.testing.assert_allclose(values["singular_value"][place, i, : len(s)], s, atol=1.1e-6 * s[0])


def test_a_network_and_its_permutation_have_a_barrier_that_matching_removes(store: Store, tmp_path: Path) -> None:
    other = str(tmp_path / "permuted")
    train(TRUNK, Store(other), (10,))
    for order in (5, 6):
        train(branch(order), Store(other))
    a = final_weights(PAIR.a, Store(other))
    units = groups(get_experiment(TRUNK.experiment).net(TRUNK))
    orders = {group.name: torch.randperm(group.size, generator=torch.Generator().manual_seed(1)) for group in units}
    replaced(Store(other), PAIR.b, permute(a, units, orders))
    for spec in (PAIR.a, PAIR.b):
        measure_end(spec, PAIR.a, Store(other))
    connect(PAIR, Store(other))
    found = measured(PAIR, Store(other))
    assert found is not None
    np.testing.assert_allclose(found["loss"][0], found["loss"][-1], rtol=1e-5)
    assert abs(barrier(np.moveaxis(found["loss"][:, 0], 0, -1))).max() > 1e-3
    np.testing.assert_allclose(barrier(np.moveaxis(found["matched_loss"], 0, -1)), 0, atol=1e-6)
    assert found["matched_distance"] == 0 < found["distance"]
    np.testing.assert_allclose(found["matched_agreement_score"], 1, atol=1e-4)
    assert found["agreement_score"].min() < 0.9


def test_the_agreement_of_matched_ends_is_that_of_float64s_singular_vectors(store: Store) -> None:
    """The permuted end is not decomposed: the vectors of the end, its units in other places, are as exact."""
    pair = Pair(a=TRUNK, b=dataclasses.replace(TRUNK, seed=1), kind="across", points=3)
    train(pair.b, store)
    for spec in (pair.a, pair.b):
        measure_end(spec, pair.a, store)
    assert connect(pair, store)[1] == LAYERS
    values = measured(pair, store)
    assert values is not None
    a, b = final_weights(pair.a, store), final_weights(pair.b, store)
    units = groups(get_experiment(TRUNK.experiment).net(TRUNK))
    order = match(a, b, units, seed=0).permutations
    assert any(not torch.equal(p, torch.arange(len(p))) for p in order.values())
    moved = permute(b, units, order)
    compared = 0
    for i, layer in enumerate(network_layout(TRUNK).layers):
        found = [np.linalg.svd(layer.of(w).double().numpy(), full_matrices=False) for w in (a, moved)]
        (u, _, vt), (x, _, yt) = found
        expected = np.abs((u * x).sum(0) * (vt * yt).sum(1))
        # A float32 decomposition is that of a matrix which differs by max(M, N) eps s_1; by Wedin's theorem that turns
        # a vector by this over the distance to the nearest other value, of which zero is one. Four vectors are turned.
        tolerance = sum(4 * max(layer.of(a).shape) * np.finfo(np.float32).eps * s[0] / gaps(s) for _, s, _ in found)
        sure = tolerance < 0.01
        compared += int(sure.sum())
        difference = np.abs(values["matched_agreement"][i, : len(expected)] - expected)
        assert (difference[sure] <= tolerance[sure]).all()
    assert compared > 3 * LAYERS


def gaps(s: np.ndarray) -> np.ndarray:
    """How far each value lies from the nearest other one, and from zero."""
    apart = np.abs(s[:, None] - s[None]) + np.diag(s)
    return np.asarray(apart.min(axis=1))


def test_layers_on_the_line_by_themselves(store: Store) -> None:
    pair = dataclasses.replace(PAIR, layerwise=True)
    assert pair.pair_id != PAIR.pair_id
    for spec in (pair.a, pair.b):
        measure_end(spec, pair.a, store)
    connect(pair, store)
    found = measured(pair, store)
    assert found is not None
    assert found["layer_loss"].shape == (11, LAYERS, 2)
    a, b = final_weights(pair.a, store), final_weights(pair.b, store)
    meter = Meter(pair.a, store)
    for i, layer in enumerate(meter.layers):
        mixed = {**a, layer.parameter: blend(a, b, ALPHAS[3])[layer.parameter]}
        np.testing.assert_allclose(found["layer_loss"][3, i], meter.metrics(mixed)["loss"], rtol=1e-6)
        np.testing.assert_array_equal(found["layer_loss"][0, i], found["loss"][0, 0])


def test_the_cube_has_labels_barriers_and_opens_in_plain_xarray(store: Store, values: dict[str, np.ndarray]) -> None:
    curved = dataclasses.replace(PAIR, curve_steps=3)
    graph = Graph(
        name="hand",
        experiment=TRUNK.experiment,
        trunks=(TRUNK,),
        splits=(10,),
        branches=(PAIR.a, PAIR.b),
        pairs=(PAIR, curved),
    )
    graph.results(store).write(None)
    opened = xr.open_zarr(store.connectivity("hand"))
    assert opened.sizes["alpha"] == 11
    assert opened["status"].values.tolist() == ["done", "planned"], "the other one is to be measured"
    assert np.isnan(opened["curve_loss"]).all() and np.isnan(opened["loss"].isel(pair=1)).all()
    assert "stored_loss" not in opened, "this network keeps no statistics"
    assert "layer_loss" not in opened, "no pair asks for it"
    pair, opened = opened.isel(pair=0), opened.isel(pair=[0])
    for name, expected in values.items():
        np.testing.assert_array_equal(pair[name], expected)
    assert (str(pair.kind.values), int(pair.split_step), int(pair.order_a), int(pair.order_b)) == ("within", 10, 5, 6)
    curve = pair.loss.sel(kept="all", split="val").values
    straight = curve[0] + np.linspace(0, 1, 11) * (curve[-1] - curve[0])
    expected = (curve - straight)[1:-1].max()
    assert float(pair.barrier_loss.sel(kept="all", split="val")) == pytest.approx(expected, abs=1e-6)
    assert opened.loss.attrs["units"] == "1" or opened.loss.attrs["units"]
    assert opened.agreement_null.values == pytest.approx(
        [(2 / np.pi) / np.sqrt(m * n) for m, n in network_layout(TRUNK).shapes] * np.ones((1, LAYERS))
    )


def test_a_pair_before_its_ends_and_a_run_that_is_not_finished_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"run {PAIR.a.run_id} of modular_addition is not finished .* train it first"):
        measure_end(PAIR.a, PAIR.a, Store(str(tmp_path)))
    train(TRUNK, Store(str(tmp_path)), (10,))
    for order in (5, 6):
        train(branch(order), Store(str(tmp_path)))
    with pytest.raises(ValueError, match=f"the end {PAIR.a.run_id} .* is not measured yet"):
        connect(PAIR, Store(str(tmp_path)))


def test_ends_are_shared_by_runs_on_the_same_data_alone(store: Store) -> None:
    # The split of modular addition depends on the seed, not on weight decay.
    decayed = with_settings(TRUNK, weight_decay=0.5)
    assert data_key(decayed, store) == data_key(TRUNK, store)
    assert data_key(dataclasses.replace(TRUNK, seed=1), store) != data_key(TRUNK, store)


def test_overlap_of_subspaces_is_the_mean_squared_cosine(store: Store, values: dict[str, np.ndarray]) -> None:
    ends = final_weights(PAIR.a, store), final_weights(PAIR.b, store)
    for i, layer in enumerate(network_layout(TRUNK).layers):
        (u, _, v), (x, _, y) = (np.linalg.svd(w[layer.parameter].double().numpy(), full_matrices=False) for w in ends)
        for j, k in enumerate((1, 2, 4, 8)):
            expected = [((u[:, :k].T @ x[:, :k]) ** 2).sum() / k, ((v[:k] @ y[:k].T) ** 2).sum() / k]
            np.testing.assert_allclose(values["subspace_overlap"][i, :, j], expected, atol=2e-3)
        assert np.isnan(values["subspace_overlap"][i, :, 4:]).all()  # twelve directions at most


def test_a_trained_curve_rises_less_than_the_straight_line(tmp_path: Path) -> None:
    store = str(tmp_path)
    one = with_settings(TRUNK, steps=300, learning_rate=0.01, weight_decay=0.0)
    train(one, Store(store), (0,))
    other = dataclasses.replace(one, start=StartFrom(run_id=one.run_id, step=0, order=9))
    train(other, Store(store))
    a, b, meter = final_weights(one, Store(store)), final_weights(other, Store(store)), Meter(one, Store(store))
    control = train_control(one, Store(store), a, b, 300)
    straight = [float(meter.metrics(blend(a, b, t))["loss"][0]) for t in ALPHAS]
    curved = [float(meter.metrics(bezier(a, control, b, t))["loss"][0]) for t in ALPHAS]
    assert (curved[0], curved[-1]) == (straight[0], straight[-1])
    assert barrier(curved) < 0.5 * barrier(straight)
    untrained = train_control(one, Store(store), a, b, 0)
    for t in (0.25, 0.5):
        line, curve = blend(a, b, t), bezier(a, untrained, b, t)
        assert all(torch.allclose(line[name], curve[name], atol=1e-6) for name in line)


def test_curves_are_part_of_a_pair_that_asks_for_them(store: Store) -> None:
    pair = dataclasses.replace(PAIR, curve_steps=3)
    for spec in (pair.a, pair.b):
        measure_end(spec, pair.a, store)
    connect(pair, store)
    found = measured(pair, store)
    assert found is not None
    assert found["curve_loss"].shape == (11, 2)
    np.testing.assert_array_equal(found["curve_loss"][[0, -1]], found["loss"][[0, -1], 0])


def test_a_line_of_fewer_points_holds_every_second_one(store: Store, values: dict[str, np.ndarray]) -> None:
    pair = dataclasses.replace(PAIR, points=6)
    connect(pair, store)
    found = measured(pair, store)
    assert found is not None
    np.testing.assert_allclose(pair.alphas, ALPHAS[::2], atol=1e-15)
    np.testing.assert_allclose(found["loss"], values["loss"][::2], rtol=1e-5)
    np.testing.assert_allclose(found["matched_loss"], values["matched_loss"][::2], rtol=1e-5)
    with pytest.raises(ValueError, match="points=2 is not allowed: expected 3 or more"):
        dataclasses.replace(PAIR, points=2)


def test_a_program_measures_the_same_of_a_network_of_its_own(store: Store, values: dict[str, np.ndarray]) -> None:
    meter, weights = Meter(PAIR.a, store), [read_finished(store, finished(s, store), 20) for s in (PAIR.a, PAIR.b)]

    def evaluate(net: nn.Module) -> dict[str, float]:
        found = meter.metrics(net.state_dict())
        return {f"{s}_{name}": float(of[i]) for name, of in found.items() for i, s in enumerate(("train", "val"))}

    def build() -> nn.Module:
        return experiment_of(PAIR.a).net(PAIR.a)

    line = sd.connect(weights, build, evaluate, progress=False).to_dataset().isel(pair=0)
    for name in ("loss", "err"):
        np.testing.assert_allclose(line[name], values[name][:, 0], rtol=1e-5, atol=1e-7)
    for name in ("effective_rank", "singular_value", "agreement_score", "subspace_overlap", "distance", "cosine"):
        np.testing.assert_allclose(line[name], values[name], rtol=1e-4, atol=1e-5)
