"""All pairs (i, j) of a prime modulus with their sum, split into training and validation (METHOD 1.1)."""

import random

import torch
from torch import Tensor

from specdyn.models.spec.data import ModularAddition


def rows(data: ModularAddition, seed: int) -> tuple[Tensor, Tensor]:
    """Training and validation rows `[i, j, prime, (i + j) mod prime]`, int64 of shape (n, 4).

    The order is the published one: row-major pairs, shuffled by Python's generator at `seed`.
    With `mirrored_together` the unordered pairs are shuffled and cut instead.
    """
    prime = data.prime
    pairs = [(i, j) for i in range(prime) for j in range(prime) if i <= j or not data.mirrored_together]
    random.Random(seed).shuffle(pairs)
    cut = int(data.train_fraction * len(pairs))

    def table(part: list[tuple[int, int]]) -> Tensor:
        if data.mirrored_together:
            part = [ordered for i, j in part for ordered in ([(i, j), (j, i)] if i != j else [(i, j)])]
        return torch.tensor([(i, j, prime, (i + j) % prime) for i, j in part], dtype=torch.int64)

    return table(pairs[:cut]), table(pairs[cut:])
