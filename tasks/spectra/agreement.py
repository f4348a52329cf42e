"""Agreement of a layer's singular vectors between two checkpoints (METHOD 4.2)."""

import numpy as np
import torch
from torch import Tensor

from specdyn.storage.schema import SCORE_RANKS
from specdyn.tasks.spectra.analysis import Values
from specdyn.tasks.spectra.assignment import one_to_one
from specdyn.tasks.spectra.decomposition import Factors
from specdyn.tasks.spectra.labels import SUBSPACES


def products(current: Factors, other: Factors) -> tuple[Tensor, Tensor]:
    """<u_i, u'_j> and <v_i, v'_j>, each (R, R): rows of the current, columns of the other checkpoint."""
    return current.left.mT @ other.left, current.right.mT @ other.right


def agreement(current: Factors, other: Factors) -> np.ndarray:
    """|<u_i, u'_j> <v_i, v'_j>| as (R, R): rows of the current, columns of the other checkpoint."""
    left, right = products(current, other)
    return np.asarray((left * right).abs())


def overlaps(inner_RR: Tensor) -> np.ndarray:
    """||U_k' U'_k||_F^2 / k for each k of SUBSPACES up to R: 1 if the first k vectors span the same subspace."""
    top = inner_RR[: SUBSPACES[-1], : SUBSPACES[-1]].double().square()
    sums = torch.cumsum(torch.cumsum(top, 0), 1).diagonal()
    return np.array([float(sums[k - 1]) / k for k in SUBSPACES if k <= len(sums)])


def compare(current: Factors, other: Factors, suffix: str) -> tuple[Values, np.ndarray]:
    """Diagonal, one-to-one best match, top-10 score and subspace overlaps, and the full agreement (R, R)."""
    left, right = products(current, other)
    a_RR = np.asarray((left * right).abs())
    diagonal = np.diagonal(a_RR)
    values: Values = {
        f"agreement{suffix}": diagonal,
        f"agreement{suffix}_best_match": a_RR[one_to_one(a_RR)],
        f"agreement{suffix}_score": float(diagonal[:SCORE_RANKS].mean()),
        f"subspace_overlap{suffix}": np.stack([overlaps(left), overlaps(right)]),
    }
    return values, a_RR
