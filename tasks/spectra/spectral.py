"""Numbers of a descending spectrum, as pure functions of it (CLAIMS 5.1-5.3).

Shapes: s_R holds R singular values in float64, descending. A zero matrix has no shape: its numbers are NaN.
"""

import math

import numpy as np

FRACTIONS = (0.5, 0.9, 0.99)
"""Shares of the energy for which ranks are counted; labels of the dimension `fraction`."""
RESOLUTION = 1e-5
"""Values below this share of s_1 are indistinguishable from 0: float32 decompositions err by some 1e-6 (METHOD 8.4)."""


def entropy(s_R: np.ndarray) -> float:
    """-sum p log p in nats, with p = s / sum s; its exponential is the effective rank (CLAIMS 5.1)."""
    return _entropy(s_R)


def effective_rank(s_R: np.ndarray) -> float:
    """exp(entropy) / R, without the constant that METHOD 4.3 adds to the values; NaN for a zero matrix."""
    return math.exp(entropy(s_R)) / len(s_R)


def svd_entropy(s_R: np.ndarray) -> float:
    """-sum q log q / log R, with energies q = s^2 / sum s^2, in [0, 1]; NaN for R = 1 (CLAIMS 5.3)."""
    return _entropy(s_R**2) / math.log(len(s_R)) if len(s_R) > 1 else math.nan


def stable_rank(s_R: np.ndarray) -> float:
    """sum s^2 / s_1^2, in [1, R] (CLAIMS 5.1)."""
    return float((s_R**2).sum() / s_R[0] ** 2) if s_R[0] > 0 else math.nan


def participation_ratio(s_R: np.ndarray) -> float:
    """(sum s^2)^2 / sum s^4, in [1, R] (CLAIMS 5.1)."""
    return float((s_R**2).sum() ** 2 / (s_R**4).sum()) if s_R[0] > 0 else math.nan


def gini(s_R: np.ndarray) -> float:
    """sum_ij |s_i - s_j| / (2 R^2 mean s), in [0, 1 - 1 / R]: 0 if all values are equal (METHOD 5)."""
    rank, total = len(s_R), s_R.sum()
    if total == 0:
        return math.nan
    # Descending s_i is above R - i values and below i - 1.
    return float(((rank + 1 - 2 * np.arange(1, rank + 1)) * s_R).sum() / (rank * total))


def energy_ranks(s_R: np.ndarray) -> np.ndarray:
    """For each of FRACTIONS the smallest k with sum_{i<=k} s_i^2 >= q sum s^2, as (3,) (CLAIMS 5.1).

    A sum that misses the share only by rounding (1e-12 of it) counts as having reached it.
    """
    if s_R[0] == 0:
        return np.full(len(FRACTIONS), math.nan)
    cumulated_R = np.cumsum(s_R**2)
    wanted = np.array(FRACTIONS) * cumulated_R[-1] * (1 - 1e-12)
    return 1.0 + np.searchsorted(cumulated_R, wanted)


def top_half_energy(s_R: np.ndarray) -> float:
    """Share of sum s^2 in the first ceil(R / 2) values, what pruning to the top half keeps (CLAIMS 2.7)."""
    energy = float((s_R**2).sum())
    return float((s_R[: math.ceil(len(s_R) / 2)] ** 2).sum()) / energy if energy > 0 else math.nan


def condition_number(s_R: np.ndarray) -> float:
    """s_1 / s_R; NaN if s_R is below 1e-5 s_1, which float32 cannot distinguish from 0 (CLAIMS 5.2)."""
    return float(s_R[0] / s_R[-1]) if s_R[-1] > RESOLUTION * s_R[0] else math.nan


def gaps(s_R: np.ndarray) -> np.ndarray:
    """s_i / s_{i+1} as (R - 1,); NaN where s_{i+1} is below 1e-5 s_1 (CLAIMS 5.2)."""
    resolved = s_R[1:] > RESOLUTION * s_R[0]
    return np.divide(s_R[:-1], s_R[1:], out=np.full(len(s_R) - 1, math.nan), where=resolved)


def spectral_edge(s_R: np.ndarray) -> tuple[float, float]:
    """k* = argmax s_k / s_{k+1} over k up to max(1, R // 2), counted from 1, and that ratio (CLAIMS 4, 5.11).

    Values below 1e-5 s_1 count as 1e-5 s_1, so that noise makes no edge. NaN for R = 1 or a zero matrix.
    """
    if len(s_R) == 1 or s_R[0] == 0:
        return math.nan, math.nan
    floored_R = np.maximum(s_R, RESOLUTION * s_R[0])
    ratios = (floored_R[:-1] / floored_R[1:])[: max(1, len(s_R) // 2)]
    return 1.0 + int(ratios.argmax()), float(ratios.max())


def _entropy(weights: np.ndarray) -> float:
    total = weights.sum()
    if total == 0:
        return math.nan
    p = weights[weights > 0] / total
    return float(-(p * np.log(p)).sum()) + 0.0
