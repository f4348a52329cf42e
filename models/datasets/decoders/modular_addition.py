"""All pairs (i, j) of a prime modulus with their sum, split into training and validation (METHOD 1.1)."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from specdyn.models.spec.checks import require, require_declared_types


@dataclass(frozen=True, slots=True, kw_only=True)
class ModularAddition:
    """The addition table of a prime and how it is split; the split depends on the run's seed."""

    prime: int = 113
    train_fraction: float = 0.3
    mirrored_together: bool = False
    """Keep (i, j) and (j, i) on the same side of the split, so that commutativity leaks nothing."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        is_prime = self.prime > 1 and all(self.prime % n for n in range(2, int(self.prime**0.5) + 1))
        require(is_prime, "prime", self.prime, "a prime number")
        require(0 < self.train_fraction < 1, "train_fraction", self.train_fraction, "a number between 0 and 1")
        pairs = self.prime * (self.prime + 1) // 2 if self.mirrored_together else self.prime**2
        least = f"{1 / pairs:.3g} or more, for one of {pairs} pairs to train on"
        require(int(self.train_fraction * pairs) >= 1, "train_fraction", self.train_fraction, least)


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
