"""Alignment between layers that feed one another, and of queries with keys (METHOD 4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specdyn.storage.schema import SCORE_RANKS, Variable
from specdyn.tasks.spectra.analysis import Analysis, PairView, Values

if TYPE_CHECKING:
    from torch import Tensor


def along_shared(view: PairView) -> tuple[Tensor, Tensor]:
    """Vectors of reader and writer along their shared width d, (d, R) each, after an axis of heads or parts.

    Parts of a vector (a kernel position of the reader, a gate of the writer) are not renormalised.
    """
    pair = view.pair
    reader, writer = view.reader.vectors(pair.reader_vectors), view.writer.vectors(pair.writer_vectors)
    if pair.positions > 1:
        reader = reader.unflatten(0, (-1, pair.positions)).movedim(1, 0)
    if pair.gates > 1:
        writer = writer.unflatten(0, (pair.gates, -1))
    return reader, writer


def alignment(view: PairView) -> Tensor:
    """|<reader_i, writer_i>| as (R,), R the smaller rank, after an axis of heads or parts if there are several."""
    reader, writer = along_shared(view)
    rank = min(reader.shape[-1], writer.shape[-1])
    return (reader[..., :rank] * writer[..., :rank]).sum(-2).abs()


def compute(view: PairView) -> Values:
    """Diagonal and top-10 score of the pair, and of each of its heads or parts.

    The pair's value is the mean over heads, or the value of the centre position or gate g.
    """
    diagonals = np.asarray(alignment(view))
    scores = diagonals[..., :SCORE_RANKS].mean(axis=-1)
    if diagonals.ndim == 1:
        return {"alignment": diagonals, "alignment_score": scores}
    if view.pair.parts > 1:
        shown = view.pair.shown
        return {
            "alignment": diagonals[shown],
            "alignment_score": scores[shown],
            "part_alignment": diagonals,
            "part_alignment_score": scores,
        }
    return {
        "alignment": diagonals.mean(axis=0),
        "alignment_score": scores.mean(),
        "head_alignment": diagonals,
        "head_alignment_score": scores,
    }


ANALYSIS = Analysis(
    name="alignment",
    version=1,
    of="pair",
    variables={
        "alignment": Variable(
            dims=("pair", "step", "rank"),
            long_name="alignment of reading with writing vectors, same rank",
            chunks={"rank": 16},
            about="|<v_i of the reader, u_i of the writer>|; chance is sqrt(2 / (pi d)) for shared width d; METHOD 4.4",
        ),
        "alignment_score": Variable(
            dims=("pair", "step"),
            long_name="alignment, mean of the first 10 ranks",
            about="mean of |<v_i, u_i>| over i up to 10; METHOD 5",
        ),
        "part_alignment": Variable(
            dims=("pair", "step", "part", "rank"),
            long_name="alignment by kernel position or gate, same rank",
            chunks={"rank": 16},
            about="|<v_i at the position, u_i>| or |<v_i, u_i at the gate>|, parts not normalised; METHOD 4.4",
        ),
        "part_alignment_score": Variable(
            dims=("pair", "step", "part"),
            long_name="alignment by kernel position or gate, mean of the first 10 ranks",
            about="mean over i up to 10; METHOD 5",
        ),
        "head_alignment": Variable(
            dims=("attention", "step", "head", "rank"),
            long_name="alignment by head, same rank",
            about="|<u_i of W_Q, u_i of W_K>| of each head, |<v_i of W_O, u_i of W_V>|; METHOD 4.4",
        ),
        "head_alignment_score": Variable(
            dims=("attention", "step", "head"),
            long_name="alignment by head, mean of the first 10 ranks",
            about="mean over i up to 10; METHOD 5",
        ),
    },
    compute=compute,
)
