"""Parity with the paper's own analysis code on three checkpoints of a trained transformer (tolerances: METHOD 8.4)."""

import functools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from reference import golden
from torch import Tensor

from models.data.modular_addition import rows
from models.experiment import get_experiment
from storage.schema import SCORE_RANKS, TOP_RANKS
from tasks.analyses.agreement import agreement
from tasks.analyses.alignment import alignment
from tasks.analyses.effective_rank import effective_ranks
from tasks.analysis import CheckpointView, analysis_names, get_analysis
from tasks.decomposition import Factors
from tasks.evaluation import Evaluator
from tasks.masking import keep_halves
from tasks.one_pass import Anatomy, anatomy, compute_all, decompose_all, run_layout

STEPS, LAYERS = golden.STEPS, golden.LAYERS
REFERENCE_NAME = {"top": "bot", "bottom": "top"}
"""What we name by the half that is kept, the reference names by the half that is removed."""
ENTRY = 5e-4
"""Between two drivers, an entry of vectors whose values are separate moves by less than this (METHOD 8.4)."""
COMPARED = 0.85
"""Least part of the entries that are separate; 88 % and more on these checkpoints."""


@functools.cache
def body() -> Anatomy:
    experiment = get_experiment("modular_addition")
    return anatomy(experiment, golden.spec(), experiment.net(golden.spec()))


@functools.cache
def factors(step: int) -> dict[str, Factors]:
    return decompose_all(golden.weights(step), body().matrices, f"golden step {step}")


