"""Agreement of singular vectors with those of the final checkpoint (METHOD 4.2)."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from storage.schema import SCORE_RANKS, TOP_RANKS, Variable
from tasks.analysis import Analysis, CheckpointView
from tasks.decomposition import Factors


def agreement(current: Factors, final: Factors) -> np.ndarray:
    """|<u_i, u'_j> <v_i, v'_j>| as (R, R): row i of the current, column j of the final checkpoint."""
    left = current.left.mT @ final.left
    return np.asarray((left * (current.right.mT @ final.right)).abs())


def compute(view: CheckpointView) -> dict[str, np.ndarray]:
    """Diagonal, one-to-one best match, leading block and top-10 score of every layer."""
    diagonal, best = view.blank("layer", "rank"), view.blank("layer", "rank")
    block, score = view.blank("layer", "row", "column"), view.blank("layer")
    for i, layer in enumerate(view.layers):
        a_RR = agreement(view.factors[layer.name], view.final[layer.name])
        rank, k = len(a_RR), min(len(a_RR), TOP_RANKS)
        diagonal[i, :rank] = np.diagonal(a_RR)
        best[i, :rank] = a_RR[linear_sum_assignment(a_RR, maximize=True)]
        block[i, :k, :k] = a_RR[:k, :k]
        score[i] = np.diagonal(a_RR)[:SCORE_RANKS].mean()
    return {
        "agreement": diagonal,
        "agreement_best_match": best,
        "agreement_block": block,
        "agreement_score": score,
    }


ANALYSIS = Analysis(
    name="agreement",
    version=1,
    variables={
        "agreement": Variable(
            dims=("layer", "step", "rank"),
            long_name="agreement with the final checkpoint, same rank",
            chunks={"rank": 16},
            about="|<u_i, u'_i> <v_i, v'_i>|; a random pair of M x N matrices has (2 / pi) / sqrt(M N)",
        ),
        "agreement_best_match": Variable(
            dims=("layer", "step", "rank"),
            long_name="agreement with the final checkpoint, best one-to-one match",
            chunks={"rank": 16},
            about="entries of the assignment of current to final ranks that maximises their sum",
        ),
        "agreement_block": Variable(
            dims=("layer", "step", "row", "column"),
            long_name="agreement with the final checkpoint, leading ranks",
            chunks={"step": 8},
            about="|<u_i, u'_j> <v_i, v'_j>| for i, j up to 64",
        ),
        "agreement_score": Variable(
            dims=("layer", "step"),
            long_name="agreement with the final checkpoint, mean of the first 10 ranks",
            about="METHOD 5, score",
        ),
    },
    compute=compute,
)
