"""All pairs (i, j) of a prime modulus with their sum, split into training and validation (METHOD 1.1)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from specdyn.models.spec.data import ModularAddition

if TYPE_CHECKING:
    from torch import Tensor

Pairs = list[tuple[int, int]]


def split(data: ModularAddition, seed: int) -> tuple[Pairs, Pairs]:
    """Training and validation pairs (i, j).

    The order is the published one: row-major pairs, shuffled by Python's generator at `seed`.
    With `mirrored_together` the unordered pairs are shuffled and cut instead.
    """
    pairs = [(i, j) for i in range(data.prime) for j in range(data.prime) if i <= j or not data.mirrored_together]
    random.Random(seed).shuffle(pairs)
    cut = int(data.train_fraction * len(pairs))

    def ordered(part: Pairs) -> Pairs:
        if not data.mirrored_together:
            return part
        return [one for i, j in part for one in ([(i, j), (j, i)] if i != j else [(i, j)])]

    return ordered(pairs[:cut]), ordered(pairs[cut:])


def rows(data: ModularAddition, seed: int) -> tuple[Tensor, Tensor]:
    """Training and validation rows `[i, j, prime, (i + j) mod prime]`, int64 of shape (n, 4)."""
    import torch

    prime = data.prime
    train, val = (
        torch.tensor([(i, j, prime, (i + j) % prime) for i, j in part], dtype=torch.int64) for part in split(data, seed)
    )
    return train, val
