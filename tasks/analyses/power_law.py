"""Power law in the tail of every layer's spectrum, and the numbers built on its exponent (CLAIMS 5.6)."""

import math

import numpy as np

from specdyn.storage.schema import COUNT, Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.tails import STATUS, fit_tail, log_alpha_norm


def heavy_tail(s_R: np.ndarray) -> dict[str, float]:
    """All numbers of a descending float64 spectrum; exponents are NaN where the tail has fewer than 50 values."""
    tail = fit_tail(s_R)
    return {
        "power_law_alpha": tail.alpha,
        "power_law_distance": tail.distance,
        "power_law_tail": float(tail.length),
        "power_law_start": tail.start,
        "power_law_alpha_hat": tail.alpha * 2 * math.log10(s_R[0]) if s_R[0] > 0 else math.nan,
        "power_law_log_alpha_norm": log_alpha_norm(s_R, tail.alpha),
        "power_law_status": tail.status,
    }


def compute(view: LayerView) -> Values:
    """The numbers of one layer."""
    return heavy_tail(view.factors.s.double().numpy())


ANALYSIS = Analysis(
    name="power_law",
    version=2,
    of="layer",
    needs_vectors=False,
    variables={
        "power_law_alpha": Variable(
            dims=("layer", "step"),
            long_name="exponent of the power law in the spectrum's tail",
            about="1 + n / sum log(l_i / xmin) over the n values l = s^2 from xmin on, xmin of least D; NaN where "
            "n < 50; CLAIMS 5.6",
        ),
        "power_law_distance": Variable(
            dims=("layer", "step"),
            long_name="distance of the tail from its power law",
            about="D = max |1 - (l_i / xmin)^(1 - alpha) - (i - 1) / n| over the ascending tail; CLAIMS 5.6",
        ),
        "power_law_tail": Variable(
            dims=("layer", "step"),
            long_name="values in the tail",
            dtype=COUNT,
            about="n, the number of l >= xmin; CLAIMS 5.6",
        ),
        "power_law_start": Variable(
            dims=("layer", "step"),
            long_name="smallest value of the tail",
            dtype="float64",  # a square of weights: that of a large bfloat16 does not fit into float32
            about="xmin, of l = s^2; CLAIMS 5.6",
        ),
        "power_law_alpha_hat": Variable(
            dims=("layer", "step"),
            long_name="exponent weighted by the largest value",
            about="alpha log10 l_1, with l = s^2; CLAIMS 5.6",
        ),
        "power_law_log_alpha_norm": Variable(
            dims=("layer", "step"),
            long_name="logarithm of the alpha-norm",
            about="log10 sum l^alpha, with l = s^2; CLAIMS 5.6",
        ),
        "power_law_status": Variable(
            dims=("layer", "step"),
            long_name="outcome of the fit",
            dtype="int8",
            flags=STATUS,
            about="tail_too_short where n < 50, no_spread where all values are equal or at most one is above 0",
        ),
    },
    compute=compute,
)
