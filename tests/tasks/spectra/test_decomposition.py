"""Which driver decomposes what, what it refuses, and how exact the Gram matrix is at its limit."""

import re
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from reference.spectra import matrix_with
from specdyn.storage.schema import OutOfRange
from specdyn.tasks.failures import NotFinite
from specdyn.tasks.spectra import decomposition
from specdyn.tasks.spectra.decomposition import (
    DRIVERS,
    GRAM_FLOOR,
    SINGLE_FLOOR,
    Factors,
    decompose,
    decompose_alike,
)


def driver(factors: Factors) -> str:
    return DRIVERS[factors.driver]


def orthogonality_error(vectors: Tensor) -> float:
    v = vectors.double()
    return float((v.mT @ v - torch.eye(v.shape[-1], dtype=v.dtype)).abs().max())


def largest_error(s: Tensor, w: Tensor) -> float:
    """Of singular values against LAPACK's of the same entries in float64, as a share of s_1; of stacks the worst."""
    exact = np.linalg.svd(w.double().numpy(), compute_uv=False)
    return float((abs(s.double().numpy() - exact) / exact[..., :1]).max())


@pytest.mark.parametrize(
    ("rows", "columns", "name"),
    [
        (20, 10, "gram_float64"),
        (10, 20, "gram_float64"),
        (19, 10, "svd_float32"),
        (10, 19, "svd_float32"),
        (10, 10, "svd_float32"),
        (2, 1, "gram_float64"),
        (1, 1, "svd_float32"),
    ],
)
def test_the_driver_depends_on_the_aspect(rows: int, columns: int, name: str) -> None:
    w = matrix_with(np.linspace(1, 0.5, min(rows, columns)), rows, columns)
    assert driver(decompose(w)) == name


@pytest.mark.parametrize("smallest", [0.0, 1e-8, 0.5 * GRAM_FLOOR])
@pytest.mark.parametrize(("rows", "columns"), [(40, 8), (8, 40)])
def test_a_spectrum_below_the_floor_goes_to_the_float64_svd(smallest: float, rows: int, columns: int) -> None:
    factors = decompose(matrix_with([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, smallest], rows, columns))
    assert driver(factors) == "svd_float64"
    assert orthogonality_error(factors.left) < 1e-6
    assert orthogonality_error(factors.right) < 1e-6


def test_one_deficient_matrix_sends_its_stack_to_the_float64_svd() -> None:
    stack = torch.stack([matrix_with([3, 2, 1], 12, 3), matrix_with([3, 2, 0], 12, 3)])
    factors = decompose(stack)
    assert driver(factors) == "svd_float64"
    assert orthogonality_error(factors.left) < 1e-6


@pytest.mark.parametrize("rows", [8, 64, 512])
@pytest.mark.parametrize("spectrum", ["geometric", "one small", "all but one small", "linear"])
def test_vectors_of_the_gram_matrix_are_orthonormal_down_to_its_floor(spectrum: str, rows: int) -> None:
    n, low = rows // 4, 1.1 * GRAM_FLOOR
    s = {
        "geometric": np.geomspace(1, low, n),
        "one small": np.array([1.0] * (n - 1) + [low]),
        "all but one small": np.array([1.0] + [low] * (n - 1)),
        "linear": np.linspace(1, low, n),
    }[spectrum]
    factors = decompose(matrix_with(s, rows, n))
    assert driver(factors) == "gram_float64"
    assert orthogonality_error(factors.left) < 1e-5
    assert orthogonality_error(factors.right) < 1e-5


