"""What holds for the metrics of any matrix: invariances, ranges, order, and none but declared values."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reference.spectra import matrix_with, orthonormal
from reference.views import matrix, of_layer, of_pair
from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.tasks.analyses.effective_rank import effective_ranks
from specdyn.tasks.spectra.analysis import get_analysis
from specdyn.tasks.spectra.decomposition import decompose, singular_values
from specdyn.tasks.spectra.random_matrices import cdf, edges, quantiles
from specdyn.tasks.spectra.spectral import effective_rank, energy_ranks
from specdyn.tasks.spectra.tails import STATUS, fit_tail
from specdyn.tasks.spectra.trajectories import principal

some = settings(max_examples=40, deadline=None)
PAIR = LayerPair(writer=Matrix(parameter="a"), reader=Matrix(parameter="b"))
SCALE_FREE = ("shape", "marchenko_pastur", "power_law")
IN_UNITS = {"mp_lower_edge": 2, "mp_upper_edge": 2, "power_law_start": 2}
"""Power of the scale with which a value grows; others of SCALE_FREE do not depend on it."""
OF_SCALE = {"power_law_alpha_hat", "power_law_log_alpha_norm"}
COUNTED = {"energy_rank", "power_law_tail", "mp_spikes", "mp_spikes_finite", "mp_below"}
"""What may change by one where a value lies on a threshold."""


@st.composite
def spectra(draw: st.DrawFn) -> np.ndarray:
    """Descending, of any decay: spread, equal, with zeros, of rank one, all zero."""
    rank = draw(st.integers(1, 14))
    kind = draw(st.sampled_from(["spread", "equal", "deficient", "one", "zero", "drawn"]))
    scale = draw(st.sampled_from([1.0, 1e-6, 1e4]))
    drawn = draw(st.lists(st.floats(0.01, 1), min_size=rank, max_size=rank))
    s = {
        "spread": np.geomspace(1, 0.01, rank),
        "equal": np.ones(rank),
        "deficient": np.linspace(1, 0, rank + 1)[:-1] * (np.arange(rank) < (rank + 1) // 2),
        "one": np.eye(1, rank)[0],
        "zero": np.zeros(rank),
        "drawn": np.sort(drawn)[::-1],
    }[kind]
    return scale * s


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """With such a spectrum; square, tall, wide, 1 x N."""
    s = draw(spectra())
    rows = len(s) + draw(st.integers(0, 6))
    w = matrix_with(s, rows, len(s), draw(st.integers(0, 1000)))
    return w.mT.contiguous() if draw(st.booleans()) else w


def same(first: dict[str, Any], second: dict[str, Any], rtol: float = 2e-3) -> None:
    assert set(first) == set(second)
    for name, value in first.items():
        counted = name.removeprefix("null_") in COUNTED
        np.testing.assert_allclose(
            second[name], value, rtol=0 if counted else rtol, atol=1 if counted else 2e-4, err_msg=name
        )


def measured(w: Tensor) -> dict[str, Any]:
    return {name: value for analysis in SCALE_FREE for name, value in of_layer(analysis, w).items()}


@some
@given(spectra(), st.integers(0, 1000), st.integers(0, 6))
def test_numbers_of_a_spectrum_do_not_depend_on_its_vectors(s: np.ndarray, seed: int, extra: int) -> None:
    rank = len(s)
    w = matrix_with(s, rank + extra, rank, seed).double().numpy()
    turned = matrix(orthonormal(rank + extra, rank + extra, seed + 1) @ w @ orthonormal(rank, rank, seed + 2).T)
    for name in ("shape", "norms"):
        first, second = of_layer(name, matrix(w)), of_layer(name, turned)
        first.pop("condition_number", 0), second.pop("condition_number", 0)
        first.pop("singular_value_gap", 0), second.pop("singular_value_gap", 0)
        same(first, second)


@some
@given(matrices())
def test_nothing_depends_on_the_orientation(w: Tensor) -> None:
    first, second = measured(w), measured(w.mT.contiguous())
    # Where noise decides, a count of values or a tail is not that of the matrix.
    unsteady = {name for name in first if name.startswith("power_law") or name == "mp_ks"}
    same({n: v for n, v in first.items() if n not in unsteady}, {n: v for n, v in second.items() if n not in unsteady})


@some
@given(matrices(), st.sampled_from([0.125, 4.0, 1024.0, 2.0**-80, 2.0**100]))
def test_a_power_of_two_changes_what_has_units_and_nothing_else(w: Tensor, scale: float) -> None:
    first, second = measured(w), measured(scale * w)
    for name, value in first.items():
        if name in OF_SCALE:
            continue
        expected = np.multiply(value, scale ** IN_UNITS.get(name, 0))
        np.testing.assert_allclose(second[name], expected, rtol=1e-6, err_msg=name)
    norms = of_layer("norms", w), of_layer("norms", scale * w)
    for name in ("spectral_norm", "frobenius_norm", "nuclear_norm"):
        np.testing.assert_allclose(norms[1][name], scale * norms[0][name], rtol=1e-6)
    for name in ("condition_number", "singular_value_gap"):
        np.testing.assert_allclose(norms[1][name], norms[0][name], rtol=1e-6)
    began = torch.flip(w, (0, 1))  # the opposite signs of some entries make differences larger than both
    updates = [of_layer("updates", factor * w, previous=-factor * began) for factor in (1, scale)]
    for name, value in updates[0].items():
        expected = np.multiply(value, scale if name == "update_singular_value" else 1)
        np.testing.assert_allclose(updates[1][name], expected, rtol=1e-6, err_msg=name)


@some
@given(matrices(), st.integers(30, 113))
def test_effective_ranks_of_large_values_match_float64(w: Tensor, power: int) -> None:
    s = (2.0**power * decompose(w).s.double()).float()
    p = s.double() / s.double().sum() if bool(s[0] > 0) else torch.full_like(s, 1 / len(s), dtype=torch.float64)
    entropy, _, ratio = effective_ranks(s.numpy())
    # Sums of up to 20 float32 numbers, their logarithm and the exponential of up to 3.
    assert entropy == pytest.approx(float(torch.exp(-torch.xlogy(p, p).sum())) / len(s), rel=60 * 2.0**-24)
    assert ratio == pytest.approx(float(p.square().sum() / p[0] ** 2) / len(s), rel=60 * 2.0**-24)


@some
@given(st.integers(0, 1000), st.sampled_from([2.0**-140, 2.0**-80, 1.0, 2.0**70, 2.0**120]))
def test_alignments_of_pairs_do_not_overflow_or_vanish(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    plain = {"a": matrix(rng.normal(size=(6, 5)).round(3)), "b": matrix(rng.normal(size=(4, 6)).round(3))}
    expected = of_pair("alignment_variants", PAIR, plain)
    found = of_pair("alignment_variants", PAIR, {name: scale * w for name, w in plain.items()})
    # Denormal entries keep 9 bits at 2^-140.
    rtol = 1e-2 if scale == 2.0**-140 else 1e-6
    assert found == {name: pytest.approx(value, rel=rtol) for name, value in expected.items()}
    apart = of_pair("alignment_variants", PAIR, {"a": scale * plain["a"], "b": plain["b"]})
    for name in ("weighted_alignment", "gram_alignment"):
        assert apart[name] == pytest.approx(expected[name], rel=rtol)
    if scale != 1:
        assert apart["imbalance"] == pytest.approx(1, abs=1e-6)


@some
@given(matrices())
def test_every_number_lies_in_its_range(w: Tensor) -> None:
    rank = min(w.shape)
    found = {**measured(w), **of_layer("norms", w), **of_layer("updates", w, previous=torch.zeros_like(w))}
    ranges = {
        "entropy": (0, math.log(rank)),
        "svd_entropy": (0, 1),
        "renyi_entropy": (0, math.log(rank)),
        "stable_rank": (1, rank),
        "participation_ratio": (1, rank),
        "gini": (0, 1 - 1 / rank),
        "top_half_energy": (0.5, 1),
        "condition_number": (1, 1e5),
        "singular_value_gap": (1, 1e5),
        "mp_ks": (0, 1),
        "mp_wasserstein": (0, math.inf),
        "mp_spikes": (0, rank),
        "mp_spikes_finite": (0, rank),
        "mp_below": (0, rank),
        "power_law_distance": (0, 1),
        "power_law_tail": (0, rank),
        "update_effective_rank": (1 / rank, 1),
        "update_spectral_edge": (1, max(1, rank // 2)),
        "update_spectral_edge_ratio": (1, 1e5),
    }
    for name, (low, high) in ranges.items():
        values = np.asarray(found[name], dtype=float)
        values = values[~np.isnan(values)]
        slack = 1e-5 * max(abs(high), 1) if high < math.inf else 0
        assert (values >= low - slack).all() and (values <= high + slack).all(), (name, values)
    assert found["mp_spikes_finite"] <= found["mp_spikes"] or math.isnan(found["mp_spikes"])
    assert found["spectral_norm"] <= found["frobenius_norm"] * (1 + 1e-6) <= found["nuclear_norm"] * (1 + 1e-5)


@some
@given(matrices())
def test_analyses_give_what_they_declare(w: Tensor) -> None:
    for name in ("shape", "norms", "marchenko_pastur", "power_law", "updates", "agreement_full"):
        declared = get_analysis(name).variables
        found = of_layer(name, w, previous=0.5 * w)
        assert set(found) == set(declared)
        for key, value in found.items():
            assert np.ndim(value) == len(declared[key].dims) - 2, key
            assert all(size <= min(w.shape) or size == 3 for size in np.shape(value))


@some
@given(spectra())
def test_energy_ranks_are_the_smallest_that_suffice(s: np.ndarray) -> None:
    found = energy_ranks(s)
    if s[0] == 0:
        assert np.isnan(found).all()
        return
    for q, k in zip((0.5, 0.9, 0.99), found.astype(int), strict=True):
        assert (s[:k] ** 2).sum() >= q * (s**2).sum() * (1 - 1e-9)
        assert (s[: k - 1] ** 2).sum() < q * (s**2).sum()
    assert found.tolist() == sorted(found)


@some
@given(matrices(), st.booleans())
def test_values_alone_are_sorted_and_match_numpy(w: Tensor, double: bool) -> None:
    s = singular_values(w.double() if double else w)
    expected = np.linalg.svd(w.double().numpy(), compute_uv=False)
    assert (np.diff(s) <= 0).all() and (s >= 0).all()
    np.testing.assert_allclose(s, expected, atol=1e-7 * expected[0])


@some
@given(st.floats(1.5, 6), st.integers(60, 200), st.integers(0, 1000), st.sampled_from([1e-4, 1.0, 1e5]))
def test_an_exponent_does_not_depend_on_the_scale(alpha: float, n: int, seed: int, scale: float) -> None:
    squares = np.random.default_rng(seed).uniform(size=n) ** (-1 / (alpha - 1))
    s = np.sort(squares)[::-1] ** 0.5
    first, second = fit_tail(s), fit_tail(scale * s)
    assert (first.length, first.status) == (second.length, second.status)
    np.testing.assert_allclose([first.alpha, first.distance], [second.alpha, second.distance], rtol=1e-6)
    fitted = first.status == STATUS.index("fitted")
    assert fitted == (first.length >= 50) == (not math.isnan(first.alpha))
    assert not fitted or first.alpha > 1


@some
@given(st.floats(0.01, 100), st.floats(1, 500))
def test_the_law_grows_from_nothing_to_all_between_its_edges(variance: float, q: float) -> None:
    low, high = edges(variance, q)
    shares = cdf(np.linspace(low, high, 50), variance, q)
    assert (np.diff(shares) >= -1e-9).all()
    np.testing.assert_allclose(shares[[0, -1]], [0, 1], atol=1e-6)
    reached = quantiles(np.linspace(0, 1, 9), variance, q)
    assert (np.diff(reached) > 0).all()
    np.testing.assert_allclose(reached[[0, -1]], [low, high], rtol=1e-6, atol=1e-9 * high)


@some
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7), st.integers(0, 1000))
def test_pairs_do_not_depend_on_a_rotation_of_what_they_share(rows: int, width: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reader, writer, turn = (
        rng.normal(size=(rows, width)),
        rng.normal(size=(width, columns)),
        orthonormal(width, width, seed),
    )
    plain = {"a": matrix(writer), "b": matrix(reader)}
    turned = {"a": matrix(turn @ writer), "b": matrix(reader @ turn.T)}
    for name in ("products", "alignment_variants"):
        same(of_pair(name, PAIR, plain), of_pair(name, PAIR, turned), rtol=1e-3)
    variants = of_pair("alignment_variants", PAIR, plain)
    assert all(0 <= value <= 1 for value in variants.values())
    scaled = of_pair("alignment_variants", PAIR, {"a": 4 * plain["a"], "b": 0.5 * plain["b"]})
    for name in ("weighted_alignment", "gram_alignment"):
        np.testing.assert_allclose(scaled[name], variants[name], rtol=1e-4, atol=1e-6)
    # ||A B||_F is at most ||A||_F times the largest singular value of B, and the product's rank that of both.
    values = of_pair("products", PAIR, plain)["product_singular_value"]
    assert values.shape == (min(rows, width, columns),)
    assert np.linalg.norm(values) <= np.linalg.norm(reader) * np.linalg.norm(writer, 2) * (1 + 1e-5)


@some
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 1000))
def test_coordinates_keep_the_distances_between_points(steps: int, size: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(steps, min(size, 9)))
    centred = x - x.mean(axis=0)
    path = principal(centred @ centred.T)
    apart = np.linalg.norm(x[:, None] - x[None], axis=-1)
    found = np.linalg.norm(path.coordinates[:, None] - path.coordinates[None], axis=-1)
    np.testing.assert_allclose(found, apart, atol=1e-6)
    assert (path.coordinates[-1] >= 0).all()
    assert (np.diff(path.explained) <= 0).all()
    assert abs(path.explained.sum() - 1) < 1e-9
    assert 1 - 1e-9 <= path.participation <= min(steps - 1, size) + 1e-9


@some
@given(spectra())
def test_the_effective_rank_is_the_exponential_of_the_entropy(s: np.ndarray) -> None:
    p = s[s > 0] / s.sum() if s[0] > 0 else np.array([math.nan])
    np.testing.assert_allclose(effective_rank(s), np.prod(p**-p) / len(s), rtol=1e-9)
