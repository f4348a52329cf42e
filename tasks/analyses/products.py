"""Singular values of the product of two layers that feed one another, from existing factors (CLAIMS 5.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, PairView, Values
from specdyn.tasks.spectra.spectral import effective_rank

if TYPE_CHECKING:
    from torch import Tensor


def core(view: PairView) -> Tensor:
    """S_r X_r' Y_w S_w as (R_reader, R_writer) in float64, after an axis of heads if there are several.

    X are the reader's vectors along the shared width, Y the writer's. It has the singular values of the product of
    the two matrices: of W_r W_w, or of W_k' W_q if both sides use left vectors.
    """
    pair, reader, writer = view.pair, view.reader, view.writer
    x, y = reader.vectors(pair.reader_vectors).double(), writer.vectors(pair.writer_vectors).double()
    return reader.s.double().unsqueeze(-1) * (x.mT @ y) * writer.s.double().unsqueeze(-2)


def compute(view: PairView) -> Values:
    """Values and effective rank of the product, separately for each head if the pair has heads.

    Empty if the reader is a convolution or the writer has gates: the product then involves more than two matrices.
    """
    import torch

    from specdyn.tasks.spectra.decomposition import singular_values

    if view.pair.parts > 1:
        return {}
    values = singular_values(core(view)).numpy()
    if values.ndim == 1:
        return {"product_singular_value": values, "product_effective_rank": effective_rank(values)}
    ranks = torch.tensor([effective_rank(s_R) for s_R in values]).numpy()
    return {"head_product_singular_value": values, "head_product_effective_rank": ranks}


ANALYSIS = Analysis(
    name="products",
    version=1,
    of="pair",
    variables={
        "product_singular_value": Variable(
            dims=("pair", "step", "rank"),
            long_name="singular value of the product of two layers",
            chunks={"rank": 16},
            about="s_i of W_reader W_writer; pairs without heads, kernel positions and gates; CLAIMS 5.9",
        ),
        "product_effective_rank": Variable(
            dims=("pair", "step"),
            long_name="effective rank of the product of two layers / rank",
            about="exp(-sum p log p) / R of the product, p = s / sum s; CLAIMS 5.9",
        ),
        "head_product_singular_value": Variable(
            dims=("attention", "step", "head", "rank"),
            long_name="singular value of a head's product",
            about="s_i of W_K' W_Q of each head, of W_O W_V; CLAIMS 5.9",
        ),
        "head_product_effective_rank": Variable(
            dims=("attention", "step", "head"),
            long_name="effective rank of a head's product / rank",
            about="exp(-sum p log p) / R of the head's product, p = s / sum s; CLAIMS 5.9",
        ),
    },
    compute=compute,
)