@pytest.mark.parametrize("name", ["svd_float32", "gram_float64", "svd_float64"])
def test_a_driver_that_does_not_converge_is_followed_by_the_float64_svd(name: str) -> None:
    w = matrix_with([3.0, 2.0, 1.0], 3 if name == "svd_float32" else 12, 3)
    failing = torch.linalg.LinAlgError("did not converge")
    real = torch.linalg.svd

    def svd(matrix: Tensor, full_matrices: bool) -> object:
        if matrix.dtype == torch.float32:
            raise failing
        return real(matrix, full_matrices=full_matrices)

    with patch.object(torch.linalg, "svd", svd), patch.object(torch.linalg, "eigh", side_effect=failing):
        factors = decompose(w)
    assert driver(factors) == "svd_float64"
    np.testing.assert_allclose(factors.s, [3, 2, 1], rtol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("shape", [(3, 4), (2, 6, 2)])
def test_a_matrix_that_is_not_finite_is_refused_by_name(bad: float, shape: tuple[int, ...]) -> None:
    w = torch.ones(shape)
    w.view(-1)[[1, -1]] = bad
    with pytest.raises(NotFinite, match=r"^run abc step 7 layer fc\.weight: 2 of (12|24) entries are NaN or infinite"):
        decompose(w, "run abc step 7 layer fc.weight")


def test_a_wide_matrix_is_decomposed_as_its_transpose() -> None:
    w = matrix_with([5, 4, 3, 2, 1], 5, 17)
    wide, tall = decompose(w), decompose(w.T.contiguous())
    assert wide.left.shape == (5, 5)
    assert wide.right.shape == (17, 5)
    for ours, theirs in ((wide.left, tall.right), (wide.s, tall.s), (wide.right, tall.left)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_the_side_asked_for_is_given() -> None:
    factors = decompose(torch.diag(torch.tensor([2.0, 1.0])) @ torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(factors.vectors("left").abs(), torch.eye(2))
    torch.testing.assert_close(factors.vectors("right").abs(), torch.eye(2).flip(0))


def test_the_zero_of_the_drivers_means_missing() -> None:
    # Integer results are 0 where nothing was computed.
    assert DRIVERS[0] == "missing"
    assert decomposition.decompose(torch.eye(2)).driver > 0


SPECTRA = {
    "flat": np.ones(24),
    "pairs": np.repeat(np.linspace(2, 1, 12), 2),
    "linear": np.linspace(1, 0.2, 24),
    "across the float32 floor": np.geomspace(1, 1e-3, 24),
    "down to 1e-12": np.geomspace(1, 1e-12, 24),
    "rank 3": np.array([3.0, 2.0, 1.0] + [0.0] * 21),
    "zero": np.zeros(24),
}


@pytest.mark.parametrize("shape", [(24, 24), (24, 30), (24, 200), (200, 24), (9000, 24)])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_values_are_within_a_millionth_of_float64_lapack_with_and_without_vectors(
    spectrum: str, shape: tuple[int, int]
) -> None:
    w = matrix_with(SPECTRA[spectrum], *shape)
    expected = np.linalg.svd(w.double().numpy(), compute_uv=False)
    whole, alone = decompose(w), decompose(w, vectors=False)
    scale = max(expected[0], 1e-30)
    for found in (whole, alone):
        np.testing.assert_allclose(found.s.numpy() / scale, expected / scale, rtol=0, atol=1e-6)
        assert (np.diff(found.s.numpy()) <= 0).all()
    assert alone.left.numel() == alone.right.numel() == 0
    assert DRIVERS[alone.driver] in ("gram_float64", "svd_float64")
    assert orthogonality_error(whole.left) < 1e-5
    assert orthogonality_error(whole.right) < 1e-5
    torch.testing.assert_close((whole.left * whole.s) @ whole.right.mT, w, rtol=0, atol=3e-6 * float(scale))


def within(rows: int, columns: int, width: float) -> Tensor:
    """A matrix whose singular values lie evenly between 1 and 1 + width."""
    return matrix_with(np.linspace(1 + width, 1, min(rows, columns)), rows, columns)


HARD: dict[str, Callable[[], Tensor]] = {
    "constant": lambda: torch.ones(256, 256),
    "constant and noise": lambda: (
        torch.ones(256, 256) + 1e-3 * torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    ),
    "equal": lambda: within(256, 256, 0),
    "equal but for rounding": lambda: within(256, 320, 1e-7),
    "a cluster as wide as LAPACK errs": lambda: within(256, 256, 3e-6),
    "pairs": lambda: matrix_with(np.repeat(np.linspace(2, 1, 128), 2), 300, 256),
    "a stack": lambda: torch.stack([within(96, 128, 1e-7), 1e6 * within(96, 128, 0), torch.ones(96, 128)]),
}
"""Float32 SVDs of LAPACK err by more than 1e-6 s_1 on several of these, on which ones depends on the processor."""


@pytest.mark.parametrize("name", HARD)
def test_values_that_float32_gets_wrong_are_within_a_millionth_too(name: str) -> None:
    w = HARD[name]()
    factors = decompose(w)
    assert driver(factors) == "svd_float32"
    assert largest_error(factors.s, w) < 1e-6


Svd = Callable[..., tuple[Tensor, Tensor, Tensor]]


def moved_values(svd: Svd, w: Tensor, full_matrices: bool) -> tuple[Tensor, Tensor, Tensor]:
    """A float32 SVD with each value 2e-6 s_1 off, up and down by turns, which LAPACK's error bound allows."""
    left, s, right_t = svd(w, full_matrices=full_matrices)
    signs = (-1.0) ** torch.arange(s.shape[-1])
    return left, s + 2e-6 * s[..., :1] * signs, right_t


def of_a_near_matrix(svd: Svd, w: Tensor, full_matrices: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The SVD of a matrix 2e-6 s_1 away: a backward error that LAPACK's bound allows, in values and vectors alike."""
    noise = torch.randn(w.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    size = torch.linalg.matrix_norm(w.double(), 2, keepdim=True) / torch.linalg.matrix_norm(noise, 2, keepdim=True)
    left, s, right_t = svd(w.double() + 2e-6 * size * noise, full_matrices=full_matrices)
    return left.float(), s.float(), right_t.float()


@pytest.mark.parametrize("inexact", [moved_values, of_a_near_matrix])
@pytest.mark.parametrize(
    "w",
    [
        matrix_with(np.linspace(1, 0.2, 24), 24, 24),
        matrix_with(np.linspace(1, 0.2, 24), 24, 40),
        matrix_with(np.repeat(np.linspace(2, 1, 12), 2), 40, 24),
        within(24, 24, 0),
        within(24, 24, 1e-6),
        within(24, 30, 1e-5),
        torch.stack([matrix_with(np.geomspace(1, 1e-4, 24), 24, 30, seed) for seed in range(3)]),
    ],
)
def test_an_svd_as_inexact_as_lapack_may_be_is_right_within_a_millionth(
    inexact: Callable[..., tuple[Tensor, Tensor, Tensor]], w: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.linalg.svd

    def svd(matrix: Tensor, full_matrices: bool) -> tuple[Tensor, Tensor, Tensor]:
        assert matrix.dtype == torch.float32
        return inexact(real, matrix, full_matrices)

    monkeypatch.setattr(torch.linalg, "svd", svd)
    together = decompose_alike({"a": w, "b": 3 * w}, "run abc")
    for factors, matrix in ((decompose(w), w), (together["a"], w), (together["b"], 3 * w)):
        assert driver(factors) == "svd_float32"
        assert largest_error(factors.s, matrix) < 1e-6
        assert bool((factors.s.diff(dim=-1) <= 0).all())
        product = (factors.left * factors.s.unsqueeze(-2)) @ factors.right.mT
        # The vectors stay those of a matrix 2e-6 s_1 away, and s moved by up to 1e-6 s_1.
        size = float(torch.linalg.matrix_norm(matrix.double(), 2).max())
        assert float(torch.linalg.matrix_norm((product - matrix).double(), 2).max()) < 6e-6 * size


@pytest.mark.parametrize("shape", [(12, 12), (12, 15), (40, 8), (8, 40)])
@pytest.mark.parametrize("vectors", [True, False])
def test_matrices_decomposed_together_come_out_as_one_by_one(shape: tuple[int, int], vectors: bool) -> None:
    sizes = {"denormal": 2.0**-140, "small": 1e-20, "one": 1.0, "large": 2.0**120}
    draw = torch.Generator().manual_seed(0)
    matrices = {name: size * torch.randn(shape, generator=draw) for name, size in sizes.items()}
    together = decompose_alike(matrices, "run abc", vectors)
    assert list(together) == list(matrices)
    for name, w in matrices.items():
        alone = decompose(w, name, vectors)
        assert together[name].driver == alone.driver
        # Each is within 1e-6 s_1 of the truth, and rounded to a float32.
        torch.testing.assert_close(
            together[name].s.double(), alone.s.double(), rtol=0, atol=2e-6 * float(alone.s[0]) + 2.0**-149
        )


@pytest.mark.parametrize(
    ("w", "largest"), [(torch.full((8, 8), 3e38), "2.4e+39"), (torch.full((2, 9, 3), 1e38), "5.2e+38")]
)
@pytest.mark.parametrize("vectors", [True, False])
def test_a_value_too_large_for_float32_is_refused_by_name(w: Tensor, largest: str, vectors: bool) -> None:
    words = rf"^run abc step 7 layer fc: out of range: its largest singular value is {re.escape(largest)}, .* 3.4e\+38"
    with pytest.raises(OutOfRange, match=words):
        decompose(w, "run abc step 7 layer fc", vectors)
    with pytest.raises(OutOfRange, match=words):
        decompose_alike({"fc": w, "other": torch.ones_like(w)}, "run abc step 7", vectors)


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_float64_beyond_the_range_of_float32_is_refused(size: float) -> None:
    with pytest.raises(OutOfRange, match=rf"^layer fc: out of range: .* {re.escape(f'{2 * size:.3g}')}, "):
        decompose(torch.eye(3, dtype=torch.float64) * 2 * size, "layer fc")


@pytest.mark.parametrize("smallest", [1.0, 0.5, 0.031, 0.029, 1e-3])
def test_left_vectors_from_float32_products_are_as_orthogonal_as_a_float32_svds(smallest: float) -> None:
    w = matrix_with(np.linspace(1, smallest, 64), 640, 64)
    factors = decompose(w)
    assert driver(factors) == "gram_float64"
    # Rounding v / s to float32 moves W v / s by up to 2^-24 s_1 / s_i, in each of the two vectors of a product; the
    # bound of LAPACK's float32 SVD, 64 units of 2^-24, is as large.
    assert orthogonality_error(factors.left) < 2 * 2.0**-24 / SINGLE_FLOOR


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_a_single_row_or_column_has_its_length_as_its_value(shape: tuple[int, int]) -> None:
    w = torch.arange(1.0, 1 + max(shape)).view(shape)
    for vectors in (True, False):
        assert float(decompose(w, vectors=vectors).s) == pytest.approx(float(w.norm()), rel=1e-6)


def test_the_upper_half_of_the_gram_matrix_is_summed_over_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    w = torch.randn(2, 50, 70, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(decomposition, "SLAB", 16)
    found = decomposition.upper_gram(w).numpy()
    expected = np.einsum("hmi,hmj->hij", w.double().numpy(), w.double().numpy())
    upper = np.triu_indices(70)
    np.testing.assert_allclose(found[:, upper[0], upper[1]], expected[:, upper[0], upper[1]], rtol=1e-12, atol=1e-12)
