"""Windows of updates against an SVD of the updates themselves, and splits of which every number is known."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import specdyn as sd
from reference.views import matrix, run_view
from specdyn.models.nets.decay_sums import SINCE, SUM
from specdyn.tasks.analyses.update_windows import LENGTH, grams, windows
from specdyn.tasks.spectra.analysis import get_analysis


def history(updates: np.ndarray, decays: np.ndarray | None = None) -> list[dict[str, Tensor]]:
    """Checkpoints of a layer of 4 x 3 that moves by these updates (T - 1, 12), with what decay did of them."""
    path = np.concatenate([np.zeros((1, 12)), np.cumsum(updates, axis=0)]).reshape(-1, 4, 3)
    points = [{"w": matrix(w)} for w in path]
    for i, point in enumerate(points if decays is not None else []):
        point["w" + SUM] = matrix((decays[i - 1] if i else np.zeros(12)).reshape(4, 3))
        point[SINCE] = torch.tensor(10 * (i - 1) if i else -1)
    return points


def measured(points: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    view = run_view([{"w": of["w"]} for of in points])
    return dict(get_analysis("update_windows").compute(dataclasses.replace(view, read=lambda step: points[step // 10])))


def test_singular_values_match_the_updates() -> None:
    rng = np.random.default_rng(0)
    updates, decays = rng.integers(-4, 5, (13, 12)) / 8, rng.integers(-4, 5, (13, 12)) / 8
    found = measured(history(updates, decays))
    for i, of in enumerate((updates, updates - decays, decays)):
        for step in range(14):
            values = found["window_singular_value"][0, step, i]
            if step < LENGTH:
                assert np.isnan(values).all()
                continue
            s = np.linalg.svd(of[step - LENGTH : step], compute_uv=False)
            np.testing.assert_allclose(values, s, rtol=1e-6, atol=1e-7)
            ratios = (s[:-1] / s[1:])[:5]
            assert found["window_edge"][0, step, i] == 1 + ratios.argmax()
            np.testing.assert_allclose(found["window_edge_ratio"][0, step, i], ratios.max(), rtol=1e-5)
            v = np.linalg.svd(updates[step - LENGTH : step])[2][0]
            d, g = (part[step - LENGTH : step] @ v for part in (decays, updates - decays))
            np.testing.assert_allclose(found["window_decay_share"][0, step], d @ d / (d @ d + g @ g), rtol=1e-6)
            cosine = d @ g / math.sqrt(d @ d * (g @ g))
            np.testing.assert_allclose(found["window_decay_alignment"][0, step], cosine, rtol=1e-5)


def test_the_edge_is_the_number_of_directions_of_the_signal() -> None:
    signal = np.zeros((10, 12))
    signal[np.arange(10), np.arange(10)] = [8.0, 6.0, 5.0, *[0.5] * 7]  # orthogonal: they are the singular values
    found = measured(history(signal))
    assert found["window_edge"][0, 10].tolist()[0] == 3
    np.testing.assert_allclose(found["window_edge_ratio"][0, 10, 0], 10, rtol=1e-5)
    np.testing.assert_allclose(found["window_singular_value"][0, 10, 0], [8, 6, 5, *[0.5] * 7], rtol=1e-5)
    assert np.isnan(found["window_edge"][0, 10, 1:]).all() and np.isnan(found["window_decay_share"]).all()


@pytest.mark.parametrize(("gradient", "decay", "share", "cosine"), [(1.0, 1.0, 0.5, 1), (3.0, -1.0, 0.1, -1)])
def test_the_split_along_one_direction(gradient: float, decay: float, share: float, cosine: float) -> None:
    along = np.zeros((10, 12))
    along[:, 0] = 1
    found = measured(history((gradient + decay) * along, decay * along))
    np.testing.assert_allclose(found["window_decay_share"][0, 10], share, rtol=1e-6)
    np.testing.assert_allclose(found["window_decay_alignment"][0, 10], cosine, rtol=1e-6)
    np.testing.assert_allclose(found["window_singular_value"][0, 10, 2, 0], math.sqrt(10) * abs(decay), rtol=1e-6)


def test_a_sum_since_another_checkpoint_is_not_mistaken_for_the_update() -> None:
    rng = np.random.default_rng(1)
    points = history(rng.normal(size=(12, 12)), rng.normal(size=(12, 12)))
    points[2][SINCE] = torch.tensor(0)
    found = measured(points)
    known = np.isfinite(found["window_edge_ratio"][0, 10:])
    assert known[:, 0].all() and known[:, 1].tolist() == known[:, 2].tolist() == [False, False, True]
    assert np.isfinite(found["window_decay_share"][0, 10:]).tolist() == [False, False, True]


def test_the_network_is_all_layers_as_one_vector() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(-4, 5, (2, 11, 12)) / 8
    points = [{**one, "v": other["w"]} for one, other in zip(history(a), history(b), strict=True)]
    found = get_analysis("update_windows").compute(run_view(points))
    s = np.linalg.svd(np.concatenate([a, b], axis=1)[1:11], compute_uv=False)
    np.testing.assert_allclose(found["network_window_singular_value"][11, 0], s, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_short_runs_and_weights_that_stay_have_no_edge(steps: int) -> None:
    assert all(np.isnan(of).all() for of in measured(history(np.ones((steps - 1, 12)))).values())
    still = windows(grams(np.zeros((10, 3)), np.zeros((10, 3))), 11)
    assert np.isnan(still["edge"]).all() and np.isnan(still["decay_share"]).all()


def test_it_runs_on_request() -> None:
    assert not get_analysis("update_windows").default


def test_the_split_of_a_run_that_recorded_its_decay_is_in_its_cube(tmp_path: Path) -> None:
    options = {"steps": 24, "checkpoint_every": 2, "record_decay": [True, False], "store": str(tmp_path)}
    tree = sd.run("modular_addition", "smoke", weight_decay=[1.0], analyses=["update_windows"], **options)
    ratios = tree["metrics"].to_dataset()["network_window_edge_ratio"]
    recorded = ratios["record_decay"].values.astype(bool)
    assert np.isfinite(ratios.sel(step=[20, 22, 24], portion="total")).all()
    assert (np.isfinite(ratios.sel(step=24, portion=["gradient", "decay"])).values == recorded[:, None]).all()
    # Weights are the same with and without, and so are whole updates.
    np.testing.assert_array_equal(*ratios.sel(portion="total"))
