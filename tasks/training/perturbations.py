"""Noise added once to the matrices of a network, in all or in some singular directions.

Shapes: M rows, N columns, R = min(M, N) singular values.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from specdyn.models.nets.matrices import Matrix
from specdyn.models.spec.checks import require, require_known
from specdyn.models.spec.start import Perturbation
from specdyn.tasks.spectra.decomposition import Factors, decompose, require_finite
from specdyn.tasks.spectra.nulls import generator
from specdyn.tasks.spectra.truncation import keep_in_all

WHICH = ("bottom", "top")
"""Ends of the spectrum to which noise can be confined."""
DIRECTIONS = 10
"""Number of singular directions of `bottom` and `top` noise."""
CANCELLED = 1e-6
"""Share of the norm below which a perturbed matrix consists of the rounding errors of float32 factors."""

_NO_FACTORS = Factors(torch.empty(0, 0), torch.empty(0), torch.empty(0, 0), 0)


def perturbed(m_MN: Tensor, size: float, noise_MN: Tensor, keep_norm: bool = True, what: str = "the matrix") -> Tensor:
    """M + size * ||M|| * noise / ||noise||, scaled back to ||M|| unless not `keep_norm`, as (M, N); size 0 is M.

    The published text does not mention scaling back, but its numbers include it. ValueError, naming `what`, on a
    negative size and on noise of another shape, of zero norm, or that cancels the matrix; NotFinite on NaN or infinity.
    """
    require(0 <= size < math.inf, "size", size, "a finite number of 0 or more")
    shape, given = tuple(m_MN.shape), tuple(noise_MN.shape)
    require(given == shape, f"shape of the noise for {what}", given, f"{shape}")
    require_finite(m_MN, what)
    if size == 0:
        return m_MN.clone()
    exact_MN, direction_MN = m_MN.double(), noise_MN.double()
    norm, length = _norm(exact_MN), _norm(direction_MN)
    require(0 < length < math.inf, f"norm of the noise for {what}", length, "a finite number above 0")
    moved_MN = exact_MN + direction_MN * (size * norm / length)
    if keep_norm and norm > 0:
        left = _norm(moved_MN)
        require(left > CANCELLED * norm, f"size for {what}", size, "one at which the noise does not cancel it")
        moved_MN *= norm / left
    return moved_MN.to(m_MN.dtype)


def noise_random(m_MN: Tensor, seed: int, name: str) -> Tensor:
    """Independent standard Gaussians in the matrix's shape (M, N), seeded by seed and name."""
    return _gaussian(m_MN.shape[0], m_MN.shape[1], seed, name).to(m_MN)


def noise_in_directions(factors: Factors, count: int, which: str, seed: int, name: str) -> Tensor:
    """U_k G V_k' as (M, N) for the `top` or `bottom` k = count singular directions, with a Gaussian G (k, k).

    ValueError unless 1 <= count <= R.
    """
    require_known("end of the spectrum", which, WHICH)
    rank = len(factors.s)
    require(1 <= count <= rank, "count", count, f"1 to {rank} directions of {name}")
    chosen = slice(0, count) if which == "top" else slice(rank - count, rank)
    left_MK, right_NK = factors.left[:, chosen].double(), factors.right[:, chosen].double()
    return (left_MK @ _gaussian(count, count, seed, name).to(left_MK) @ right_NK.mT).to(factors.left.dtype)


def perturb(
    weights: Mapping[str, Tensor],
    matrices: Sequence[Matrix],
    noise: Perturbation,
    count: int = DIRECTIONS,
    keep_norm: bool = True,
) -> dict[str, Tensor]:
    """The weights with every matrix but the last perturbed; other tensors are shared.

    `top` and `bottom` noise is in `count` directions, or all R of a matrix with fewer. ValueError for a matrix
    that is only part of its parameter; else raises as `perturbed`.
    """
    require(count >= 1, "count", count, "1 direction or more")
    for matrix in matrices:
        part = matrix.part or matrix.rows or matrix.columns or matrix.heads
        require(not part, "matrix", matrix.name, "whole parameters")
    anywhere, seed = noise.direction == "random", noise.noise_seed
    factors = {
        layer.name: _NO_FACTORS if anywhere else decompose(layer.of(weights), f"layer {layer.name}")
        for layer in matrices[:-1]
    }

    def moved(layer: Matrix, w_MN: Tensor, factors: Factors) -> Tensor:
        if anywhere:
            noise_MN = noise_random(w_MN, seed, layer.name)
        else:
            noise_MN = noise_in_directions(factors, min(count, len(factors.s)), noise.direction, seed, layer.name)
        return perturbed(w_MN, noise.size, noise_MN, keep_norm, f"layer {layer.name}")

    return keep_in_all(weights, matrices, factors, moved)


def _gaussian(rows: int, columns: int, seed: int, name: str) -> Tensor:
    return torch.randn(rows, columns, generator=generator(f"perturbation {seed} {name}"))


def _norm(m_MN: Tensor) -> float:
    return float(torch.linalg.matrix_norm(m_MN))
