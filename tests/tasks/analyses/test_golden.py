"""Parity with the paper's own analysis code on checkpoints of a transformer and a ConvNet (tolerances: METHOD 8.4)."""

from functools import partial

import numpy as np
import pytest
import torch

from reference.golden import GOLDEN, SPLITS, Golden, separated
from reference.series import stored as values_stored
from specdyn.models.datasets.decoders.modular_addition import rows
from specdyn.models.nets.matrices import LayerPair
from specdyn.storage.schema import SCORE_RANKS, TOP_RANKS
from specdyn.tasks.analyses.alignment import along_shared
from specdyn.tasks.analyses.effective_rank import effective_ranks
from specdyn.tasks.spectra.agreement import agreement
from specdyn.tasks.spectra.analysis import Decomposed, PairView, default_analyses
from specdyn.tasks.spectra.labels import HALVES
from specdyn.tasks.spectra.network_layout import Target, run_layout
from specdyn.tasks.spectra.one_pass import analyse_block
from specdyn.tasks.spectra.truncation import of_halves

ALL_LAYERS = [pytest.param(g, layer, id=f"{g.name}-{layer}") for g in GOLDEN.values() for layer in g.layers]
ALL_STEPS = [pytest.param(g, step, id=f"{g.name}-{step}") for g in GOLDEN.values() for step in g.steps]
BY_HEAD = "[value by head]"
"""Part of the pairs that the reference does not have."""
ALL_PAIRS = [
    pytest.param(g, pair, id=f"{g.name}-{pair.name}")
    for g in GOLDEN.values()
    for pair in g.body.pairs
    if BY_HEAD not in pair.name
]
REFERENCE_NAME = {"top": "bot", "bottom": "top"}
"""What we name by the half that is kept, the reference names by the half that is removed."""
ENTRY = 5e-4
"""Between two drivers, an entry of vectors whose values are separate moves by less than this (METHOD 8.4)."""
COMPARED = 0.85
"""Least part of the entries that are separate; 88 % and more on these checkpoints."""


def score(matrix: np.ndarray) -> np.ndarray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)[..., :SCORE_RANKS].mean(axis=-1)


def test_the_golden_rows_are_the_spec_s_own_split() -> None:
    golden = GOLDEN["modular_addition"]
    for split, table in zip(SPLITS, rows(golden.spec().data, seed=0), strict=True):
        assert torch.equal(table[:, :3], golden.data()[split].inputs)
        assert torch.equal(table[:, 3], golden.data()[split].targets)


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=lambda golden: golden.name)
def test_the_layers_and_pairs_are_the_golden_ones_in_order(golden: Golden) -> None:
    assert tuple(layer.name for layer in golden.body.layers) == golden.layers
    keys = [golden.alignment_key(pair) for pair in golden.body.pairs if BY_HEAD not in pair.name]
    assert sorted(keys) == sorted(key for key in golden.arrays if key.endswith("_align"))


@pytest.mark.parametrize(("golden", "layer"), ALL_LAYERS)
def test_singular_values(golden: Golden, layer: str) -> None:
    for step in golden.steps:
        expected = golden.expected(f"{layer}_sv", step) - 3e-10
        np.testing.assert_allclose(golden.factors(step)[layer].s, expected, rtol=0, atol=1e-5 * expected[0])


@pytest.mark.parametrize(("golden", "layer"), ALL_LAYERS)
def test_effective_ranks(golden: Golden, layer: str) -> None:
    for step in golden.steps:
        expected = [golden.expected(f"{layer}_eff_rank{kind}", step) for kind in ("", "_count", "_ratio")]
        np.testing.assert_allclose(effective_ranks(golden.factors(step)[layer].s.numpy()), expected, rtol=1e-5)


@pytest.mark.parametrize(("golden", "step"), ALL_STEPS)
def test_losses_and_errors(golden: Golden, step: int) -> None:
    measured = golden(golden.weights(step))
    for metric in ("loss", "err"):
        expected = [golden.expected(f"{split}/{metric}", step) for split in SPLITS]
        np.testing.assert_allclose(measured[metric], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("golden", "step"), ALL_STEPS)
def test_losses_and_errors_with_half_of_the_singular_values(golden: Golden, step: int) -> None:
    measure = partial(golden, renormalise=True)
    of_each = of_halves(measure, golden.weights(step), golden.body.layers, golden.factors(step))
    for kept, measured in zip(HALVES, of_each, strict=True):
        for metric in ("loss", "err"):
            key = f"pruned_{REFERENCE_NAME[kept]}_{metric}"
            expected = [golden.expected(f"{split}/{key}", step) for split in SPLITS]
            np.testing.assert_allclose(measured[metric], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("golden", "layer"), ALL_LAYERS)
