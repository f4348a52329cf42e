"""Spectrum of every layer's change since the previous checkpoint (CLAIMS 4, 5.11).

Takes one more decomposition per matrix (values only): about half the time of the decomposition with vectors.
"""

import math

import numpy as np

from specdyn.storage.schema import COUNT, Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.spectral import effective_rank, spectral_edge


def compute(view: LayerView) -> Values:
    """Values of W_t - W_{t-1} and their numbers; empty at the first checkpoint, NaN if nothing changed."""
    from specdyn.tasks.spectra.decomposition import difference, singular_values

    if view.previous is None:
        return {}
    s_R = singular_values(difference(view.w_MN, view.layer.of(view.previous.weights))).numpy()
    now = float(view.factors.s.double().norm())
    edge, ratio = spectral_edge(s_R)
    return {
        "update_singular_value": s_R,
        "update_effective_rank": effective_rank(s_R),
        "update_spectral_edge": edge,
        "update_spectral_edge_ratio": ratio,
        "update_relative_norm": float(np.linalg.norm(s_R)) / now if now > 0 else math.nan,
    }


ANALYSIS = Analysis(
    name="updates",
    version=1,
    of="layer",
    compares="previous",
    needs_vectors=False,
    variables={
        "update_singular_value": Variable(
            dims=("layer", "step", "rank"),
            long_name="singular value of the update",
            chunks={"rank": 16},
            about="s_i of W_t - W_{t-1}, t - 1 the checkpoint before; CLAIMS 5.11",
        ),
        "update_effective_rank": Variable(
            dims=("layer", "step"),
            long_name="effective rank of the update / rank",
            about="exp(-sum p log p) / R of the update, p = s / sum s; NaN where nothing changed; CLAIMS 5.11",
        ),
        "update_spectral_edge": Variable(
            dims=("layer", "step"),
            long_name="spectral edge of the update",
            dtype=COUNT,
            about="k* = argmax s_k / s_{k+1} over k up to R / 2; values below 1e-5 s_1 count as that; CLAIMS 4",
        ),
        "update_spectral_edge_ratio": Variable(
            dims=("layer", "step"),
            long_name="ratio of singular values at the spectral edge of the update",
            about="max s_k / s_{k+1} over k up to R / 2; CLAIMS 4",
        ),
        "update_relative_norm": Variable(
            dims=("layer", "step"),
            long_name="norm of the update / norm",
            about="||W_t - W_{t-1}||_F / ||W_t||_F; CLAIMS 5.11",
        ),
    },
    compute=compute,
)
