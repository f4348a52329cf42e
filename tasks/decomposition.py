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

SLAB = 8192
"""Rows of a matrix held in float64 at a time."""

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


def decompose(w_MN: Tensor, what: str = "matrix", vectors: bool = True) -> Factors:
    """The thin SVD of a matrix or a stack of matrices; NotFinite names `what` on NaN or infinity.

    The tall orientation is decomposed (LAPACK is slow on wide ones). From an aspect ratio of 2 on the
    eigenvectors of the float64 Gram matrix serve, unless the spectrum reaches below 3e-5 of its top. Without
    `vectors` the eigenvalues of that matrix serve at any shape, and left and right are empty.
    """
    require_finite(w_MN, what)
    tall = w_MN.shape[-2] >= w_MN.shape[-1]
    tall_MN = w_MN if tall else w_MN.mT
    if not vectors:
        return _values(tall_MN)
    found = _decompose_tall(tall_MN)
    return found if tall else Factors(found.right, found.s, found.left, found.driver)


def _values(w_MN: Tensor) -> Factors:
    s = singular_values(w_MN)
    driver = "gram_float64"
    if bool((s[..., -1] <= GRAM_FLOOR * s[..., 0]).any()):
        s, driver = torch.linalg.svdvals(w_MN.double()), "svd_float64"
    none = w_MN.new_empty(*w_MN.shape[:-2], 0, s.shape[-1])
    return Factors(none, s.float(), none, DRIVERS.index(driver))


def singular_values(w_MN: Tensor) -> Tensor:
    """Singular values alone, descending, as (R,) or, of a stack, (.., R) in float64.

    Square roots of the eigenvalues of the float64 Gram matrix: exact to 1e-8 of s_1, below which they are noise.
    Memory is that of the Gram matrix and of 8192 rows. NaN or infinity in the matrix is an error of LAPACK.
    """
    tall_MN = w_MN if w_MN.shape[-2] >= w_MN.shape[-1] else w_MN.mT
    return torch.linalg.eigvalsh(upper_gram(tall_MN), UPLO="U").clamp_min(0).sqrt().flip(-1)


def decompose_alike(matrices: Mapping[str, Tensor], what: str, vectors: bool = True) -> dict[str, Factors]:
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
        stacked = decompose(torch.stack([matrices[name] for name in names]), what, vectors)
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
    try:
        energies, right = torch.linalg.eigh(upper_gram(w_MN), UPLO="U")
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return None
    s = energies.clamp_min(0).sqrt().flip(-1)
    if bool((s[..., -1] <= GRAM_FLOOR * s[..., 0]).any()):
        return None
    right = right.flip(-1)
    by_values = right / s.unsqueeze(-2)
    # Rounding to float32 moves the left vector of s_i by 6e-8 s_1 / s_i, which the larger values can bear.
    k = int((s >= SINGLE_FLOOR * s[..., :1]).sum(-1).min())
    small = [(slab.double() @ by_values[..., k:]).float() for slab in w_MN.split(SLAB, dim=-2)]
    left = torch.cat([w_MN.float() @ by_values[..., :k].float(), torch.cat(small, dim=-2)], dim=-1)
    return Factors(left, s.float(), right.float(), DRIVERS.index("gram_float64"))


def upper_gram(w_MN: Tensor) -> Tensor:
    """W'W (.., N, N) in float64 on and above its diagonal; what lies below is zero or not to be used."""
    columns = w_MN.shape[-1]
    gram_NN = torch.zeros(*w_MN.shape[:-2], columns, columns, dtype=torch.float64, device=w_MN.device)
    block = max(GRAM_BLOCK, -(-columns // 4))
    for slab in w_MN.split(SLAB, dim=-2):
        exact_MN = slab.double()
        for start in range(0, columns, block):
            stop = start + block
            gram_NN[..., start:stop, start:] += exact_MN[..., start:stop].mT @ exact_MN[..., start:]
    return gram_NN


def _by_svd(w_MN: Tensor, driver: str) -> Factors:
    left, s, right_t = torch.linalg.svd(w_MN, full_matrices=False)
    return Factors(left.float(), s.float(), right_t.mT.float(), DRIVERS.index(driver))