def test_agreement_with_the_final_checkpoint(golden: Golden, layer: str) -> None:
    last = golden.steps[-1]
    for step in golden.steps:
        expected = golden.expected(f"{layer}_sva", step)
        measured = agreement(golden.factors(step)[layer], golden.factors(last)[layer])
        current, final = (separated(golden.expected(f"{layer}_sv", at)) for at in (step, last))
        compared = current[:, None] & final
        assert compared.mean() > COMPARED
        np.testing.assert_allclose(measured[compared], expected[compared], rtol=0, atol=ENTRY)
        assert score(measured) == pytest.approx(score(expected), abs=1e-4)


@pytest.mark.parametrize(("golden", "pair"), ALL_PAIRS)
def test_alignment_of_layers(golden: Golden, pair: LayerPair) -> None:
    for step in golden.steps:
        expected = golden.expected(golden.alignment_key(pair), step)
        if expected.ndim == 4:  # kernel rows and columns, which we count through
            expected = expected.reshape(-1, *expected.shape[2:])
            assert pair.shown == len(expected) // 2
        now = Decomposed(step=step, weights=golden.weights(step), factors=golden.factors(step))
        read, written = along_shared(PairView(pair=pair, now=now))
        measured = np.asarray((read.mT @ written).abs())
        reader, writer = (
            separated(np.linalg.svd(matrix.of(golden.weights(step)).double().numpy(), compute_uv=False))
            for matrix in (pair.reader, pair.writer)
        )
        compared = np.broadcast_to(reader[..., :, None] & writer[..., None, :], expected.shape)
        assert measured.shape == expected.shape
        assert compared.mean() > COMPARED
        np.testing.assert_allclose(measured[compared], expected[compared], rtol=0, atol=ENTRY)
        np.testing.assert_allclose(score(measured), score(expected), rtol=0, atol=1e-4)


@pytest.fixture(scope="module", params=list(GOLDEN))
def stored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Golden, dict[str, np.ndarray]]:
    """All default analyses of the golden checkpoints, written by the pipeline's own pass and read back."""
    golden = GOLDEN[request.param]
    folder = tmp_path_factory.mktemp(golden.name)
    metrics = golden.experiment.metrics(golden.spec())
    layout = run_layout(golden.body, golden.steps, default_analyses(), metrics, {"run_id": "golden"})
    target = Target(folder=str(folder), layout=layout)
    anchors = [(step, golden.factors(step)) for step in golden.steps]
    for steps in layout.blocks():
        assert analyse_block(golden, golden.body, target, steps, default_analyses(), *anchors) == 0
    return golden, values_stored(target)


def test_one_pass_stores_the_golden_layers(stored: tuple[Golden, dict[str, np.ndarray]]) -> None:
    golden, found = stored
    for i, layer in enumerate(golden.layers):
        for t, step in enumerate(golden.steps):
            sva, sv = golden.expected(f"{layer}_sva", step), golden.expected(f"{layer}_sv", step)
            rank = len(sv)
            np.testing.assert_allclose(found["singular_value"][i, t, :rank], sv, rtol=0, atol=1e-5 * sv[0])
            assert np.isnan(found["singular_value"][i, t, rank:]).all()
            for kind in ("", "_count", "_ratio"):
                expected = golden.expected(f"{layer}_eff_rank{kind}", step)
                assert found[f"effective_rank{kind}"][i, t] == pytest.approx(expected, rel=1e-5)
            current, final = (separated(golden.expected(f"{layer}_sv", at)) for at in (step, golden.steps[-1]))
            both = (current[:, None] & final)[:TOP_RANKS, :TOP_RANKS]
            block = found["agreement_block"][i, t][tuple(slice(0, n) for n in both.shape)]
            np.testing.assert_allclose(block[both], sva[:TOP_RANKS, :TOP_RANKS][both], rtol=0, atol=ENTRY)
            diagonal = found["agreement"][i, t, :rank][current & final]
            np.testing.assert_allclose(diagonal, np.diagonal(sva)[current & final], rtol=0, atol=ENTRY)
            assert found["agreement_score"][i, t] == pytest.approx(score(sva), abs=1e-4)
    assert set(found["collapse"].flat) == {1}


def test_one_pass_stores_the_golden_pairs_and_metrics(stored: tuple[Golden, dict[str, np.ndarray]]) -> None:
    golden, metrics = stored
    scores = metrics["alignment_score"]
    for t, step in enumerate(golden.steps):
        for i, pair in enumerate(golden.body.pairs):
            if BY_HEAD in pair.name:
                continue
            expected = score(golden.expected(golden.alignment_key(pair), step))
            shown = expected.reshape(-1)[pair.shown] if pair.positions > 1 else expected.mean()
            assert scores[i, t] == pytest.approx(float(shown), abs=1e-4)
        for metric in ("loss", "err"):
            for j, split in enumerate(SPLITS):
                expected = golden.expected(f"{split}/{metric}", step)
                assert metrics[metric][j, t] == pytest.approx(expected, rel=1e-5, abs=1e-7)
                for k, kept in enumerate(HALVES):
                    expected = golden.expected(f"{split}/pruned_{REFERENCE_NAME[kept]}_{metric}", step)
                    assert metrics[f"pruned_{metric}"][k, j, t] == pytest.approx(expected, rel=1e-5, abs=1e-7)
