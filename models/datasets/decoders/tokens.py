"""Text as blocks of tokens: inputs, and the next tokens as targets (METHOD 1.5).

Shapes: N blocks, T positions.
"""

from collections.abc import Mapping

import numpy as np
import torch

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.spec.checks import require
from specdyn.models.spec.data import Text


def token_examples(data: Text, arrays: Mapping[str, np.ndarray]) -> dict[str, Examples]:
    """Splits `train` and `val` of inputs int64 (N, T) and targets int64 (N, T), the inputs shifted by one token.

    `arrays` holds `train/chunk` and `val/chunk` (N, T + 1). ValueError for blocks of another length, and for a token
    without a row in the embedding.
    """
    return {split: _split(data, arrays[f"{split}/chunk"], split) for split in ("train", "val")}


def _split(data: Text, chunk: np.ndarray, split: str) -> Examples:
    where = f"{data.dataset}/{data.variant}, split {split}"
    length = chunk.shape[1] - 1
    require(length == data.length, "length", data.length, f"{length}, the length of the blocks of {where}")
    largest = int(chunk.max())
    require(largest < data.vocabulary, "vocabulary", data.vocabulary, f"more than {largest}, the largest id of {where}")
    tokens = torch.from_numpy(chunk.astype(np.int64))
    return Examples(tokens[:, :-1], tokens[:, 1:])