def evaluate(weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Metrics over (train, val), with the golden batches: 64 + 37 and 68."""
    experiment, measured = get_experiment("modular_addition"), []
    for split, sizes in (("train", golden.META["train_batches"]), ("val", golden.META["val_batches"])):
        spec = golden.spec(eval_batch_size=sizes[0])
        data = {split: golden.data()[split]}
        assert [len(part) for part in data[split].targets.split(sizes[0])] == sizes
        measured.append(Evaluator(experiment, spec, experiment.net(spec), data, torch.device("cpu"))(weights))
    return {name: np.concatenate([values[name] for values in measured]) for name in measured[0]}


def view(step: int) -> CheckpointView:
    return CheckpointView(
        step=step,
        weights=golden.weights(step),
        layers=body().layers,
        pairs=body().pairs,
        factors=factors(step),
        final=factors(STEPS[-1]),
        evaluate=evaluate,  # type: ignore[arg-type]
        sizes=run_layout(golden.spec(), STEPS, analysis_names()).sizes,
    )


def score(matrix: np.ndarray) -> np.ndarray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)[..., :SCORE_RANKS].mean(axis=-1)


def test_the_golden_rows_are_the_spec_s_own_split() -> None:
    for split, table in zip(("train", "val"), rows(golden.spec().data, seed=0), strict=True):
        assert torch.equal(table[:, :3], golden.data()[split].inputs)
        assert torch.equal(table[:, 3], golden.data()[split].targets)


def test_the_layers_are_the_golden_ones_in_order() -> None:
    assert tuple(layer.name for layer in body().layers) == LAYERS


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("layer", LAYERS)
def test_singular_values(layer: str, step: int) -> None:
    expected = golden.expected(f"{layer}_sv", step) - 3e-10
    np.testing.assert_allclose(factors(step)[layer].s, expected, rtol=0, atol=1e-5 * expected[0])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("layer", LAYERS)
def test_effective_ranks(layer: str, step: int) -> None:
    expected = [golden.expected(f"{layer}_eff_rank{kind}", step) for kind in ("", "_count", "_ratio")]
    np.testing.assert_allclose(effective_ranks(factors(step)[layer].s.numpy()), expected, rtol=1e-5)


@pytest.mark.parametrize("step", STEPS)
def test_losses_and_errors(step: int) -> None:
    measured = evaluate(golden.weights(step))
    for metric in ("loss", "err"):
        expected = [golden.expected(f"{split}/{metric}", step) for split in ("train", "val")]
        np.testing.assert_allclose(measured[metric], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kept", ["top", "bottom"])
@pytest.mark.parametrize("step", STEPS)
def test_losses_and_errors_with_half_of_the_singular_values(step: int, kept: str) -> None:
    measured = evaluate(keep_halves(golden.weights(step), body().layers, factors(step))[kept])
    for metric in ("loss", "err"):
        key = f"pruned_{REFERENCE_NAME[kept]}_{metric}"
        expected = [golden.expected(f"{split}/{key}", step) for split in ("train", "val")]
        np.testing.assert_allclose(measured[metric], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("layer", LAYERS)
def test_agreement_with_the_final_checkpoint(layer: str, step: int) -> None:
    expected = golden.expected(f"{layer}_sva", step)
    measured = agreement(factors(step)[layer], factors(STEPS[-1])[layer])
    current, final = (golden.separated(golden.expected(f"{layer}_sv", at)) for at in (step, STEPS[-1]))
    compared = current[:, None] & final
    assert compared.mean() > COMPARED
    np.testing.assert_allclose(measured[compared], expected[compared], rtol=0, atol=ENTRY)
    assert score(measured) == pytest.approx(score(expected), abs=1e-4)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("index", range(len(golden.ALIGNMENTS)), ids=golden.ALIGNMENTS)
def test_alignment_of_layers(index: int, step: int) -> None:
    expected = golden.expected(golden.ALIGNMENTS[index], step)
    pair = body().pairs[index]
    measured = alignment(view(step), pair)
    reader, writer = (
        golden.separated(np.linalg.svd(matrix.of(golden.weights(step)).double().numpy(), compute_uv=False))
        for matrix in (pair.reader, pair.writer)
    )
    compared = reader[..., :, None] & writer[..., None, :]
    assert measured.shape == expected.shape
    assert compared.mean() > COMPARED
    np.testing.assert_allclose(measured[compared], expected[compared], rtol=0, atol=ENTRY)
    np.testing.assert_allclose(score(measured), score(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("step", STEPS)
def test_one_pass_over_a_checkpoint_stores_the_golden_numbers(step: int) -> None:
    layout = run_layout(golden.spec(), STEPS, analysis_names())
    found = compute_all([get_analysis(name) for name in analysis_names()], view(step), layout)
    assert set(found) == set(layout.variables)
    top = [slice(0, TOP_RANKS)] * 2
    for i, layer in enumerate(LAYERS):
        sva, sv = golden.expected(f"{layer}_sva", step), golden.expected(f"{layer}_sv", step)
        rank = len(sv)
        np.testing.assert_allclose(found["singular_value"][i, :rank], sv, rtol=0, atol=1e-5 * sv[0])
        assert np.isnan(found["singular_value"][i, rank:]).all()
        for ours, theirs in (("", ""), ("_count", "_count"), ("_ratio", "_ratio")):
            expected = golden.expected(f"{layer}_eff_rank{theirs}", step)
            assert found[f"effective_rank{ours}"][i] == pytest.approx(expected, rel=1e-5)
        current, final = (golden.separated(golden.expected(f"{layer}_sv", at)) for at in (step, STEPS[-1]))
        both = (current[:, None] & final)[tuple(top)]
        block = found["agreement_block"][i][tuple(slice(0, n) for n in both.shape)]
        np.testing.assert_allclose(block[both], sva[tuple(top)][both], rtol=0, atol=ENTRY)
        diagonal = found["agreement"][i, :rank][current & final]
        np.testing.assert_allclose(diagonal, np.diagonal(sva)[current & final], rtol=0, atol=ENTRY)
        assert found["agreement_score"][i] == pytest.approx(score(sva), abs=1e-4)
    assert set(found["collapse"]) == {1}
    for i, key in enumerate(golden.ALIGNMENTS):
        expected = score(golden.expected(key, step))
        assert found["alignment_score"][i] == pytest.approx(expected.mean(), abs=1e-4)
        if "_qk_" in key:
            np.testing.assert_allclose(found["head_alignment_score"][0], expected, rtol=0, atol=1e-4)
    for metric in ("loss", "err"):
        for j, split in enumerate(("train", "val")):
            expected = golden.expected(f"{split}/{metric}", step)
            assert found[metric][j] == pytest.approx(expected, rel=1e-5, abs=1e-7)
            for k, kept in enumerate(layout.labels["kept"]):
                expected = golden.expected(f"{split}/pruned_{REFERENCE_NAME[kept]}_{metric}", step)
                assert found[f"pruned_{metric}"][k, j] == pytest.approx(expected, rel=1e-5, abs=1e-7)
