"""The power-law fit against a plain loop over xmin, and against tails drawn from a known law."""

import math

import numpy as np
import pytest
import torch

from reference.spectra import matrix_with
from reference.views import of_layer
from specdyn.tasks.spectra.tails import STATUS, fit_tail, log_alpha_norm


def pareto(alpha: float, n: int, seed: int = 0) -> np.ndarray:
    """Descending singular values whose squares follow p(l) ~ l^-alpha from 1 on."""
    uniform = np.random.default_rng(seed).uniform(size=n)
    return np.sort(uniform ** (-1 / (alpha - 1)))[::-1] ** 0.5


def by_loop(s: np.ndarray) -> tuple[float, float, int, float]:
    """alpha, D, n and xmin of the best fit, one xmin after another."""
    x = np.sort(s**2)
    fits = []
    for i in range(len(x) - 1):
        tail = x[i:]
        n = len(tail)
        alpha = 1 + n / np.log(tail / x[i]).sum()
        distance = max(abs(1 - (tail[j] / x[i]) ** (1 - alpha) - j / n) for j in range(n))
        fits.append((distance, alpha, n, x[i]))
    distance, alpha, n, start = min(fits)
    return alpha, distance, n, start


@pytest.mark.parametrize(("alpha", "n", "seed"), [(2.0, 120, 0), (3.5, 200, 1), (6.0, 130, 2)])
def test_the_fit_is_that_of_a_loop_over_all_starts(alpha: float, n: int, seed: int) -> None:
    s = pareto(alpha, n, seed)
    found, expected = fit_tail(s), by_loop(s)
    assert (found.alpha, found.distance, found.length, found.start) == pytest.approx(expected, rel=1e-9)
    assert STATUS[found.status] == "fitted"


@pytest.mark.parametrize("alpha", [1.8, 2.5, 4.0])
def test_the_exponent_of_a_drawn_tail_is_found(alpha: float) -> None:
    # The standard error of the estimate is (alpha - 1) / sqrt n; xmin is chosen too, which costs some values.
    found = [fit_tail(pareto(alpha, 700, seed)).alpha for seed in range(8)]
    assert np.mean(found) == pytest.approx(alpha, abs=4 * (alpha - 1) / math.sqrt(8 * 500))


def test_the_tail_begins_where_the_law_does() -> None:
    # 400 values that fill (0, 1) evenly and 300 of a law from 1 on
    head = np.sqrt(np.linspace(0.01, 1, 400))
    s = np.sort(np.concatenate([head, pareto(3.0, 300)]))[::-1]
    found = fit_tail(s)
    assert found.start == pytest.approx(1, abs=0.25)
    assert found.alpha == pytest.approx(3, abs=0.35)
    assert found.distance < 0.05


@pytest.mark.parametrize(("n", "status"), [(50, "fitted"), (49, "tail_too_short")])
def test_a_tail_of_fewer_than_50_values_is_refused(n: int, status: str) -> None:
    found = fit_tail(np.sort((1 - np.arange(n) / n) ** (-1 / 1.5))[::-1] ** 0.5)  # the law's own quantiles
    assert found.length == n
    assert STATUS[found.status] == status
    assert math.isnan(found.alpha) == (n < 50)


def test_a_refused_tail_has_a_length_but_no_exponent() -> None:
    found = of_layer("power_law", matrix_with(pareto(2.5, 40), 40, 60))
    assert STATUS[found["power_law_status"]] == "tail_too_short"
    assert 1 < found["power_law_tail"] <= 40
    assert found["power_law_distance"] > 0
    for name in ("alpha", "alpha_hat", "log_alpha_norm"):
        assert math.isnan(found[f"power_law_{name}"])


def test_numbers_built_on_the_exponent() -> None:
    s = pareto(2.5, 150)
    found = of_layer("power_law", matrix_with(s, 150, 150))
    alpha = found["power_law_alpha"]
    assert alpha == pytest.approx(by_loop(s)[0], rel=1e-3)
    assert found["power_law_alpha_hat"] == pytest.approx(alpha * math.log10(s[0] ** 2), rel=1e-5)
    assert found["power_law_log_alpha_norm"] == pytest.approx(math.log10(((s**2) ** alpha).sum()), rel=1e-5)
    assert found["power_law_start"] == pytest.approx(by_loop(s)[3], rel=1e-3)


def test_large_exponents_do_not_overflow() -> None:
    # log10 (1000^200 + 10^200) = 600 to within 1e-400
    assert log_alpha_norm(np.sqrt([1000.0, 10.0, 0.0]), 200.0) == pytest.approx(600)


@pytest.mark.parametrize("w", [torch.eye(60), 1e-3 * torch.eye(60), torch.zeros(60, 60), torch.ones(60, 60)])
def test_equal_values_and_a_single_one_have_no_tail(w: torch.Tensor) -> None:
    found = of_layer("power_law", w)
    assert STATUS[found["power_law_status"]] == "no_spread"
    assert found["power_law_tail"] == 0
    assert np.isnan([found[f"power_law_{name}"] for name in ("alpha", "distance", "start", "alpha_hat")]).all()


def test_equal_values_but_for_rounding_have_no_tail() -> None:
    for value in np.linspace(0.1, 3, 50):
        assert STATUS[fit_tail(np.full(60, value)).status] == "no_spread"


@pytest.mark.parametrize("seed", range(12))
def test_of_equal_values_all_belong_to_the_tail(seed: int) -> None:
    s = np.sqrt(np.sort(np.random.default_rng(seed).integers(1, 6, size=30).astype(float)))[::-1]
    found = fit_tail(s)
    assert found.length == (s**2 > 0.999 * found.start).sum()
