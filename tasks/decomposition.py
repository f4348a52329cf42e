"""Singular value decomposition of a matrix or stack, once, by the cheapest driver that is exact enough.

Shapes: M rows, N columns, R = min(M, N) singular values; a leading H for stacks.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

DRIVERS = ("missing", "svd_float32", "gram_float64", "svd_float64")
"""Meanings of `Factors.driver`, and of the stored variable `driver`."""

GRAM_ASPECT = 2.0
"""Rows per column from which the Gram matrix is cheaper than an SVD."""
GRAM_FLOOR = 3e-5
"""Smallest s_R / s_1 that the Gram matrix, which squares the condition number, is trusted with.

Left vectors depart from orthogonality by 2e-6 there, as those of a float32 SVD do; by 2e-5 at 1e-5, by 2e-3 at 1e-6.
"""


SINGLE_FLOOR = 0.03
"""Smallest s_i / s_1 whose left vector is computed in float32 from the eigenvectors of the Gram matrix."""

GRAM_BLOCK = 32
"""Fewest columns that are worth a product of their own."""


class NotFinite(ValueError):
    """A matrix holds NaN or infinity: says which layer of which step."""


class Factors(NamedTuple):
    """Thin SVD in float32: left (.., M, R), s (.., R) descending, right (.., N, R); driver indexes DRIVERS."""

    left: Tensor
    s: Tensor
    right: Tensor
    driver: int

    def vectors(self, side: str) -> Tensor:
        """The `left` or `right` singular vectors as columns."""
        return self.left if side == "left" else self.right


def decompose(w_MN: Tensor, what: str = "matrix") -> Factors:
    """The thin SVD of a matrix or a stack of matrices; NotFinite names `what` on NaN or infinity.

    The tall orientation is decomposed (LAPACK is slow on wide ones). From an aspect ratio of 2 on the
    eigenvectors of the float64 Gram matrix serve, unless the spectrum reaches below 3e-5 of its top.
    """
    require_finite(w_MN, what)
    if w_MN.shape[-2] >= w_MN.shape[-1]:
        return _decompose_tall(w_MN)
    tall = _decompose_tall(w_MN.mT)
    return Factors(tall.right, tall.s, tall.left, tall.driver)


def decompose_alike(matrices: Mapping[str, Tensor], what: str) -> dict[str, Factors]:
    """The factors of matrices by name, those of equal shape in one batch; on the CPU, wherever the matrices lie.

    For GPUs, where one call on a stack costs little more than one on a matrix. Raises NotFinite as `decompose`.
    """
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, matrix in matrices.items():
        alike.setdefault(tuple(matrix.shape), []).append(name)
    factors: dict[str, Factors] = {}
    for names in alike.values():
        for name in names:
            require_finite(matrices[name], f"{what} layer {name}")
        stacked = decompose(torch.stack([matrices[name] for name in names]), what)
        for i, name in enumerate(names):
            left, s, right = (part[i].cpu() for part in stacked[:3])
            factors[name] = Factors(left, s, right, stacked.driver)
    return {name: factors[name] for name in matrices}


def require_finite(w_MN: Tensor, what: str) -> None:
    """Raise NotFinite, naming `what`, unless every entry is a finite number."""
    if not bool(torch.isfinite(w_MN).all()):
        bad = int((~torch.isfinite(w_MN)).sum())
        raise NotFinite(f"{what}: {bad} of {w_MN.numel()} entries are NaN or infinite; the run diverged there")


def _decompose_tall(w_MN: Tensor) -> Factors:
    if w_MN.shape[-2] >= GRAM_ASPECT * w_MN.shape[-1]:
        if (factors := _by_gram(w_MN)) is not None:
            return factors
        return _by_svd(w_MN.double(), "svd_float64")
    try:
        return _by_svd(w_MN, "svd_float32")
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return _by_svd(w_MN.double(), "svd_float64")


def _by_gram(w_MN: Tensor) -> Factors | None:
    """Factors through the eigenvectors of W'W in float64; None where the smallest values would be noise."""
    w64_MN = w_MN.double()
    try:
        energies, right = torch.linalg.eigh(upper_gram(w64_MN), UPLO="U")
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return None
    s = energies.clamp_min(0).sqrt().flip(-1)
    if bool((s[..., -1] <= GRAM_FLOOR * s[..., 0]).any()):
        return None
    right = right.flip(-1)
    by_values = right / s.unsqueeze(-2)
    # Rounding to float32 moves the left vector of s_i by 6e-8 s_1 / s_i, which the larger values can bear.
    k = int((s >= SINGLE_FLOOR * s[..., :1]).sum(-1).min())
    left = torch.cat([w_MN @ by_values[..., :k].float(), (w64_MN @ by_values[..., k:]).float()], dim=-1)
    return Factors(left, s.float(), right.float(), DRIVERS.index("gram_float64"))


def upper_gram(w_MN: Tensor) -> Tensor:
    """W'W (.., N, N) on and above its diagonal, in blocks of columns; what lies below is zero or not to be used."""
    columns = w_MN.shape[-1]
    gram_NN = w_MN.new_zeros(*w_MN.shape[:-2], columns, columns)
    block = max(GRAM_BLOCK, -(-columns // 4))
    for start in range(0, columns, block):
        stop = start + block
        gram_NN[..., start:stop, start:] = w_MN[..., start:stop].mT @ w_MN[..., start:]
    return gram_NN


def _by_svd(w_MN: Tensor, driver: str) -> Factors:
    left, s, right_t = torch.linalg.svd(w_MN, full_matrices=False)
    return Factors(left.float(), s.float(), right_t.mT.float(), DRIVERS.index(driver))
