"""Matrices made with chosen singular values, in float64, by no code of ours."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def orthonormal(rows: int, columns: int, seed: int) -> np.ndarray:
    """Random orthonormal columns (rows, columns) in float64."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(rows, columns)))
    return np.asarray(q * np.sign(np.diagonal(r)))


def matrix_with(singular_values: Sequence[float] | np.ndarray, rows: int, columns: int, seed: int = 0) -> Tensor:
    """A float32 matrix (rows, columns) with these singular values and random singular vectors."""
    rank = len(singular_values)
    left, right = orthonormal(rows, rank, seed), orthonormal(columns, rank, seed + 1)
    return torch.tensor((left * np.asarray(singular_values)) @ right.T, dtype=torch.float32)
