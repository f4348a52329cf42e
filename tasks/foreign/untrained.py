"""Checks whether a first checkpoint looks untrained."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from specdyn.tasks.foreign.findings import Finding, finding
from specdyn.tasks.spectra.decomposition import scaled

EDGE_MARGIN = 1.25
"""How far the first singular value of an untrained layer may exceed that of a random matrix."""
LEAST_SIDE = 16
"""Fewest rows and columns for which a layer's first singular value shows whether it was trained."""
POWER_STEPS = 30


def edge_ratio(w_MN: Tensor) -> list[float]:
    """s_1 divided by that of a random matrix with the same spread, sigma (sqrt M + sqrt N); empty if too small."""
    rows, columns = w_MN.shape
    w_MN = scaled(w_MN)[0]  # squares of very large or small entries would leave float32
    sigma = float(w_MN.std())
    if min(rows, columns) < LEAST_SIDE or not 0 < sigma < math.inf:
        return []
    draw = torch.Generator().manual_seed(0)
    v = torch.randn(columns, generator=draw)
    for _ in range(POWER_STEPS):
        v = w_MN.mT @ (w_MN @ v)
        v = v / torch.linalg.vector_norm(v).clamp_min(torch.finfo(v.dtype).tiny)
    largest = float(torch.linalg.vector_norm(w_MN @ v))
    return [largest / (sigma * (math.sqrt(rows) + math.sqrt(columns)))]


def looks_trained(ratios: Sequence[float], step: int) -> list[Finding]:
    """Report a first checkpoint whose layers' first singular values are too large for an initialisation.

    Reported if half of the layers exceed the edge of a random matrix by a quarter. Layers that are small, or were
    trained little, are not detected; structured initialisations (sparse, low rank) may be reported.
    """
    above = sum(ratio > EDGE_MARGIN for ratio in ratios)
    if not ratios or 2 * above < len(ratios):
        return []
    what = (
        f"the first checkpoint looks trained: in {above} of {len(ratios)} layers s_1 is more than "
        f"{EDGE_MARGIN:g} times that of a random matrix (median {np.median(ratios):.2f})"
    )
    advice = "comparisons with the first checkpoint are not comparisons with initialisation"
    return [finding("warning", (step,), what, advice)]
