"""Alignment between layers that feed one another, and of queries with keys (METHOD 4.4)."""

import numpy as np

from models.matrices import LayerPair
from storage.schema import SCORE_RANKS, Variable
from tasks.analysis import Analysis, CheckpointView


def alignment(view: CheckpointView, pair: LayerPair) -> np.ndarray:
    """|<reader_i, writer_j>| as (R_reader, R_writer), with a leading axis of heads where the pair has them."""
    reader = view.factors[pair.reader.name].vectors(pair.reader_vectors)
    writer = view.factors[pair.writer.name].vectors(pair.writer_vectors)
    return np.asarray((reader.mT @ writer).abs())


def compute(view: CheckpointView) -> dict[str, np.ndarray]:
    """Diagonal and top-10 score of every pair, heads averaged, and the diagonal of each head."""
    diagonal, score = view.blank("pair", "rank"), view.blank("pair")
    heads, head_score = view.blank("attention", "head", "rank"), view.blank("attention", "head")
    attention = 0
    for i, pair in enumerate(view.pairs):
        values = np.diagonal(alignment(view, pair), axis1=-2, axis2=-1)
        if values.ndim == 2:
            heads[attention, : values.shape[0], : values.shape[1]] = values
            head_score[attention, : values.shape[0]] = values[:, :SCORE_RANKS].mean(axis=1)
            attention, values = attention + 1, values.mean(axis=0)
        diagonal[i, : len(values)] = values
        score[i] = values[:SCORE_RANKS].mean()
    return {
        "alignment": diagonal,
        "alignment_score": score,
        "head_alignment": heads,
        "head_alignment_score": head_score,
    }


ANALYSIS = Analysis(
    name="alignment",
    version=1,
    variables={
        "alignment": Variable(
            dims=("pair", "step", "rank"),
            long_name="alignment of reading with writing vectors, same rank",
            chunks={"rank": 16},
            about="|<v_i of the reader, u_i of the writer>|; chance is sqrt(2 / (pi d)) for shared width d",
        ),
        "alignment_score": Variable(
            dims=("pair", "step"), long_name="alignment, mean of the first 10 ranks", about="METHOD 5, score"
        ),
        "head_alignment": Variable(
            dims=("attention", "step", "head", "rank"),
            long_name="alignment of query with key vectors, same rank",
            about="|<u_i of W_Q, u_i of W_K>| of each head",
        ),
        "head_alignment_score": Variable(
            dims=("attention", "step", "head"),
            long_name="alignment of query with key vectors, mean of the first 10 ranks",
        ),
    },
    compute=compute,
)
