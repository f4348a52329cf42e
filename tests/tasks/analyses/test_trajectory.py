"""Principal components of trajectories against an SVD of the whole, centred trajectory by numpy."""

import dataclasses
import math
from collections.abc import Mapping
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from reference.views import matrix, run_view
from specdyn.tasks.spectra import trajectories
from specdyn.tasks.spectra.analysis import get_analysis
from specdyn.tasks.spectra.trajectories import COMPONENTS, kept_width, principal, sketch


def history(steps: int, seed: int = 0) -> list[dict[str, Tensor]]:
    """Weights that wander about 1, with steps that grow smaller along each next of their directions."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (12, 8), "b": (6, 5, 2, 2)}
    scales = 0.5 ** np.arange(steps)
    paths = {
        name: 1 + np.einsum("tk,k,kmn->tmn", rng.normal(size=(steps, steps)), scales, rng.normal(size=(steps, m, n)))
        for name, (m, n) in {"a": (12, 8), "b": (6, 20)}.items()
    }
    return [{name: matrix(path[t].reshape(shapes[name])) for name, path in paths.items()} for t in range(steps)]


def full(points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Variances and coordinates of all components, the last coordinate positive."""
    x = np.stack(points).astype(float)
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return s**2, u * s * np.sign(u[-1])


@pytest.mark.parametrize("steps", [2, 5, 14])
def test_components_match_the_whole_trajectory(steps: int) -> None:
    weights = history(steps)
    found = get_analysis("trajectory").compute(run_view(weights))
    kept = min(steps, COMPONENTS)
    layers = [[w[name].numpy().ravel() for w in weights] for name in ("a", "b")]
    joint = [np.concatenate(both) for both in zip(*layers, strict=True)]
    for i, points in enumerate(layers):
        variances, coordinates = full(points)
        np.testing.assert_allclose(
            found["trajectory_explained_variance"][i], variances[:kept] / variances.sum(), atol=1e-9
        )
        near = min(kept, steps - 1)  # T points have T - 1 components
        np.testing.assert_allclose(found["trajectory_coordinate"][i][:, :near], coordinates[:, :near], atol=1e-6)
        assert found["trajectory_participation_ratio"][i] == pytest.approx(variances.sum() ** 2 / (variances**2).sum())
    variances, coordinates = full(joint)
    np.testing.assert_allclose(
        found["network_trajectory_explained_variance"], variances[:kept] / variances.sum(), atol=1e-9
    )
    np.testing.assert_allclose(found["network_trajectory_coordinate"][:, 0], coordinates[:, 0], atol=1e-6)
    assert found["trajectory_coordinate"].shape == (2, steps, kept)


def test_a_straight_way_has_one_component() -> None:
    start, along = np.ones((3, 2)), np.array([[3.0, 0], [0, 4], [0, 0]])
    found = get_analysis("trajectory").compute(run_view([{"w": matrix(start + t * along)} for t in range(4)]))
    np.testing.assert_allclose(found["trajectory_explained_variance"][0], [1, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(found["trajectory_coordinate"][0, :, 0], [-7.5, -2.5, 2.5, 7.5])  # steps of length 5
    assert found["trajectory_participation_ratio"][0] == pytest.approx(1)


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_that_stay_have_no_components(steps: int) -> None:
    found = get_analysis("trajectory").compute(run_view([{"w": 0.1 * torch.ones(3, 2)}] * steps))
    assert np.isnan(found["trajectory_explained_variance"]).all()
    assert found["trajectory_coordinate"].shape == (1, steps, steps)
    assert np.isnan(found["trajectory_participation_ratio"]).all()


def test_every_checkpoint_is_read_once() -> None:
    view = run_view(history(4))
    reads: list[int] = []

    def read(step: int) -> Mapping[str, Tensor]:
        reads.append(step)
        return view.read(step)

    get_analysis("trajectory").compute(dataclasses.replace(view, read=read))
    assert reads == list(view.steps)


def test_a_sketch_keeps_inner_products_within_its_error() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(2, 6000))
    width, norms = 500, float(np.linalg.norm(x) * np.linalg.norm(y))
    errors, variances = [], []
    for name in map(str, range(200)):
        kept = [sketch(torch.tensor(v), width, name) for v in (x, y)]
        assert kept[0].shape == (width,)
        errors.append((kept[0] @ kept[1] - x @ y) / norms)
        variances.append(errors[-1] ** 2)
    assert abs(np.mean(errors)) < 4 * math.sqrt(2 / width / 200)
    # Of spread vectors the variance is (1 + cos^2) / width.
    cosine = x @ y / norms
    assert math.sqrt(np.mean(variances)) == pytest.approx(math.sqrt((1 + cosine**2) / width), rel=0.2)


def test_a_sketch_is_linear_and_exact_where_it_has_room() -> None:
    x, y = torch.randn(2, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(sketch(x + 2 * y, 40, "w"), sketch(x, 40, "w") + 2 * sketch(y, 40, "w"), atol=1e-12)
    np.testing.assert_array_equal(sketch(x.view(20, 15), 300, "w"), x)
    assert not np.allclose(sketch(x, 40, "w"), sketch(x, 40, "v"))


def test_explained_shares_of_a_sketched_trajectory_are_near() -> None:
    rng = np.random.default_rng(1)
    scales = np.array([4.0, 2.0, 1.0])
    paths = np.einsum("tk,k,kmn->tmn", rng.normal(size=(20, 3)), scales, rng.normal(size=(3, 100, 90)))
    weights = [{"w": matrix(w)} for w in paths]
    exact = get_analysis("trajectory").compute(run_view(weights))["trajectory_explained_variance"][0]
    with patch.object(trajectories, "WIDEST", 2048):
        near = get_analysis("trajectory").compute(run_view(weights))["trajectory_explained_variance"][0]
    assert not np.array_equal(near, exact)
    np.testing.assert_allclose(near[:3], exact[:3], rtol=4 * math.sqrt(2 / 2048))
    np.testing.assert_allclose(near[3:], 0, atol=1e-9)  # of rank three, sketched or not


@pytest.mark.parametrize(("layers", "steps"), [(1, 1), (6, 1001), (50, 15), (50, 1000), (400, 10_000_000)])
def test_what_is_kept_stays_below_the_bound(layers: int, steps: int) -> None:
    width = kept_width(layers, steps)
    assert 1 <= width <= 2**14
    assert width == 1 or 8 * width * layers * steps <= 2**29
    assert width == 2**14 or 8 * (width + 1) * layers * steps > 2**29


def test_only_ten_components_are_kept_and_all_count_for_participation() -> None:
    found = principal(np.diag(np.arange(15, 0, -1.0)))
    assert found.explained.tolist() == [v / 120 for v in range(15, 5, -1)]
    assert found.participation == pytest.approx(120**2 / sum(v * v for v in range(1, 16)))
