"""The Marchenko-Pastur law against its density integrated numerically, and what is measured against it."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from reference.spectra import matrix_with, orthonormal
from reference.views import matrix, of_layer
from specdyn.tasks.analyses.marchenko_pastur import against_the_law, entry_variance
from specdyn.tasks.spectra.random_matrices import cdf, edges, kolmogorov_smirnov, quantiles, tracy_widom_edge

LAWS = [(1.0, 1.0), (0.3, 1.0), (1.0, 1.7), (2.5, 4.0), (1.0, 60.0)]


def integrated(x: float, variance: float, q: float) -> float:
    """The density Q / (2 pi s2) sqrt((l+ - l)(l - l-)) / l integrated from the lower edge to x."""
    low, high = variance * (1 - q**-0.5) ** 2, variance * (1 + q**-0.5) ** 2

    def density(of: float) -> float:
        return q / (2 * math.pi * variance) * math.sqrt(max((high - of) * (of - low), 0)) / of

    # With l = low + t^2 the density at a lower edge of 0 stays bounded.
    upper = math.sqrt(max(min(x, high) - low, 0))
    return quad(lambda t: 2 * t * density(low + t * t) if t else 0.0, 0, upper, limit=400)[0]


@pytest.mark.parametrize(("variance", "q"), LAWS)
def test_the_distribution_is_the_integral_of_the_density(variance: float, q: float) -> None:
    low, high = edges(variance, q)
    x = np.linspace(low, high, 12)
    np.testing.assert_allclose(cdf(x, variance, q), [integrated(v, variance, q) for v in x], atol=1e-7)
    np.testing.assert_allclose(cdf(np.array([low / 2 - 0.1, 2 * high]), variance, q), [0, 1], atol=1e-12)


@pytest.mark.parametrize(("variance", "q"), LAWS)
def test_quantiles_invert_the_distribution(variance: float, q: float) -> None:
    p = np.linspace(0, 1, 21)
    np.testing.assert_allclose(cdf(quantiles(p, variance, q), variance, q), p, atol=1e-5)


@pytest.mark.parametrize(("variance", "q"), LAWS)
def test_the_mean_of_the_law_is_the_variance(variance: float, q: float) -> None:
    assert quantiles((np.arange(20_000) + 0.5) / 20_000, variance, q).mean() == pytest.approx(variance, rel=1e-5)


def test_the_distance_is_the_largest_on_either_side_of_a_jump() -> None:
    q, variance = 4.0, 1.0
    # One value at the median: half the law lies on either side. One at the lower edge: all of it lies above.
    median = quantiles(np.array([0.5]), variance, q)
    assert kolmogorov_smirnov(median, variance, q) == pytest.approx(0.5, abs=1e-5)
    assert kolmogorov_smirnov(np.array([edges(variance, q)[0]]), variance, q) == pytest.approx(1)
    assert kolmogorov_smirnov(np.array([edges(variance, q)[1]]), variance, q) == pytest.approx(1)
    assert math.isnan(kolmogorov_smirnov(np.array([]), variance, q))


@pytest.mark.parametrize(("rows", "columns"), [(40, 200), (200, 40), (60, 60), (1, 30)])
def test_the_variance_is_that_of_the_entries(rows: int, columns: int) -> None:
    w = np.random.default_rng(0).normal(0.7, 0.5, size=(rows, columns))
    assert entry_variance(matrix(w)) == pytest.approx(w.var(), rel=1e-4)


def test_a_constant_matrix_has_no_law() -> None:
    found = of_layer("marchenko_pastur", 0.37 * torch.ones(30, 20))
    assert np.isnan(list(found.values())).all()


def test_planted_spikes_are_counted_and_the_bulk_follows_the_law() -> None:
    rng = np.random.default_rng(3)
    rows, columns, deviation = 300, 100, 0.2
    noise = rng.normal(0, deviation, size=(rows, columns))
    # The noise's largest singular value is about .2 (sqrt 300 + sqrt 100) = 5.5.
    spikes = orthonormal(rows, 3, 5) @ np.diag([40.0, 30.0, 20.0]) @ orthonormal(columns, 3, 6).T
    w = noise + spikes
    found = of_layer("marchenko_pastur", matrix(w))
    assert found["mp_spikes"] == found["mp_spikes_finite"] == 3
    variance, eigenvalues = w.var(), np.linalg.eigvalsh(w.T @ w) / rows
    q = rows / columns
    assert found["mp_upper_edge"] == pytest.approx(variance * (1 + 1 / math.sqrt(q)) ** 2, rel=1e-4)
    assert found["mp_lower_edge"] == pytest.approx(variance * (1 - 1 / math.sqrt(q)) ** 2, rel=1e-4)
    assert found["mp_soft_rank"] == pytest.approx(found["mp_upper_edge"] / eigenvalues[-1], rel=1e-4)
    # The spikes widen the law beyond what the noise fills: 2900 of 1200 + 2900 is their energy.
    assert found["mp_below"] == (eigenvalues < found["mp_lower_edge"]).sum() > 0
    plain = of_layer("marchenko_pastur", matrix(noise))
    assert plain["mp_spikes_finite"] == 0
    assert plain["mp_ks"] < 0.05 < found["mp_ks"]
    assert plain["mp_wasserstein"] < 0.03 < found["mp_wasserstein"]


def test_distances_are_of_the_bulk_and_of_the_whole_spectrum() -> None:
    rng = np.random.default_rng(4)
    s = np.linalg.svd(rng.normal(size=(200, 80)), compute_uv=False)
    spiked = s.copy()
    spiked[0] *= 10
    before, after = (against_the_law(values, 200, 80, 1.0) for values in (s, spiked))
    # One eigenvalue grows from l to 100 l: the mean distance by 99 l / 80.
    grown = 99 * s[0] ** 2 / 200 / 80
    assert after["mp_wasserstein"] - before["mp_wasserstein"] == pytest.approx(grown, rel=0.02)
    assert after["mp_ks"] == pytest.approx(before["mp_ks"], abs=0.02)
    doubled = against_the_law(math.sqrt(2) * s, 200, 80, 2.0)
    assert doubled["mp_wasserstein"] == pytest.approx(before["mp_wasserstein"])
    assert doubled["mp_ks"] == pytest.approx(before["mp_ks"])


def test_exact_quantiles_have_no_distance() -> None:
    rows, columns = 900, 300
    p = (np.arange(columns) + 0.5) / columns
    s = np.sqrt(rows * quantiles(p, 1.0, rows / columns))[::-1]
    found = against_the_law(s, rows, columns, 1.0)
    assert found["mp_wasserstein"] == pytest.approx(0, abs=1e-9)
    assert found["mp_ks"] == pytest.approx(0.5 / columns, abs=1e-6)


def test_one_in_a_hundred_gaussian_matrices_exceeds_the_finite_edge() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(2000, 60, 30))
    largest = np.linalg.svd(w, compute_uv=False)[:, 0] ** 2 / 60
    above = (largest > tracy_widom_edge(1.0, 60, 30)).mean()
    assert 0.004 < above < 0.016
    assert (largest > edges(1.0, 2.0)[1]).mean() > 0.1  # about 17 % exceed the edge itself
    assert tracy_widom_edge(3.0, 30, 60) == pytest.approx(3 * tracy_widom_edge(1.0, 60, 30))


def test_the_finite_edge_of_64_by_64() -> None:
    # sqrt 64 = 8: the edge (8 + 8)^2 and 2.0234 times (8 + 8) (1 / 8 + 1 / 8)^(1 / 3) = 10.0794, all of it / 64
    assert tracy_widom_edge(1.0, 64, 64) == pytest.approx((256 + 2.0234 * 10.0794) / 64, rel=1e-5)


def test_a_lone_spike_has_no_bulk() -> None:
    w = matrix_with([5.0], 1, 40)
    found = against_the_law(np.array([5.0]), 1, 40, float(w.double().var(correction=0)) / 4)
    assert found["mp_spikes"] == 1
    assert math.isnan(found["mp_ks"])
