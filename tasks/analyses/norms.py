"""Norms, conditioning and gaps of every layer, and how far it has moved (CLAIMS 5.2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.spectral import condition_number, gaps

if TYPE_CHECKING:
    from torch import Tensor


def distance(w_MN: Tensor, other_MN: Tensor) -> float:
    """||W - W'||_F, summed in float64."""
    import torch

    from specdyn.tasks.spectra.decomposition import difference

    return float(torch.linalg.vector_norm(difference(w_MN, other_MN), dtype=torch.float64))


def compute(view: LayerView) -> Values:
    """The numbers of one layer; the relative distance is NaN if the layer was initialised to zero."""
    import torch

    s_R = view.factors.s.double().numpy()
    moved = began = math.nan
    if view.is_in(view.initial):
        initial = view.layer.of(view.initial.weights)
        moved, began = distance(view.w_MN, initial), float(torch.linalg.vector_norm(initial, dtype=torch.float64))
    return {
        "spectral_norm": float(s_R[0]),
        "frobenius_norm": float(np.sqrt((s_R**2).sum())),
        "nuclear_norm": float(s_R.sum()),
        "condition_number": condition_number(s_R),
        "singular_value_gap": gaps(s_R),
        "distance_from_initial": moved,
        "relative_distance_from_initial": moved / began if began > 0 else math.nan,
    }


ANALYSIS = Analysis(
    name="norms",
    version=1,
    of="layer",
    compares="initial",
    of_both=False,
    needs_vectors=False,
    variables={
        "spectral_norm": Variable(dims=("layer", "step"), long_name="largest singular value", about="s_1; CLAIMS 5.2"),
        "frobenius_norm": Variable(
            dims=("layer", "step"), long_name="Frobenius norm", about="sqrt(sum s^2); CLAIMS 5.2"
        ),
        "nuclear_norm": Variable(dims=("layer", "step"), long_name="nuclear norm", about="sum s; CLAIMS 5.2"),
        "condition_number": Variable(
            dims=("layer", "step"),
            long_name="condition number",
            about="s_1 / s_R; NaN where s_R < 1e-5 s_1, which float32 does not tell from 0; CLAIMS 5.2",
        ),
        "singular_value_gap": Variable(
            dims=("layer", "step", "rank"),
            long_name="ratio of a singular value to the next",
            chunks={"rank": 16},
            about="s_i / s_{i+1}; NaN for i = R and where s_{i+1} < 1e-5 s_1; CLAIMS 5.2",
        ),
        "distance_from_initial": Variable(
            dims=("layer", "step"),
            long_name="distance from the first checkpoint",
            about="||W - W_0||_F; CLAIMS 5.2",
        ),
        "relative_distance_from_initial": Variable(
            dims=("layer", "step"),
            long_name="distance from the first checkpoint / norm there",
            about="||W - W_0||_F / ||W_0||_F; NaN where W_0 = 0; CLAIMS 5.2",
        ),
    },
    compute=compute,
)
