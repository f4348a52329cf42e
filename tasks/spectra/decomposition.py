"""Singular value decomposition of a matrix or stack, by the cheapest driver that is accurate enough.

Shapes: M rows, N columns, R = min(M, N) singular values; a leading H for stacks.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from specdyn.storage.schema import OutOfRange
from specdyn.tasks.failures import NotFinite
from specdyn.tasks.spectra.labels import DRIVERS

GRAM_ASPECT = 2.0
"""Aspect ratio from which the Gram matrix is cheaper than an SVD."""
GRAM_FLOOR = 3e-5
"""Smallest s_R / s_1 for which the Gram matrix, which squares the condition number, is used.

Left vectors deviate from orthogonality by 2e-6 there, like those of a float32 SVD; by 2e-5 at 1e-5, 2e-3 at 1e-6.
"""

SINGLE_FLOOR = 0.03
"""Smallest s_i / s_1 whose left vector is computed in float32 from the eigenvectors of the Gram matrix."""

SLAB = 2048
"""Rows of a matrix held in float64 at a time; few enough for the allocator to reuse their memory."""

GRAM_BLOCK = 32
"""Fewest columns that are worth a separate product."""
GRAM_BLOCKS = 8
"""Most blocks of columns: eight compute an eighth of the unneeded half, four would compute a quarter."""

SMALLEST, LARGEST = 2.0**-149, torch.finfo(torch.float32).max
"""The range of float32, in which results are stored."""


class Factors(NamedTuple):
    """Thin SVD in float32: left (.., M, R), s (.., R) descending, right (.., N, R); driver indexes DRIVERS."""

    left: Tensor
    s: Tensor
    right: Tensor
    driver: int

    def vectors(self, side: str) -> Tensor:
        """The `left` or `right` singular vectors as columns."""
        return self.left if side == "left" else self.right


def reordered(factors: Factors, rows_M: Tensor, columns_N: Tensor) -> Factors:
    """The factors of W[rows][:, columns], given the factors of W and permutations of all rows and columns."""
    return factors._replace(left=factors.left[rows_M], right=factors.right[columns_N])


def decompose(w_MN: Tensor, what: str = "matrix", vectors: bool = True) -> Factors:
    """The thin SVD of a matrix or a stack of matrices of any floating dtype, whose entries are rounded to float32.

    Singular values are within 1e-6 s_1 of LAPACK's in float64, then rounded to float32, whose spacing below 1.2e-38 is
    1.4e-45. The tall orientation is decomposed (LAPACK is slow on wide ones). From an aspect ratio of 2 on, the
    eigenvectors of the float64 Gram matrix are used, unless the spectrum extends below 3e-5 of its top. Without
    `vectors`, the eigenvalues of that matrix are used for any shape, and left and right are empty. NotFinite, naming
    `what`, for NaN or infinity; OutOfRange if s_1 does not fit into float32.
    """
    w_MN = _wide(w_MN)
    require_finite(w_MN, what)
    factors = _decompose(w_MN, vectors)
    return factors._replace(s=_as_float32(factors.s, what))


def decompose_alike(matrices: Mapping[str, Tensor], what: str, vectors: bool = True) -> dict[str, Factors]:
    """The factors of matrices by name, batched by shape; on the CPU, whatever the matrices' device.

    For GPUs, where one call on a stack costs little more than one on a matrix. Accuracy and errors as `decompose`.
    """
    alike: dict[tuple[int, ...], list[str]] = {}
    wide = {name: _wide(matrix) for name, matrix in matrices.items()}
    for name, matrix in wide.items():
        alike.setdefault(tuple(matrix.shape), []).append(name)
    factors: dict[str, Factors] = {}
    for names in alike.values():
        for name in names:
            require_finite(wide[name], f"{what} layer {name}")
        stacked = _decompose(torch.stack([wide[name] for name in names]), vectors)
        for i, name in enumerate(names):
            left, s, right = (part[i].cpu() for part in stacked[:3])
            factors[name] = Factors(left, _as_float32(s, f"{what} layer {name}"), right, stacked.driver)
    return {name: factors[name] for name in matrices}


def singular_values(w_MN: Tensor) -> Tensor:
    """Only the singular values, descending, as (R,) or, for a stack, (.., R) in float64.

    Square roots of the eigenvalues of the float64 Gram matrix: accurate to 1e-8 of s_1, below which they are noise.
    Needs memory for the Gram matrix and 2048 rows. LAPACK raises for NaN or infinity in the matrix.
    """
    tall_MN = w_MN if w_MN.shape[-2] >= w_MN.shape[-1] else w_MN.mT
    return torch.linalg.eigvalsh(upper_gram(tall_MN), UPLO="U").clamp_min(0).sqrt().flip(-1)


def require_finite(w_MN: Tensor, what: str) -> None:
    """Raise NotFinite, naming `what`, unless every entry is a finite number."""
    # The extremes are NaN if any entry is; ten times as fast as checking every entry.
    if w_MN.numel() and not bool(torch.isfinite(torch.stack([w_MN.amin(), w_MN.amax()])).all()):
        bad = int((~torch.isfinite(w_MN)).sum())
        raise NotFinite(f"{what}: {bad} of {w_MN.numel()} entries are NaN or infinite; the run diverged there")


def scaled(w_MN: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix in float32 with its largest entry between 1e-7 and 4, and the power of two by which it was divided.

    The power is (.., 1, 1) in float64, one per matrix of a stack; 1 for a zero matrix. Entries of float64 are rounded;
    for other dtypes, only entries below 1e-31 of the largest change.
    """
    wide_MN = _wide(w_MN)
    largest = _largest(wide_MN)
    # A power of two beyond these has no inverse among the normal numbers of the dtype.
    bound = -round(math.log2(torch.finfo(wide_MN.dtype).tiny))
    exponent = torch.frexp(largest.double()).exponent.clamp(-bound, bound)
    scale = torch.ldexp(torch.ones_like(largest, dtype=torch.float64), exponent)
    return (wide_MN * (1 / scale).to(wide_MN.dtype)).float(), scale


