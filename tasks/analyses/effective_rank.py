"""Three effective ranks of every layer, as fractions of its rank, and the collapse flag (METHOD 4.3)."""

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values

EPSILON = np.float32(1e-10)
COLLAPSED_BELOW = 1e-6
LARGE = 2.0**40
"""Larger values are scaled to 2^20, as their squares may overflow float32; 1e-10 is negligible either way."""


def effective_ranks(s_R: np.ndarray) -> tuple[float, float, float]:
    """Entropy, count and energy effective rank of descending float32 singular values, each divided by R.

    Like the published code, this adds 1e-10 to the values before each of the three, cumulatively.
    """
    rank = len(s_R)
    if s_R[0] > LARGE:
        s_R = np.ldexp(s_R, 20 - int(np.frexp(s_R[0])[1]))
    s = s_R + EPSILON
    p = s / s.sum()
    entropy_rank = float(np.exp(-(p * np.log(p)).sum()) / rank)
    s = s + EPSILON
    count = 1 + int(np.argmax(np.cumsum(s / s.sum()) > 0.9))
    s = s + EPSILON
    energy_rank = float((s * s).sum() / (s[0] * s[0]) / rank)
    return entropy_rank, count / rank, energy_rank


def compute(view: LayerView) -> Values:
    """The three ranks and whether the layer's largest singular value is below 1e-6."""
    s_R = view.factors.s.numpy()
    entropy_rank, count, energy_rank = effective_ranks(s_R)
    return {
        "effective_rank": entropy_rank,
        "effective_rank_count": count,
        "effective_rank_ratio": energy_rank,
        "collapse": 2 if s_R[0] < COLLAPSED_BELOW else 1,
    }


ANALYSIS = Analysis(
    name="effective_rank",
    version=1,
    of="layer",
    needs_vectors=False,
    variables={
        "effective_rank": Variable(
            dims=("layer", "step"),
            long_name="effective rank / rank",
            about="exp(-sum p log p) / R with p = s / sum s; reads about 1 on a collapsed layer",
        ),
        "effective_rank_count": Variable(
            dims=("layer", "step"),
            long_name="values that hold 90 % of the sum / rank",
            about="(1 + first index where cumsum(p) > 0.9) / R",
        ),
        "effective_rank_ratio": Variable(
            dims=("layer", "step"), long_name="stable rank / rank", about="sum(s^2) / s_1^2 / R"
        ),
        "collapse": Variable(
            dims=("layer", "step"),
            long_name="collapse of the layer's norm",
            dtype="int8",
            flags=("missing", "alive", "collapsed"),
            about="collapsed where s_1 < 1e-6",
        ),
    },
    compute=compute,
)
