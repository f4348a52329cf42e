"""Chance levels against the values that CLAIMS 2.7 measured, closed forms, and a second way of drawing them."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from reference.views import matrix, run_view
from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.tasks.analyses.null_levels import ANALYSIS, LEVELS, of_layer
from specdyn.tasks.spectra import nulls
from specdyn.tasks.spectra.agreement import agreement
from specdyn.tasks.spectra.decomposition import decompose
from specdyn.tasks.spectra.labels import NULLS


def levels(rows: int, columns: int) -> dict[str, np.ndarray]:
    return of_layer(torch.randn(rows, columns, generator=torch.Generator().manual_seed(1)), "w")


@pytest.mark.parametrize(
    ("rows", "columns", "level"),
    [(256, 256, 0.80), (384, 128, 0.954), (512, 128, 0.966), (128, 512, 0.966), (512, 4608, 0.986), (10, 512, 0.997)],
)
def test_effective_rank_at_random_depends_on_the_aspect(rows: int, columns: int, level: float) -> None:
    np.testing.assert_allclose(
        levels(rows, columns)["null_effective_rank"], [level] * 2, atol=0.007 if rows == columns else 0.003
    )


@pytest.mark.parametrize(
    ("rows", "columns", "level"), [(256, 256, 0.89), (384, 128, 0.74), (64, 576, 0.64), (256, 2304, 0.64)]
)
def test_the_top_half_of_an_untrained_spectrum_has_most_of_the_energy(rows: int, columns: int, level: float) -> None:
    np.testing.assert_allclose(levels(rows, columns)["null_top_half_energy"], [level] * 2, atol=0.0075)


def test_the_largest_twentieth_of_gaussian_entries_has_28_per_cent_of_their_energy() -> None:
    # With z = 1.96, which 5 % exceed on either side: 2 (z phi(z) + 0.025)
    z = 1.959964
    exact = 2 * (z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) + 0.025)
    assert exact == pytest.approx(0.28, abs=0.005)
    np.testing.assert_allclose(levels(400, 400)["null_kept_energy"], [exact] * 2, atol=0.003)
    entries = torch.zeros(40, 1)
    entries[:5, 0] = torch.tensor([3.0, -4.0, 2.0, 1.0, 1.0])  # two of 40 are kept
    assert nulls.kept_energy(entries) == pytest.approx(25 / 31)


def test_agreement_by_chance() -> None:
    assert nulls.agreement(128, 512) == pytest.approx(0.0025, abs=5e-5)
    rng = np.random.default_rng(0)
    f, g = (decompose(matrix(rng.normal(size=(60, 150)))) for _ in range(2))
    assert agreement(f, g).mean() == pytest.approx(nulls.agreement(60, 150), rel=0.05)


@pytest.mark.parametrize(("width", "level"), [(128, 0.070), (512, 0.035), (768, 0.029), (10, 0.25)])
def test_alignment_by_chance(width: int, level: float) -> None:
    assert nulls.alignment(width) == pytest.approx(level, abs=0.003)


def test_alignment_by_chance_of_a_part_is_lower() -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(4000, 45))
    parts = (whole / np.linalg.norm(whole, axis=1, keepdims=True))[:, :5]
    fixed = np.array([0.6, 0.8, 0, 0, 0])
    assert np.abs(parts @ fixed).mean() == pytest.approx(nulls.alignment(5, parts=9), rel=0.05)


def test_the_best_match_by_chance_is_that_of_two_gaussian_matrices() -> None:
    rng = np.random.default_rng(0)
    direct = []
    for _ in range(10):
        f, g = (decompose(matrix(rng.normal(size=(24, 40)))) for _ in range(2))
        a = agreement(f, g)
        rows, columns = linear_sum_assignment(a, maximize=True)
        direct.append(a[rows, columns].mean())
    drawn = [nulls.best_match(24, 40, str(i)) for i in range(10)]
    assert np.mean(drawn) == pytest.approx(np.mean(direct), rel=0.08)
    assert np.mean(drawn) > 3 * nulls.agreement(24, 40)


@pytest.mark.parametrize(("rows", "rank"), [(1, 1), (2, 1), (7, 7), (13, 7), (14, 7), (300, 7)])
def test_the_frames_of_the_best_match_equal_a_qr(rows: int, rank: int) -> None:
    draws = torch.randn(rows, rank, generator=torch.Generator().manual_seed(rows))
    expected = np.linalg.qr(draws.double().numpy())[0][:rank]
    np.testing.assert_allclose(nulls.first_rows(draws).abs(), abs(expected), atol=2e-5)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (40, 30)])
def test_the_energy_of_the_largest_entries_is_that_of_the_sorted_ones(rows: int, columns: int) -> None:
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    squares = sorted((float(x) ** 2 for x in w.flatten()), reverse=True)
    kept = sum(squares[: max(1, rows * columns // 20)])
    before = w.clone()
    for lying in (w, w.mT):
        assert nulls.kept_energy(lying) == pytest.approx(kept / sum(squares))
    assert torch.equal(w, before)


def test_both_nulls_have_the_layers_size_and_the_shuffled_one_its_entries() -> None:
    w = matrix(np.random.default_rng(0).normal(0.3, 2, size=(50, 40)))
    drawn = nulls.without_structure(w, "w")
    assert tuple(drawn) == NULLS
    assert sorted(drawn["shuffled"].flatten().tolist()) == sorted(w.flatten().tolist())
    assert not torch.equal(drawn["shuffled"], w)
    assert float(drawn["gaussian"].norm()) == pytest.approx(float(w.norm()), rel=0.05)
    assert float(drawn["gaussian"].mean()) == pytest.approx(0, abs=0.2)
    again, other = nulls.without_structure(w, "w"), nulls.without_structure(w, "v")
    for kind in NULLS:
        assert torch.equal(drawn[kind], again[kind])
        assert not torch.equal(drawn[kind], other[kind])


def test_nulls_of_a_zero_layer_depend_on_its_shape_alone() -> None:
    found = of_layer(torch.zeros(60, 60), "w")
    assert found["null_effective_rank"][0] == pytest.approx(0.80, abs=0.02)
    assert math.isnan(found["null_effective_rank"][1])
    assert found["null_kept_energy"][0] == pytest.approx(0.28, abs=0.03)


def test_a_mean_is_no_part_of_the_variance() -> None:
    w = matrix(np.random.default_rng(0).normal(3, 1, size=(200, 100)))
    found = of_layer(w, "w")
    assert found["null_mp_spikes"][1] == 1  # the mean itself
    assert found["null_mp_ks"][1] < 0.05


def test_shuffling_removes_spikes_that_are_spread_and_keeps_traps_of_single_entries() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 100))
    spread = noise + 60 * np.outer(rng.normal(size=200), rng.normal(size=100)) / math.sqrt(200 * 100)
    trap = noise.copy()
    trap[3, 4] = 60
    assert of_layer(matrix(spread), "w")["null_mp_spikes_finite"][1] == 0
    assert of_layer(matrix(trap), "w")["null_mp_spikes_finite"].tolist() == [0, 1]


def test_levels_of_a_run_come_from_its_last_checkpoint_by_layer_and_pair() -> None:
    rng = np.random.default_rng(0)
    history = [{"a": matrix(rng.normal(size=(6, 5))), "b": matrix(rng.normal(size=(3, 6, 2, 2)))} for _ in range(2)]
    a, b = Matrix(parameter="a"), Matrix(parameter="b")
    pairs = [LayerPair(writer=a, reader=b, positions=4, shown=3), LayerPair(writer=b, reader=a, gates=3)]
    pairs += [LayerPair(writer=a, reader=b, writer_vectors="right")]
    found = ANALYSIS.compute(run_view(history, pairs))
    assert set(found) == set(ANALYSIS.variables)
    for i, (layer, (rows, columns)) in enumerate([(a, (6, 5)), (b, (3, 24))]):
        alone = of_layer(layer.of(history[-1]), layer.name)
        for name in LEVELS:
            np.testing.assert_array_equal(found[name][i], alone[name])
        assert found["agreement_null"][i] == pytest.approx(2 / math.pi / math.sqrt(rows * columns))
        k = np.array([1, 2, 4])
        reached = np.where(k <= min(rows, columns), k, np.nan)  # a rank of 3 has no four leading vectors
        np.testing.assert_allclose(found["subspace_overlap_null"][i], [reached / rows, reached / columns])
    # a writes 6 wide to a kernel of four positions, b three gates of one each, a by its right vectors 5 wide
    expected = [math.sqrt(2 / (math.pi * 6 * 4)), math.sqrt(2 / (math.pi * 1 * 3)), math.sqrt(2 / (math.pi * 5))]
    np.testing.assert_allclose(found["alignment_null"], expected)
    np.testing.assert_allclose(found["weighted_alignment_null"], [1 / math.sqrt(6), 1, 1 / math.sqrt(5)])


def test_a_run_without_pairs_has_levels_of_its_layers_alone() -> None:
    found = ANALYSIS.compute(run_view([{"a": torch.eye(3)}]))
    assert set(ANALYSIS.variables) - set(found) == {"alignment_null", "weighted_alignment_null"}
