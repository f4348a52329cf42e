"""Fits a power law to the tail of a spectrum, as in the heavy-tail literature (CLAIMS 5.6)."""

import math
from typing import NamedTuple

import numpy as np

from specdyn.tasks.spectra.spectral import RESOLUTION

SHORTEST = 50
"""Fewest values in a tail for an exponent."""
STATUS = ("missing", "fitted", "tail_too_short", "no_spread")
"""Meanings of `Tail.status`, and of the stored variable `power_law_status`."""
BLOCK = 64


class Tail(NamedTuple):
    """The fit with the smallest distance D; alpha is NaN if not fitted, start and distance too if there is no tail."""

    alpha: float
    distance: float
    length: int
    start: float
    """xmin, the smallest value of the tail."""
    status: int


def fit_tail(s_R: np.ndarray) -> Tail:
    """The exponent of p(l) ~ l^-alpha for the squares l = s^2 of descending singular values above xmin.

    alpha = 1 + n / sum log(l_i / xmin) over the n values from xmin on. xmin is the value whose fit has the smallest
    Kolmogorov-Smirnov distance D = max |F(l_i) - (i - 1) / n|, i = 1..n ascending. Values below 1e-5 s_1 are left out
    as noise. A tail of fewer than 50 values has no alpha; equal values have no tail at all.
    """
    log_n = 2 * np.log(s_R[(s_R > 0) & (s_R > RESOLUTION * s_R[0])][::-1])
    first = np.flatnonzero(np.diff(log_n, prepend=-np.inf))  # only the first of equal values can start a tail
    lengths = len(log_n) - first
    excess = np.cumsum(log_n[::-1])[::-1][first] - lengths * log_n[first]
    # A spread of 1e-9 is rounding error: equal values would get an exponent of the order of its inverse.
    candidates = excess > 1e-9 * lengths
    first, lengths, excess = first[candidates], lengths[candidates], excess[candidates]
    if len(first) == 0:
        return Tail(math.nan, math.nan, 0, math.nan, STATUS.index("no_spread"))
    slopes = lengths / excess
    distances = _distances(log_n, first, slopes)
    best = int(distances.argmin())
    status = "fitted" if lengths[best] >= SHORTEST else "tail_too_short"
    alpha = 1 + float(slopes[best]) if status == "fitted" else math.nan
    start = math.exp(log_n[first[best]])
    return Tail(alpha, float(distances[best]), int(lengths[best]), start, STATUS.index(status))


def log_alpha_norm(s_R: np.ndarray, alpha: float) -> float:
    """log10 sum l^alpha over the squares of the positive singular values; NaN if alpha is."""
    exponents = alpha * 2 * np.log10(s_R[s_R > 0])
    if math.isnan(alpha):
        return math.nan
    return float(exponents.max() + np.log10((10 ** (exponents - exponents.max())).sum()))


def _distances(log_n: np.ndarray, first: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """D of each candidate, computed in blocks of candidates, since the first values are in few tails."""
    distances = np.empty(len(first))
    for begin in range(0, len(first), BLOCK):
        some = slice(begin, begin + BLOCK)
        start, slope = first[some, None], slopes[some, None]
        index = np.arange(first[begin], len(log_n))
        above = np.maximum(log_n[index] - log_n[start], 0)
        below = np.maximum(index - start, 0) / (len(log_n) - start)
        distances[some] = np.abs(1 - np.exp(-slope * above) - below).max(axis=1)
    return distances
