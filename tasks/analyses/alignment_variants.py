"""Other definitions of the alignment between layers that feed one another, weighted by singular values (CLAIMS 5.8)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, PairView, Values

if TYPE_CHECKING:
    from torch import Tensor

    from specdyn.tasks.spectra.decomposition import Factors


def grams(view: PairView) -> tuple[Tensor, Tensor]:
    """A_r / t_r^2 and A_w / t_w^2 on the shared width, (.., d, d), from factors; A_r = W_r' W_r, A_w = W_w W_w'.

    A reading convolution sums them over its kernel positions, a writing LSTM over its gates; heads are an axis.
    t are `sizes`, which keep squares of very large or small values within float32. If both matrices span less than d,
    as heads do, the Gram matrices are in coordinates of that span, (.., R_r + R_w, R_r + R_w): traces, norms and
    inner products are the same.
    """
    import torch

    pair = view.pair
    reader_s, writer_s = (factors.s.double() / size for factors, size in zip(_both(view), sizes(view), strict=True))
    x = view.reader.vectors(pair.reader_vectors) * reader_s.float().unsqueeze(-2)
    y = view.writer.vectors(pair.writer_vectors) * writer_s.float().unsqueeze(-2)
    if pair.positions > 1:
        x = x.unflatten(0, (-1, pair.positions)).flatten(1)
    if pair.gates > 1:
        y = y.unflatten(0, (pair.gates, -1)).movedim(0, 1).flatten(1)
    rank = x.shape[-1]
    if rank + y.shape[-1] < x.shape[-2]:
        both = torch.linalg.qr(torch.cat([x, y], dim=-1), mode="r").R
        x, y = both[..., :rank], both[..., rank:]
    return x @ x.mT, y @ y.mT


def sizes(view: PairView) -> tuple[Tensor, Tensor]:
    """The power of two just above s_1 of reader and writer, 1 for a zero matrix, as (.., 1) in float64."""
    import torch

    return tuple(  # type: ignore[return-value]
        torch.ldexp(torch.ones_like(top := factors.s[..., :1].double()), torch.frexp(top).exponent)
        for factors in _both(view)
    )


def _both(view: PairView) -> tuple[Factors, Factors]:
    return view.reader, view.writer


def compute(view: PairView) -> Values:
    """The three numbers of a pair, averaged over heads; NaN if a matrix is zero, imbalance only if both are."""
    reader, writer = (gram.double().numpy() for gram in grams(view))
    inner = (reader * writer).sum((-2, -1))
    traces = np.trace(reader, axis1=-2, axis2=-1) * np.trace(writer, axis1=-2, axis2=-1)
    norms = [np.linalg.norm(gram, axis=(-2, -1)) for gram in (reader, writer)]
    # Both in units of the larger.
    units = [(size**2).numpy() for size in sizes(view)]
    shares = [unit / np.maximum(*units) for unit in units]
    apart = np.linalg.norm(reader * shares[0][..., None] - writer * shares[1][..., None], axis=(-2, -1))
    return {
        "weighted_alignment": float(np.sqrt(_ratio(inner, traces)).mean()),
        "gram_alignment": float(_ratio(inner, norms[0] * norms[1]).mean()),
        "imbalance": float(_ratio(apart, norms[0] * shares[0][..., 0] + norms[1] * shares[1][..., 0]).mean()),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, clipped to [0, 1] against rounding; NaN where whole is 0."""
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
