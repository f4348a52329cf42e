"""Every layer's eigenvalues against those of a matrix with independent entries (CLAIMS 5.4, 5.5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from specdyn.storage.schema import COUNT, Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.random_matrices import edges, kolmogorov_smirnov, quantiles, tracy_widom_edge

if TYPE_CHECKING:
    from torch import Tensor

CONSTANT = 1e-12
"""Share of the mean square below which a variance is rounding noise."""


def entry_variance(w_MN: Tensor) -> float:
    """Variance of the entries, independent of their order; 0 for a constant matrix."""
    import torch

    square = float(torch.linalg.vector_norm(w_MN, dtype=torch.float64)) ** 2 / w_MN.numel()
    variance = square - float(w_MN.mean(dtype=torch.float64)) ** 2
    return variance if variance > CONSTANT * square else 0.0


def against_the_law(s_R: np.ndarray, rows: int, columns: int, variance: float) -> dict[str, float]:
    """All numbers for a descending float64 spectrum of (rows, columns) with entries of that variance; NaN if it is 0.

    The law uses the variance of all entries, including spikes. The bulk is everything up to lambda_+.
    """
    if variance == 0:
        return dict.fromkeys(VARIABLES, math.nan)
    rank, wide = len(s_R), max(rows, columns)
    values, q = s_R**2 / wide, wide / rank
    lower, upper = edges(variance, q)
    expected = quantiles((np.arange(rank) + 0.5) / rank, variance, q)
    return {
        "mp_lower_edge": lower,
        "mp_upper_edge": upper,
        "mp_spikes": float((values > upper).sum()),
        "mp_spikes_finite": float((values > tracy_widom_edge(variance, rows, columns)).sum()),
        "mp_below": float((values < lower).sum()),
        "mp_soft_rank": upper / float(values[0]),
        "mp_ks": kolmogorov_smirnov(values[values <= upper], variance, q),
        "mp_wasserstein": float(np.abs(values[::-1] - expected).mean()) / variance,
    }


def compute(view: LayerView) -> Values:
    """The numbers of one layer."""
    rows, columns = view.w_MN.shape
    return against_the_law(view.factors.s.double().numpy(), rows, columns, entry_variance(view.w_MN))


VARIABLES = {
    "mp_lower_edge": Variable(
        dims=("layer", "step"),
        long_name="lower edge of the Marchenko-Pastur law",
        dtype="float64",  # a square of weights: that of a large bfloat16 does not fit into float32
        about="s2 (1 - 1 / sqrt Q)^2 for eigenvalues s^2 / max(M, N), Q = max(M, N) / R, "
        "s2 the variance of the entries; CLAIMS 5.4",
    ),
    "mp_upper_edge": Variable(
        dims=("layer", "step"),
        long_name="upper edge of the Marchenko-Pastur law",
        dtype="float64",
        about="s2 (1 + 1 / sqrt Q)^2; CLAIMS 5.4",
    ),
    "mp_spikes": Variable(
        dims=("layer", "step"),
        long_name="eigenvalues above the Marchenko-Pastur law",
        dtype=COUNT,
        about="number of s_i^2 / max(M, N) > upper edge; CLAIMS 5.4",
    ),
    "mp_spikes_finite": Variable(
        dims=("layer", "step"),
        long_name="eigenvalues above what chance gives at this size",
        dtype=COUNT,
        about="number above the upper edge and the margin that 1 % of Gaussian matrices exceed (Tracy-Widom); "
        "CLAIMS 5.5",
    ),
    "mp_below": Variable(
        dims=("layer", "step"),
        long_name="eigenvalues below the Marchenko-Pastur law",
        dtype=COUNT,
        about="number of s_i^2 / max(M, N) < lower edge; CLAIMS 4",
    ),
    "mp_soft_rank": Variable(
        dims=("layer", "step"),
        long_name="upper edge of the Marchenko-Pastur law / largest eigenvalue",
        about="lambda_+ / lambda_max; CLAIMS 5.4",
    ),
    "mp_ks": Variable(
        dims=("layer", "step"),
        long_name="distance of the bulk from the Marchenko-Pastur law",
        about="Kolmogorov-Smirnov distance of the eigenvalues up to the upper edge from the law; CLAIMS 5.4",
    ),
    "mp_wasserstein": Variable(
        dims=("layer", "step"),
        long_name="Wasserstein distance of the spectrum from the Marchenko-Pastur law / variance",
        about="mean |lambda_i - F^-1((i - 1/2) / R)| / s2 over ascending eigenvalues; CLAIMS 5.4",
    ),
}

ANALYSIS = Analysis(
    name="marchenko_pastur",
    version=2,
    of="layer",
    needs_vectors=False,
    variables=VARIABLES,
    compute=compute,
)
