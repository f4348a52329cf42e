"""Numbers of one spectrum, against values worked out by hand and float64 numpy."""

import math

import numpy as np
import pytest
import torch

from reference.spectra import matrix_with
from reference.views import decomposed, matrix, of_layer
from specdyn.models.nets.matrices import Matrix
from specdyn.tasks.spectra.analysis import CheckpointView, get_analysis
from specdyn.tasks.spectra.decomposition import singular_values
from specdyn.tasks.spectra.spectral import FRACTIONS, energy_ranks, gaps, spectral_edge

GOLDEN = np.diag([4.0, 2.0, 1.0, 1.0])


def test_the_shape_of_4_2_1_1() -> None:
    found = of_layer("shape", matrix(GOLDEN))
    # p = 1/2, 1/4, 1/8, 1/8; energies 16, 4, 1, 1 of 22; sum s^4 = 256 + 16 + 1 + 1 = 274
    assert found["entropy"] == pytest.approx(1.75 * math.log(2), rel=1e-6)
    q = np.array([16, 4, 1, 1]) / 22
    assert found["svd_entropy"] == pytest.approx(-(q * np.log(q)).sum() / math.log(4), rel=1e-6)
    assert found["participation_ratio"] == pytest.approx(484 / 274, rel=1e-6)
    assert found["renyi_entropy"] == pytest.approx(math.log(484 / 274), rel=1e-6)
    assert found["stable_rank"] == pytest.approx(22 / 16, rel=1e-6)
    assert found["gini"] == pytest.approx(0.3125, rel=1e-6)
    assert found["top_half_energy"] == pytest.approx(20 / 22, rel=1e-6)
    # cumulated 16, 20, 21, 22 of 22: .5 is passed at once, .9 = 19.8 at the second, .99 = 21.78 at the last
    assert found["energy_rank"].tolist() == [1, 2, 4]


def test_the_top_half_of_an_odd_rank_has_the_middle_value() -> None:
    assert of_layer("shape", matrix(np.diag([2.0, 1.0, 1.0])))["top_half_energy"] == pytest.approx(5 / 6, rel=1e-6)


