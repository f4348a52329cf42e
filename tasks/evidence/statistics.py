"""Statistics of 3 to 10 seeds. The unit of evidence is the seed: rows are seeds, never layers or steps (CLAIMS 2.8)."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.90
"""Level of the intervals that decide rules: each end is a one-sided test at 5 %."""
BOOTSTRAP_FROM = 8
"""Fewest seeds for a bootstrapped interval; below, the t interval has better coverage (CLAIMS 2.8)."""
RESAMPLES = 1999
EXACT_UP_TO = 12
"""Most values for which all sign flips or exchanges are enumerated; beyond, RESAMPLES of them are drawn."""
SEED = 20240821
"""Seed of all random draws, so that verdicts are reproducible."""


class Interval(NamedTuple):
    """A mean over seeds with its interval; the ends are NaN with fewer than two seeds."""

    low: float
    mean: float
    high: float


def by_seed(values: ArrayLike) -> np.ndarray:
    """One number per seed, (S,), from (S,) or (S, ...): the mean of its values, ignoring NaN."""
    values_SX = np.asarray(values, dtype=np.float64)
    rows = values_SX.reshape(len(values_SX), int(np.prod(values_SX.shape[1:])))
    there = np.isfinite(rows)
    with np.errstate(invalid="ignore"):
        return np.where(there, rows, 0).sum(axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan)


def interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean over seeds of values (S, ...) and its two-sided interval.

    Student's t below BOOTSTRAP_FROM seeds, else the studentised bootstrap. Whole seeds are resampled, so that
    the layers of a run stay together. Seeds without a value are left out.
    """
    x_S = by_seed(values)
    x_S = x_S[np.isfinite(x_S)]
    n = len(x_S)
    if n < 2:
        return Interval(np.nan, float(x_S.mean()) if n else np.nan, np.nan)
    mean, error = float(x_S.mean()), float(x_S.std(ddof=1) / np.sqrt(n))
    if error == 0:
        return Interval(mean, mean, mean)
    low, high = _studentised(x_S, level) if n >= BOOTSTRAP_FROM else stats.t.interval(level, n - 1)
    return Interval(mean + low * error, mean, mean + high * error)


def _studentised(x_S: np.ndarray, level: float) -> tuple[float, float]:
    """The mirrored quantiles of (mean of a resample - mean) / its own standard error."""
    drawn = np.random.default_rng(SEED).choice(x_S, (RESAMPLES, len(x_S)))
    errors = drawn.std(axis=1, ddof=1) / np.sqrt(len(x_S))
    usable = errors > 0
    t = (drawn.mean(axis=1)[usable] - x_S.mean()) / errors[usable]
    tail = (1 - level) / 2
    low, high = np.quantile(t, [1 - tail, tail])
    return -float(low), -float(high)


def ratio_interval(ratios: ArrayLike, level: float = LEVEL) -> Interval:
    """The geometric mean of positive ratios and its interval, by logarithms."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = interval(np.log(np.asarray(ratios, dtype=np.float64)), level)
    return Interval(*map(float, np.exp(found)))


def page(values: ArrayLike, falls: bool) -> float:
    """The p-value of Page's exact trend test of (S, L): seeds are blocks, L >= 3 levels in the order of the axis.

    One-sided, for values that fall, or rise, along the levels. NaN if a value is missing or there is only one seed.
    """
    x_SL = np.asarray(values, dtype=np.float64)
    if x_SL.ndim != 2 or x_SL.shape[0] < 2 or x_SL.shape[1] < 3 or not np.isfinite(x_SL).all():
        return np.nan
    ordered = -x_SL if falls else x_SL
    return float(stats.page_trend_test(ordered, method="exact").pvalue)


def sign_flip(values: ArrayLike) -> float:
    """The exact one-sided p-value of a mean above 0, by flips of the signs of the seeds' values (S,).

    Its least value is 1 / 2^S: .125 at three seeds, .031 at five.
    """
    x_S = by_seed(values)
    x_S = x_S[np.isfinite(x_S)]
    if not len(x_S):
        return np.nan
    signs = _signs(len(x_S))
    sums = signs @ x_S
    return float(np.mean(sums >= x_S.sum() - 1e-12 * np.abs(x_S).sum()))


def _signs(n: int) -> np.ndarray:
    if n <= EXACT_UP_TO:
        return np.array(list(itertools.product((1.0, -1.0), repeat=n)))
    drawn = np.random.default_rng(SEED).choice([1.0, -1.0], (RESAMPLES, n))
    return np.vstack([np.ones(n), drawn])


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """The rank correlation of two sequences where both have a value; NaN for fewer than 3, or without spread."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    there = np.isfinite(a) & np.isfinite(b)
    a, b = a[there], b[there]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def spearman_interval(correlations: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean and interval of rank correlations, one per seed, by Fisher's z; values of 1 count as .999."""
    z = np.arctanh(np.clip(np.asarray(correlations, dtype=np.float64), -0.999, 0.999))
    return Interval(*map(float, np.tanh(interval(z, level))))


def area_under_curve(scores: ArrayLike, positive: ArrayLike) -> float:
    """The share of pairs in which a positive scores higher than a negative, ties as half; NaN if a kind is missing."""
    x, is_positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    above, below = x[is_positive], x[~is_positive]
    if not len(above) or not len(below):
        return np.nan
    return float(stats.mannwhitneyu(above, below).statistic / (len(above) * len(below)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction over a family: the corrected p-value of each, NaN if there is none."""
    known = sorted((p, name) for name, p in p_values.items() if np.isfinite(p))
    corrected, highest = dict.fromkeys(p_values, np.nan), 0.0
    for rank, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[name] = highest
    return corrected


def steepest_split(values: ArrayLike) -> int:
    """The index, 2 to T - 3, at which a sequence (T,) splits into two straight lines with least squared error."""
    y = np.asarray(values, dtype=np.float64)
    t = np.arange(len(y), dtype=float)
    places = range(2, len(y) - 2)
    return min(places, key=lambda place: _error(t[: place + 1], y[: place + 1]) + _error(t[place:], y[place:]))


def _error(t: np.ndarray, y: np.ndarray) -> float:
    return float(np.square(y - np.polyval(np.polyfit(t, y, 1), t)).sum())


def crossing(steps: Sequence[float], values: ArrayLike, below: float) -> tuple[float, float]:
    """The first pair of neighbouring steps between which a curve falls below a level.

    Twice NaN if it never does: the event is censored. Twice the first step if the curve starts below.
    """
    y = np.asarray(values, dtype=np.float64)
    there = np.flatnonzero(y < below)
    if not len(there):
        return np.nan, np.nan
    first = int(there[0])
    return float(steps[max(first - 1, 0)]), float(steps[first])
