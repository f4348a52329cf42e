"""What holds for the decomposition of any matrix, by any driver."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from reference.spectra import matrix_with, orthonormal
from specdyn.storage.schema import OutOfRange
from specdyn.tasks.spectra import decomposition
from specdyn.tasks.spectra.decomposition import GRAM_FLOOR, Factors, decompose

EPS = 2.0**-23
"""Of float32."""
SPACING = 2.0**-149
"""Between the smallest numbers of float32."""
PROMISE = 1e-6
"""Share of s_1 by which singular values may differ from LAPACK's in float64."""
some = settings(max_examples=40, deadline=None)


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Square, tall, wide, 1 x N; well and ill conditioned, rank deficient, degenerate; of any magnitude."""
    rows, columns = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rank = min(rows, columns)
    low = draw(st.sampled_from([1.0, 0.1, 1e-3, 2 * GRAM_FLOOR, GRAM_FLOOR / 2, 1e-12, 0.0]))
    kind = draw(st.sampled_from(["spread", "last", "rest", "twins"]))
    s = {
        "spread": np.geomspace(1, max(low, 1e-30), rank),
        "last": np.array([1.0] * (rank - 1) + [low]),
        "rest": np.array([1.0] + [low] * (rank - 1)),
        "twins": np.repeat(np.linspace(1, low, (rank + 1) // 2), 2)[:rank],
    }[kind]
    scale = draw(st.sampled_from([1.0, 1e-18, 1e15]))
    return matrix_with(scale * s, rows, columns, draw(st.integers(0, 10_000)))


entries = st.floats(-100, 100, width=32, allow_subnormal=False)
shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
plain = shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=entries))
any_matrix = matrices() | plain.map(torch.from_numpy)


def check(w: Tensor, factors: Factors) -> None:
    """Thin factors that are orthonormal, descending and multiply to the matrix."""
    rows, columns = w.shape[-2:]
    rank = min(rows, columns)
    left, s, right = (part.double() for part in factors[:3])
    assert left.shape == (*w.shape[:-2], rows, rank)
    assert right.shape == (*w.shape[:-2], columns, rank)
    assert s.shape == (*w.shape[:-2], rank)
    identity = torch.eye(rank, dtype=torch.float64)
    for vectors in (left, right):
        assert float((vectors.mT @ vectors - identity).abs().max()) < 1e-5
    assert bool((s >= 0).all())
    assert bool((s.diff(dim=-1) <= 0).all())
    largest = s[..., :1, None]
    assert bool(((left * s.unsqueeze(-2)) @ right.mT - w.double()).abs().le(30 * EPS * largest).all())


@some
@given(any_matrix)
def test_the_factors_are_orthonormal_descending_and_give_the_matrix_back(w: Tensor) -> None:
    check(w, decompose(w))


@some
@given(any_matrix)
def test_singular_values_match_numpy_in_float64(w: Tensor) -> None:
    expected = np.linalg.svd(w.double().numpy(), compute_uv=False)
    for vectors in (True, False):
        found = decompose(w, vectors=vectors).s
        np.testing.assert_allclose(found, expected, rtol=0, atol=PROMISE * expected[0])


@some
@given(any_matrix)
def test_the_transpose_has_the_same_values_and_the_vectors_exchanged(w: Tensor) -> None:
    one, other = decompose(w), decompose(w.T.contiguous())
    torch.testing.assert_close(one.s, other.s, rtol=0, atol=2 * PROMISE * float(one.s[0]))
    check(w, Factors(other.right, other.s, other.left, other.driver))


@some
@given(any_matrix, st.integers(-200, 200))
def test_a_power_of_two_scales_the_values_and_leaves_the_vectors_to_the_bit(w: Tensor, power: int) -> None:
    moved = (w.double() * 2.0**power).float()
    assume(bool((moved.double() == w.double() * 2.0**power).all()))  # neither overflows nor loses bits
    one = decompose(w)
    assume(float(one.s[0]) * 2.0**power <= torch.finfo(torch.float32).max)
    other = decompose(moved)
    for ours, theirs in ((one.left, other.left), (one.right, other.right)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    expected = one.s.double() * 2.0**power
    near_zero = torch.minimum(expected, one.s.double()) < torch.finfo(torch.float32).tiny
    lost = torch.where(near_zero, SPACING * max(1.0, 2.0**power), 0.0)  # by rounding
    assert bool(((other.s.double() - expected).abs() <= lost).all())


@some
@given(any_matrix, st.booleans())
def test_the_negative_has_the_same_values(w: Tensor, vectors: bool) -> None:
    one, other = (decompose(sign * w, vectors=vectors).s for sign in (1, -1))
    torch.testing.assert_close(one, other, rtol=0, atol=2 * PROMISE * float(one[0]))


DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
"""What checkpoints come in."""


@settings(max_examples=150, deadline=None)
@given(matrices() | plain.map(torch.from_numpy), st.integers(-149, 127), st.sampled_from(DTYPES), st.booleans())
def test_a_matrix_of_any_size_and_dtype_is_decomposed_or_refused(
    w: Tensor, power: int, dtype: torch.dtype, vectors: bool
) -> None:
    """From 1.4e-45, the smallest float32, to 3.4e38, the largest, in every dtype as far as that reaches."""
    shape = w.double() / (float(w.abs().max()) or 1.0)
    given_ = (shape * min(2.0**power * 2, torch.finfo(dtype).max, torch.finfo(torch.float32).max)).to(dtype)
    exact = given_.double().numpy()
    expected = np.linalg.svd(exact, compute_uv=False)
    assume(abs(expected[0] / torch.finfo(torch.float32).max - 1) > 2 * PROMISE)  # either would be right
    if expected[0] > torch.finfo(torch.float32).max:
        with pytest.raises(OutOfRange, match="out of range"):
            decompose(given_, vectors=vectors)
        return
    factors = decompose(given_, vectors=vectors)
    assert all(part.dtype == torch.float32 for part in factors[:3])
    np.testing.assert_allclose(factors.s.double(), expected, rtol=0, atol=PROMISE * expected[0] + SPACING)
    if vectors:
        # Checked at size 1, with values that are not rounded to the few that are left near 0.
        size = 2.0 ** np.ceil(np.log2(expected[0])) if expected[0] else 1.0
        values = torch.tensor(expected / size)
        check(torch.tensor(exact / size), Factors(factors.left, values, factors.right, factors.driver))


@some
@given(any_matrix, st.integers(0, 1000))
def test_rotations_keep_the_singular_values(w: Tensor, seed: int) -> None:
    rows, columns = w.shape
    rotated = orthonormal(rows, rows, seed) @ w.double().numpy() @ orthonormal(columns, columns, seed + 1)
    expected = decompose(w).s
    found = decompose(torch.tensor(rotated, dtype=torch.float32)).s
    # Rounding the rotated entries to float32 moves the values by EPS / 2 times |W|_F, at most sqrt(24) s_1.
    rounding = EPS / 2 * 24**0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=(2 * PROMISE + rounding) * float(expected[0]))


@some
@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000), st.booleans())
def test_a_stack_is_decomposed_as_its_matrices_one_by_one(h: int, m: int, n: int, seed: int, deficient: bool) -> None:
    s = np.linspace(1, 0.0 if deficient else 0.5, min(m, n))
    stack = torch.stack([matrix_with((1 + i) * s, m, n, seed + i) for i in range(h)])
    factors = decompose(stack)
    check(stack, factors)
    for i in range(h):
        torch.testing.assert_close(factors.s[i], decompose(stack[i]).s, rtol=0, atol=2 * PROMISE * (1 + i))


@some
@given(st.integers(1, 9), st.integers(1, 9))
def test_the_zero_matrix_has_zero_values_and_orthonormal_vectors(rows: int, columns: int) -> None:
    factors = decompose(torch.zeros(rows, columns))
    assert not factors.s.any()
    check(torch.zeros(rows, columns), factors)


@some
@given(st.integers(1, 12), st.integers(2, 5), st.integers(0, 1000), st.sampled_from([1.0, 1e-2, 2 * GRAM_FLOOR]))
def test_the_gram_matrix_and_the_svd_agree(columns: int, aspect: int, seed: int, low: float) -> None:
    w = matrix_with(np.geomspace(1, low, columns), columns * aspect, columns, seed)
    by_gram = decompose(w)
    with patch.object(decomposition, "GRAM_ASPECT", float("inf")):
        by_svd = decompose(w)
    names = [decomposition.DRIVERS[factors.driver] for factors in (by_gram, by_svd)]
    assert names == ["gram_float64", "svd_float32"]
    torch.testing.assert_close(by_gram.s, by_svd.s, rtol=0, atol=2 * PROMISE)
    # The rounding of the entries alone moves vectors by eps / gap: compare those with a gap of 0.01.
    gap = -torch.diff(by_svd.s, prepend=torch.tensor([2.0]), append=torch.tensor([0.0]))
    clear = torch.minimum(gap[:-1], gap[1:]) > 1e-2
    for ours, theirs in ((by_gram.left, by_svd.left), (by_gram.right, by_svd.right)):
        cosines = (ours * theirs).sum(dim=0).abs()[clear]
        torch.testing.assert_close(cosines, torch.ones_like(cosines), rtol=0, atol=1e-5)
