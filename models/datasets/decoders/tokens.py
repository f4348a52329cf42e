"""Text as blocks of tokens: the data spec, and blocks as inputs with the tokens that follow them (METHOD 1.5).

Shapes: N blocks, T positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.spec.checks import require, require_declared_types


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A tokenised corpus: the size of its vocabulary and the length of its blocks."""

    dataset: str = "wikitext103"
    variant: str = "full"
    vocabulary: int = 50_277
    """Rows of the embedding: the largest id of the tokenizer and one. The published network has 50,254, which lacks
    the ids of added white space."""
    length: int = 2048
    """Tokens that the network sees; blocks hold one more."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        for field in ("vocabulary", "length"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "an integer of 1 or more")


def token_examples(data: Text, arrays: Mapping[str, np.ndarray]) -> dict[str, Examples]:
    """Splits `train` and `val` of inputs int64 (N, T) and targets int64 (N, T), the input moved on by one token.

    `arrays` holds `train/chunk` and `val/chunk` (N, T + 1). ValueError for blocks of another length and for a token
    that the embedding has no row for.
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
