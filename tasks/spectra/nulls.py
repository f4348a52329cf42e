"""Chance levels: unstructured matrices of a layer's shape, and closed forms (CLAIMS 2.7).

Shapes: M rows, N columns, R = min(M, N), d the shared width of two layers.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from specdyn.tasks.spectra.assignment import one_to_one
from specdyn.tasks.spectra.decomposition import GRAM_ASPECT, upper_gram

DENSITY = 0.05
"""Share of the entries that a lottery ticket keeps."""


def generator(name: str) -> torch.Generator:
    """A generator seeded by a name, so that a layer has the same chance matrices in every run."""
    # Not `seed_of`: the chance levels of published results come from these seeds.
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
    return torch.Generator().manual_seed(seed)


def without_structure(w_MN: Tensor, name: str) -> dict[str, Tensor]:
    """By label of NULLS: Gaussian entries with the mean square of W (1 where W is zero), and W's entries shuffled."""
    mean_square = float(w_MN.double().square().mean()) or 1.0
    # In float64, as entries near the limits of float32 would exceed them.
    gaussian = torch.randn(w_MN.shape, generator=generator(f"gaussian {name}")).double() * math.sqrt(mean_square)
    order = torch.randperm(w_MN.numel(), generator=generator(f"shuffled {name}"))
    return {"gaussian": gaussian, "shuffled": w_MN.flatten()[order].view(w_MN.shape)}


def agreement(rows: int, columns: int) -> float:
    """Mean agreement of two random matrices at one rank, (2 / pi) / sqrt(M N)."""
    return 2 / math.pi / math.sqrt(rows * columns)


def alignment(width: int, parts: int = 1) -> float:
    """Mean alignment of random vectors of length d, sqrt(2 / (pi d)), one of them part of a vector `parts` as long."""
    return math.sqrt(2 / (math.pi * width * parts))


def weighted_alignment(width: int) -> float:
    """Root mean square of ||A B||_F / (||A||_F ||B||_F) for random A, B with shared width d: 1 / sqrt d."""
    return 1 / math.sqrt(width)


def best_match(rows: int, columns: int, name: str) -> float:
    """Mean best-match agreement of two Gaussian matrices, from one draw; the same for all ranks.

    Their singular vectors are random orthonormal frames, also relative to one another.
    """
    rank = min(rows, columns)
    random = generator(f"frames {name}")
    left, right = (first_rows(torch.randn(size, rank, generator=random)) for size in (rows, columns))
    a_RR = np.asarray((left * right).abs())
    return float(a_RR[one_to_one(a_RR)].mean())


def first_rows(draws_MR: Tensor) -> Tensor:
    """The first R rows of Q in the QR of a Gaussian M x R matrix, up to signs of columns, as (R, R).

    For at least twice as many rows as columns, computed by Cholesky QR in float64, since the condition number of a
    Gaussian matrix is then at most about 6.
    """
    rank = draws_MR.shape[1]
    if len(draws_MR) < GRAM_ASPECT * rank:
        return torch.linalg.qr(draws_MR)[0][:rank]
    factor_RR = torch.linalg.cholesky(upper_gram(draws_MR).triu().mT).mT
    return torch.linalg.solve_triangular(factor_RR, draws_MR[:rank].double(), upper=True, left=False).float()


def kept_energy(w_MN: Tensor) -> float:
    """Share of sum W^2 in the 5 % of the entries (at least one) of largest magnitude; NaN for a zero matrix."""
    squares = w_MN.double().square().flatten().numpy()
    total, count = float(squares.sum()), max(1, int(DENSITY * len(squares)))
    squares.partition(len(squares) - count)
    return float(squares[-count:].sum()) / total if total > 0 else math.nan