def _largest(w_MN: Tensor) -> Tensor:
    """The largest magnitude of each matrix as (.., 1, 1), NaN if any entry is; avoids the copy that `abs` makes."""
    both = (-2, -1)
    return torch.maximum(w_MN.amax(both, keepdim=True), -w_MN.amin(both, keepdim=True))


def difference(a_MN: Tensor, b_MN: Tensor) -> Tensor:
    """A - B, in float64 if the largest entries would leave the range of float32."""
    apart_MN = a_MN - b_MN
    return apart_MN if bool(torch.isfinite(apart_MN).all()) else a_MN.double() - b_MN


def _wide(w_MN: Tensor) -> Tensor:
    """The matrix in a dtype for computation: unchanged in float32 and float64, else in float32."""
    return w_MN if w_MN.dtype in (torch.float32, torch.float64) else w_MN.float()


def _as_float32(s: Tensor, what: str) -> Tensor:
    rounded = s.float()
    lost = torch.isinf(rounded[..., 0]) | ((rounded[..., 0] == 0) & (s[..., 0] > 0))
    if bool(lost.any()):
        raise OutOfRange(
            f"{what}: out of range: its largest singular value is {float(s[..., 0][lost].max()):.3g}, and results are "
            f"stored as float32, {SMALLEST:.2g} to {LARGEST:.2g}; scale the weights, or leave the checkpoint out"
        )
    return rounded


def _decompose(w_MN: Tensor, vectors: bool) -> Factors:
    """The factors, with values in float64 and vectors in float32."""
    tall = w_MN.shape[-2] >= w_MN.shape[-1]
    small_MN, scale = scaled(w_MN if tall else w_MN.mT)
    left, s, right, driver = _decompose_tall(small_MN) if vectors else _values(small_MN)
    s = s * scale[..., 0]
    return Factors(left, s, right, driver) if tall else Factors(right, s, left, driver)


def _values(w_MN: Tensor) -> Factors:
    s = singular_values(w_MN)
    driver = "gram_float64"
    if bool((s[..., -1] <= GRAM_FLOOR * s[..., 0]).any()):
        s, driver = torch.linalg.svdvals(w_MN.double()), "svd_float64"
    none = w_MN.new_empty(*w_MN.shape[:-2], 0, s.shape[-1])
    return Factors(none, s, none, DRIVERS.index(driver))


def _decompose_tall(w_MN: Tensor) -> Factors:
    if w_MN.shape[-2] >= GRAM_ASPECT * w_MN.shape[-1]:
        return _by_gram(w_MN) or _by_svd_float64(w_MN)
    try:
        return _by_svd_float32(w_MN)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return _by_svd_float64(w_MN)


