"""The Marchenko-Pastur law for matrices with independent entries (CLAIMS 5.4, 5.5).

An (M, N) matrix with entries of variance s2 has eigenvalues lambda = s_i^2 / max(M, N), of which there are
R = min(M, N). With Q = max(M, N) / R >= 1 they fill lambda_- to lambda_+, s2 (1 -+ 1 / sqrt Q)^2, as R grows.
"""

import math

import numpy as np

TRACY_WIDOM_99 = 2.0234
"""99 % quantile of the Tracy-Widom law of real matrices."""
GRID = 4097
"""Points at which the law is tabulated to find its quantiles."""


def edges(variance: float, q: float) -> tuple[float, float]:
    """lambda_- and lambda_+ of the law."""
    return variance * (1 - q**-0.5) ** 2, variance * (1 + q**-0.5) ** 2


def cdf(x: np.ndarray, variance: float, q: float) -> np.ndarray:
    """Share of the law below x, of any shape; 0 below lambda_- and 1 above lambda_+."""
    cosine = (1 + 1 / q - x / variance) / (2 * q**-0.5)
    return _cdf_of_angle(np.arccos(np.clip(cosine, -1, 1)), q)


def quantiles(p: np.ndarray, variance: float, q: float) -> np.ndarray:
    """Quantiles of the law at shares p, accurate to 1e-6 of the variance."""
    angle = np.linspace(0, math.pi, GRID)
    reached = np.interp(p, _cdf_of_angle(angle, q), angle)
    return variance * (1 + 1 / q - 2 * q**-0.5 * np.cos(reached))


def tracy_widom_edge(variance: float, rows: int, columns: int) -> float:
    """The 99 % quantile of the largest eigenvalue of finite Gaussian matrices: lambda_+ plus a margin (Johnstone)."""
    wide, narrow = math.sqrt(max(rows, columns)), math.sqrt(min(rows, columns))
    margin = (wide + narrow) * (1 / wide + 1 / narrow) ** (1 / 3)
    return variance * ((wide + narrow) ** 2 + TRACY_WIDOM_99 * margin) / wide**2


def kolmogorov_smirnov(x: np.ndarray, variance: float, q: float) -> float:
    """Largest distance between the law and the empirical distribution of x (n,); NaN for n = 0."""
    n = len(x)
    if n == 0:
        return math.nan
    expected, index = cdf(np.sort(x), variance, q), np.arange(n)
    return float(np.maximum(expected - index / n, (index + 1) / n - expected).max())


def _cdf_of_angle(angle: np.ndarray, q: float) -> np.ndarray:
    """The law's integral at x = s2 (1 + a^2 - 2 a cos(angle)), a = 1 / sqrt Q, in closed form."""
    a = q**-0.5
    turned = np.arctan2((1 + a) * np.sin(angle / 2), (1 - a) * np.cos(angle / 2))
    integral = np.sin(angle) / (2 * a) + (1 + a**2) * angle / (4 * a**2) - (1 - a**2) * turned / (2 * a**2)
    return np.clip(2 / math.pi * integral, 0, 1)
