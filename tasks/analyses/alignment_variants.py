"""Other definitions of the alignment between layers that feed one another, weighted by singular values (CLAIMS 5.8)."""

import math

import numpy as np
from torch import Tensor

from storage.schema import Variable
from tasks.analysis import Analysis, PairView, Values


def grams(view: PairView) -> tuple[Tensor, Tensor]:
    """A_r = W_r' W_r and A_w = W_w W_w' on the shared width, (.., d, d), from factors.

    A reading convolution sums them over its kernel positions, a writing LSTM over its gates; heads are an axis.
    """
    pair = view.pair
    x = view.reader.vectors(pair.reader_vectors) * view.reader.s.unsqueeze(-2)
    y = view.writer.vectors(pair.writer_vectors) * view.writer.s.unsqueeze(-2)
    if pair.positions > 1:
        x = x.unflatten(0, (-1, pair.positions)).flatten(1)
    if pair.gates > 1:
        y = y.unflatten(0, (pair.gates, -1)).movedim(0, 1).flatten(1)
    return x @ x.mT, y @ y.mT


def compute(view: PairView) -> Values:
    """The three numbers of a pair, heads averaged; NaN where a matrix is zero, but imbalance only where both are."""
    reader, writer = (gram.double().numpy() for gram in grams(view))
    inner = (reader * writer).sum((-2, -1))
    traces = np.trace(reader, axis1=-2, axis2=-1) * np.trace(writer, axis1=-2, axis2=-1)
    norms = [np.linalg.norm(gram, axis=(-2, -1)) for gram in (reader, writer)]
    apart = np.linalg.norm(reader - writer, axis=(-2, -1))
    return {
        "weighted_alignment": float(np.sqrt(_ratio(inner, traces)).mean()),
        "gram_alignment": float(_ratio(inner, norms[0] * norms[1]).mean()),
        "imbalance": float(_ratio(apart, norms[0] + norms[1]).mean()),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, at least 0 and at most 1 whatever the rounding; NaN where whole is 0."""
    ratio = np.divide(part, whole, out=np.full_like(part, math.nan), where=whole > 0)
    return np.clip(ratio, 0, 1)


ANALYSIS = Analysis(
    name="alignment_variants",
    version=1,
    of="pair",
    variables={
        "weighted_alignment": Variable(
            dims=("pair", "step"),
            long_name="alignment weighted by singular values",
            about="||S_r X' Y S_w||_F / (||S_r||_F ||S_w||_F) = ||W_r W_w||_F / (||W_r||_F ||W_w||_F), in [0, 1]: "
            "1 where both are of rank 1 and aligned, 1 / sqrt d by chance; sums over kernel positions; CLAIMS 5.8",
        ),
        "gram_alignment": Variable(
            dims=("pair", "step"),
            long_name="cosine of the layers' Gram matrices",
            about="<A_r, A_w> / (||A_r||_F ||A_w||_F), A_r = W_r' W_r, A_w = W_w W_w', in [0, 1]: 1 where they are "
            "balanced up to scale; sums over kernel positions; CLAIMS 5.8",
        ),
        "imbalance": Variable(
            dims=("pair", "step"),
            long_name="imbalance of the layers",
            about="||A_r - A_w||_F / (||A_r||_F + ||A_w||_F), A_r = W_r' W_r, A_w = W_w W_w', in [0, 1]: 0 where they "
            "are balanced; sums over kernel positions; CLAIMS 5.8",
        ),
    },
    compute=compute,
)