@pytest.mark.parametrize("n", [2, 10, 100])
def test_the_shape_of_equal_values(n: int) -> None:
    found = of_layer("shape", matrix_with(np.full(n, 0.3), n + 3, n))
    expected = {
        "entropy": math.log(n),
        "svd_entropy": 1,
        "renyi_entropy": math.log(n),
        "stable_rank": n,
        "participation_ratio": n,
        "gini": 0,
        "top_half_energy": 0.5,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    assert of_layer("shape", torch.eye(n))["energy_rank"].tolist() == [math.ceil(q * n - 1e-9) for q in FRACTIONS]


@pytest.mark.parametrize("n", [10, 30, 100])
def test_a_share_that_is_reached_but_for_rounding_is_reached(n: int) -> None:
    for value in np.linspace(0.1, 3, 50):
        assert energy_ranks(np.full(n, value)).tolist() == [math.ceil(q * n - 1e-9) for q in FRACTIONS]


def test_the_shape_of_rank_one() -> None:
    found = of_layer("shape", matrix(np.outer([1, 2, 3], [1, -1, 1, 1])))
    for name in ("stable_rank", "participation_ratio", "top_half_energy"):
        assert found[name] == pytest.approx(1, rel=1e-6)
    for name in ("entropy", "svd_entropy", "renyi_entropy"):
        assert found[name] == pytest.approx(0, abs=1e-5)
    assert found["gini"] == pytest.approx(2 / 3, rel=1e-5)  # 1 - 1 / R
    assert found["energy_rank"].tolist() == [1, 1, 1]


def test_a_single_row_has_no_normalised_entropy_and_no_gap() -> None:
    found = of_layer("shape", matrix([[3, 4]]))
    assert math.isnan(found["svd_entropy"])
    assert found["entropy"] == 0
    norms = of_layer("norms", matrix([[3, 4]]))
    assert norms["spectral_norm"] == pytest.approx(5)
    assert norms["condition_number"] == 1
    assert norms["singular_value_gap"].shape == (0,)


@pytest.mark.parametrize("name", ["shape", "norms", "marchenko_pastur", "power_law", "updates"])
def test_a_zero_matrix_has_norms_of_zero_and_no_shape(name: str) -> None:
    zero = torch.zeros(5, 4)
    found = of_layer(name, zero, previous=zero)
    for key, value in found.items():
        if key in {"power_law_tail", "update_singular_value"} or (key.endswith("_norm") and name == "norms"):
            assert not np.any(value), key
        elif key == "distance_from_initial":
            assert value == 0
        elif key == "power_law_status":
            assert value == 3
        else:
            assert np.isnan(value).all(), key


def test_norms_and_gaps() -> None:
    rng = np.random.default_rng(0)
    w, began = rng.normal(size=(7, 5)), rng.normal(size=(7, 5))
    found = of_layer("norms", matrix(w), initial=matrix(began))
    s = np.linalg.svd(w, compute_uv=False)
    assert found["spectral_norm"] == pytest.approx(np.linalg.norm(w, 2), rel=1e-5)
    assert found["frobenius_norm"] == pytest.approx(np.linalg.norm(w), rel=1e-5)
    assert found["nuclear_norm"] == pytest.approx(np.linalg.norm(w, "nuc"), rel=1e-5)
    assert found["condition_number"] == pytest.approx(np.linalg.cond(w), rel=1e-4)
    np.testing.assert_allclose(found["singular_value_gap"], s[:-1] / s[1:], rtol=1e-4)
    assert found["distance_from_initial"] == pytest.approx(np.linalg.norm(w - began), rel=1e-5)
    relative = np.linalg.norm(w - began) / np.linalg.norm(began)
    assert found["relative_distance_from_initial"] == pytest.approx(relative, rel=1e-5)


def test_what_began_as_zero_has_moved_by_its_norm_and_by_no_share() -> None:
    found = of_layer("norms", matrix(GOLDEN), initial=torch.zeros(4, 4))
    assert found["distance_from_initial"] == pytest.approx(math.sqrt(22))
    assert math.isnan(found["relative_distance_from_initial"])


def test_ratios_to_what_float32_does_not_tell_from_zero_are_missing() -> None:
    s = np.array([1, 0.5, 2e-5, 0.5e-5, 0])
    np.testing.assert_allclose(gaps(s), [2, 25_000, np.nan, np.nan])
    deficient = of_layer("norms", matrix_with([3, 2, 1], 6, 5))
    assert math.isnan(deficient["condition_number"])
    assert np.isnan(deficient["singular_value_gap"]).tolist() == [False, False, True, True]


def test_the_norm_product_adds_the_logarithms_of_all_layers() -> None:
    weights = {"a": matrix(GOLDEN), "b": 3 * torch.eye(2), "c": 0.5 * torch.ones(1, 4)}

    def product() -> object:
        view = CheckpointView(
            now=decomposed(weights),
            layers=tuple(Matrix(parameter=name) for name in weights),
            evaluate=None,  # type: ignore[arg-type]
        )
        return get_analysis("norm_product").compute(view)["log_norm_product"]

    assert product() == pytest.approx(math.log(4 * 3 * 1), rel=1e-6)
    weights["b"] = torch.zeros(2, 2)
    assert math.isnan(product())  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6), (1, 5), (9000, 3), (3, 8, 5)])
def test_values_without_vectors_match_numpy(shape: tuple[int, ...]) -> None:
    w = np.random.default_rng(1).normal(size=shape)
    expected = np.linalg.svd(w, compute_uv=False)
    np.testing.assert_allclose(singular_values(torch.tensor(w)), expected, rtol=1e-10)
    deficient = np.outer(np.arange(1, 6), np.arange(1, 4)).astype(float)
    found = singular_values(torch.tensor(deficient))
    np.testing.assert_allclose(found, np.linalg.svd(deficient, compute_uv=False), atol=1e-6 * found[0])


def test_the_edge_is_the_largest_ratio_in_the_first_half() -> None:
    # ratios 2, 5, 1, 1, 8, 1 of 7 values: 8 is past the first three
    assert spectral_edge(np.array([80, 40, 8, 8, 8, 1, 1.0])) == (2, 5)
    assert spectral_edge(np.array([6, 2.0])) == (1, 3)
    # beyond an exact rank of 2 there is only noise
    k, ratio = spectral_edge(np.array([3, 1.5, 4e-9, 1e-15, 0, 0]))
    assert (k, ratio) == (2, pytest.approx(0.5e5))
    assert np.isnan([spectral_edge(np.array([3.0])), spectral_edge(np.zeros(3))]).all()
