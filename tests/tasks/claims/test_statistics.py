"""Statistics of few seeds, against scipy, enumeration, and by simulation with a fixed generator."""

import itertools

import numpy as np
import pytest
from scipy import stats

from specdyn.tasks.evidence.statistics import (
    area_under_curve,
    crossing,
    holm,
    interval,
    page,
    ratio_interval,
    sign_flip,
    spearman,
    spearman_interval,
    steepest_split,
)

DRAWS = 1000


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_as_they_say(n: int) -> None:
    draw = np.random.default_rng(7)
    samples = draw.normal(2.0, 3.0, (DRAWS, n))
    held = sum(low <= 2.0 <= high for low, _, high in (interval(row, 0.95) for row in samples))
    assert 0.92 * DRAWS <= held <= 0.98 * DRAWS


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_of_ratios_cover_the_geometric_mean(n: int) -> None:
    draw = np.random.default_rng(11)
    samples = draw.lognormal(np.log(0.7), 0.4, (DRAWS, n))
    held = sum(low <= 0.7 <= high for low, _, high in (ratio_interval(row, 0.95) for row in samples))
    assert 0.92 * DRAWS <= held <= 0.98 * DRAWS


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_that_rules_decide_by_cover_nine_in_ten(n: int) -> None:
    draw = np.random.default_rng(13)
    samples = draw.normal(0.0, 1.0, (DRAWS, n))
    held = sum(low <= 0.0 <= high for low, _, high in map(interval, samples))
    assert 0.87 * DRAWS <= held <= 0.93 * DRAWS


def test_intervals_keep_the_layers_of_a_run_together() -> None:
    """Layers of one run that agree are no more evidence than one: as seeds they would narrow the interval."""
    draw = np.random.default_rng(3)
    seeds = draw.normal(size=(10, 1)) + 0.01 * draw.normal(size=(10, 50))
    whole = interval(seeds)
    assert whole == pytest.approx(interval(seeds.mean(axis=1)))
    apart = interval(seeds.ravel())
    assert apart.high - apart.low < (whole.high - whole.low) / 3


def test_few_seeds_have_the_t_interval() -> None:
    x = np.array([0.3, 0.5, 0.1])
    low, high = stats.t.interval(0.9, 2, loc=x.mean(), scale=stats.sem(x))
    assert interval(x) == pytest.approx((low, x.mean(), high))


def test_intervals_of_one_seed_and_of_none_have_no_ends() -> None:
    assert np.isnan(interval([1.0]).low) and interval([1.0]).mean == 1
    assert np.isnan(interval([]).mean)
    assert interval([2.0, np.nan, 2.0]) == (2, 2, 2)


@pytest.mark.parametrize("seeds", [2, 3])
def test_pages_test_is_that_of_all_orders(seeds: int) -> None:
    """Enumerated: how often the statistic of random orders reaches the one observed."""
    x = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]])[:seeds]
    weights = np.arange(1, 4)
    observed = (stats.rankdata(x, axis=1) @ weights).sum()
    orders = [np.array(order) @ weights for order in itertools.permutations(weights)]
    sums = np.array([sum(of) for of in itertools.product(orders, repeat=seeds)])
    assert page(x, falls=False) == pytest.approx(np.mean(sums >= observed))
    assert page(-x, falls=True) == pytest.approx(page(x, falls=False))


def test_perfect_order_has_the_known_p_values() -> None:
    assert page(np.tile([3.0, 2.0, 1.0], (3, 1)), falls=True) == pytest.approx(0.0046, abs=5e-5)
    assert page(np.tile([4.0, 3.0, 2.0, 1.0], (3, 1)), falls=True) == pytest.approx(7e-5, abs=5e-6)
    assert np.isnan(page(np.array([[1.0, 2.0, 3.0]]), falls=False)), "one seed alone"
    assert np.isnan(page(np.ones((3, 2)), falls=False)), "two levels are no axis"
    assert np.isnan(page(np.array([[1.0, 2.0, np.nan]] * 3), falls=False))


def test_sign_flips_are_enumerated() -> None:
    assert [sign_flip(np.ones(n)) for n in (3, 4, 5)] == pytest.approx([1 / 8, 1 / 16, 1 / 32])
    x = np.array([0.5, -0.2, 0.9, 0.4])
    flipped = [np.dot(signs, x) for signs in itertools.product((1, -1), repeat=4)]
    assert sign_flip(x) == pytest.approx(np.mean(np.array(flipped) >= x.sum() - 1e-12))
    assert 0 < sign_flip(np.random.default_rng(0).normal(0.1, 1, 30)) < 1, "too many to enumerate"


def test_spearman_is_that_of_scipy() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.integers(0, 5, 20).astype(float), draw.normal(size=20)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(spearman([1, 2], [1, 2])) and np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    low, mean, high = spearman_interval([0.5, 0.7, 0.6])
    assert -1 < low < mean < high < 1


def test_area_under_curve_counts_pairs() -> None:
    assert area_under_curve([0.9, 0.8, 0.1, 0.2], [True, True, False, False]) == 1
    assert area_under_curve([0.9, 0.1, 0.1, 0.2], [True, True, False, False]) == pytest.approx((2 + 0.5) / 4)
    assert np.isnan(area_under_curve([1.0], [True]))


def test_holm_is_that_of_the_definition() -> None:
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "none": float("nan")}
    assert holm(p)["a"] == pytest.approx(0.03)
    assert holm(p)["c"] == pytest.approx(0.06) and holm(p)["b"] == pytest.approx(0.06), "never below the one before"
    assert np.isnan(holm(p)["none"])
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_a_break_is_found_where_two_lines_meet() -> None:
    t = np.arange(20.0)
    assert steepest_split(np.where(t < 12, -t, -12 - 0.1 * (t - 12))) == 12


def test_crossings_lie_between_checkpoints_and_may_be_censored() -> None:
    assert crossing([0, 10, 20], [1.0, 0.6, 0.2], 0.5) == (10, 20)
    assert np.isnan(crossing([0, 10, 20], [1.0, 0.9, 0.8], 0.5)).all()
    assert crossing([0, 10], [0.1, 0.1], 0.5) == (0, 0)
