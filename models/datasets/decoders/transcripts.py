"""Decodes log-probabilities to transcripts and counts errors against the spoken ones (METHOD 1.4).

Shapes: B utterances, T frames, K symbols.
"""

import itertools
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdyn.models.datasets.decoders.speech import BLANK, PADDING, SPACE

Transcript = list[int]


def decode(outputs_BTK: Tensor) -> list[Transcript]:
    """The likeliest symbol of each frame, repeats collapsed, blanks dropped.

    All frames are read, including padding, as published.
    """
    best_BT = outputs_BTK.argmax(-1).tolist()
    return [[symbol for symbol, _ in itertools.groupby(row) if symbol != BLANK] for row in best_BT]


def spoken(targets: Tensor) -> list[Transcript]:
    """The padded targets (B, L) without their padding."""
    return [[symbol for symbol in row if symbol != PADDING] for row in targets.tolist()]


def words(transcript: Transcript) -> list[tuple[int, ...]]:
    """The symbols between spaces; consecutive spaces count as one."""
    groups = itertools.groupby(transcript, key=lambda symbol: symbol == SPACE)
    return [tuple(word) for is_space, word in groups if not is_space]


def errors(spoken: Sequence[Sequence[Hashable]], heard: Sequence[Sequence[Hashable]]) -> Tensor:
    """Edit distances and lengths of the spoken transcripts, each summed over all utterances: float64 (2,)."""
    ids: dict[Hashable, int] = {}
    rows = [[[ids.setdefault(item, len(ids)) for item in row] for row in side] for side in (spoken, heard)]
    distance = edit_distances(*rows)
    return torch.tensor([distance.sum(), sum(map(len, spoken))], dtype=torch.float64)


def edit_distances(a: Sequence[Sequence[int]], b: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Levenshtein distances between a[i] and b[i], int64 (B,): the fewest insertions, deletions, substitutions.

    The rows of the dynamic programming table, along `a`, are filled for all utterances at once.
    """
    a_lengths, b_lengths = (np.array([len(row) for row in side], np.int64) for side in (a, b))
    a_BM, b_BN = _table(a, a_lengths, -1), _table(b, b_lengths, -2)
    column = np.arange(b_BN.shape[1] + 1)
    row = np.broadcast_to(column, (len(a), len(column)))
    everyone = np.arange(len(a))
    distances = row[everyone, b_lengths].copy()
    for i in range(a_BM.shape[1]):
        changed = row[:, :-1] + (a_BM[:, i : i + 1] != b_BN)
        without_insertion = np.concatenate([row[:, :1] + 1, np.minimum(changed, row[:, 1:] + 1)], axis=1)
        row = np.minimum.accumulate(without_insertion - column, axis=1) + column
        ends = a_lengths == i + 1
        distances[ends] = row[ends, b_lengths[ends]]
    return distances


def _table(rows: Sequence[Sequence[int]], lengths: npt.NDArray[np.int64], filler: int) -> npt.NDArray[np.int64]:
    table = np.full((len(rows), int(lengths.max(initial=0))), filler, np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = list(itertools.chain.from_iterable(rows))
    return table