def _by_gram(w_MN: Tensor) -> Factors | None:
    """Factors from the eigenvectors of W'W in float64; None if the smallest values would be noise."""
    try:
        energies, right = torch.linalg.eigh(upper_gram(w_MN), UPLO="U")
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return None
    s = energies.clamp_min(0).sqrt().flip(-1)
    if bool((s[..., -1] <= GRAM_FLOOR * s[..., 0]).any()):
        return None
    right = right.flip(-1)
    by_values = right / s.unsqueeze(-2)
    # Rounding to float32 perturbs the left vector of s_i by 6e-8 s_1 / s_i, which is acceptable for larger values.
    k = int((s >= SINGLE_FLOOR * s[..., :1]).sum(-1).min())
    large, small = by_values[..., :k].float(), by_values[..., k:]
    left = torch.empty_like(w_MN, memory_format=torch.contiguous_format)
    torch.matmul(w_MN, large, out=left[..., :k])
    if k < s.shape[-1]:
        for slab, rows in zip(w_MN.split(SLAB, dim=-2), left.split(SLAB, dim=-2), strict=True):
            rows[..., k:] = slab.double() @ small
    return Factors(left, s, right.float(), DRIVERS.index("gram_float64"))


def upper_gram(w_MN: Tensor) -> Tensor:
    """W'W (.., N, N) in float64 on and above its diagonal; entries below it are zero or undefined."""
    columns = w_MN.shape[-1]
    gram_NN = torch.zeros(*w_MN.shape[:-2], columns, columns, dtype=torch.float64, device=w_MN.device)
    block = max(GRAM_BLOCK, -(-columns // GRAM_BLOCKS))
    for slab in w_MN.split(SLAB, dim=-2):
        exact_MN = slab.double()
        for start in range(0, columns, block):
            stop = start + block
            gram_NN[..., start:stop, start:] += exact_MN[..., start:stop].mT @ exact_MN[..., start:]
    return gram_NN


def _by_svd_float32(w_MN: Tensor) -> Factors:
    """Vectors from LAPACK in float32, and values as their Rayleigh quotients in float64.

    LAPACK's own values have its backward error, 3e-5 s_1 for a constant 1024 x 1024 matrix, 1.5e-6 for 256 values that
    differ by 1e-7. The error of quotients is its square, or less than itself between values closer than it: at most
    6e-7 up to 2048 x 2048. CPU time on one thread at 512 x 512: the SVD 49 ms, quotients 9, the Gram matrix's
    eigenvalues 24, its eigenvectors 45 (inaccurate if s_R / s_1 is small), a float64 SVD 86.
    """
    left, _, right_t = torch.linalg.svd(w_MN, full_matrices=False)
    right = right_t.mT
    s = _quotients(w_MN, left, right)
    if not bool((s.diff(dim=-1) <= 0).all()):  # as happens with equal values
        order = s.argsort(dim=-1, descending=True, stable=True)
        s = s.gather(-1, order)
        left, right = (part.gather(-1, order.unsqueeze(-2).expand_as(part)) for part in (left, right))
    return Factors(left, s, right, DRIVERS.index("svd_float32"))


def _quotients(w_MN: Tensor, left_MR: Tensor, right_NR: Tensor) -> Tensor:
    """u' W v / (|u| |v|) of each pair of vectors as (.., R), at least 0, in float64."""
    exact_NR = right_NR.double()
    along = torch.zeros(*w_MN.shape[:-2], exact_NR.shape[-1], dtype=torch.float64, device=w_MN.device)
    squares = torch.zeros_like(along)
    for w, left in zip(w_MN.split(SLAB, dim=-2), left_MR.split(SLAB, dim=-2), strict=True):
        exact = left.double()
        along += (exact * (w.double() @ exact_NR)).sum(-2)
        squares += exact.square().sum(-2)
    return (along / (squares * exact_NR.square().sum(-2)).sqrt()).clamp_min(0)


def _by_svd_float64(w_MN: Tensor) -> Factors:
    left, s, right_t = torch.linalg.svd(w_MN.double(), full_matrices=False)
    return Factors(left.float(), s, right_t.mT.float(), DRIVERS.index("svd_float64"))
