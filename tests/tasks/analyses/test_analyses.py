"""Every analysis against values worked out by hand, and what every analysis must fulfil."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from reference.series import HandMade, one, seeded, stored, target_of, two
from reference.spectra import matrix_with, orthonormal
from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import Metric, experiment_names, get_experiment
from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.models.nets.mlp import Mlp
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.places import Store
from specdyn.storage.schema import DIMENSIONS, Variable
from specdyn.tasks.analyses.effective_rank import effective_ranks
from specdyn.tasks.analyses.projections import JOINT
from specdyn.tasks.data.prepare import require_data
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.spectra.agreement import agreement
from specdyn.tasks.spectra.analysis import Analysis, analysis_names, get_analysis
from specdyn.tasks.spectra.decomposition import DRIVERS, Factors, decompose
from specdyn.tasks.spectra.network_layout import Target, network_layout
from specdyn.tasks.spectra.one_pass import analyse_block, decompose_step

SPECS = [pytest.param(get_experiment(name).preset("smoke").spec, id=f"{name}/smoke") for name in experiment_names()] + [
    pytest.param(
        dataclasses.replace(get_experiment("modular_addition").preset("smoke").spec, net=Mlp(width=12)),
        id="modular_addition/mlp",
    )
]

FEW = 16
"""Examples of a split that networks are evaluated on."""


def test_effective_ranks_have_the_golden_values() -> None:
    # METHOD 4.3: (4, 2, 1, 1); the ratio is (16 + 4 + 1 + 1) / 16 / 4, the sum reaches 90 % at the last value only
    found = effective_ranks(np.array([4, 2, 1, 1], dtype=np.float32))
    np.testing.assert_allclose(found, [0.84090, 1.0, 0.34375], atol=5e-6)


@pytest.mark.parametrize("n", [1, 2, 16, 64])
def test_equal_values_have_full_effective_rank(n: int) -> None:
    entropy, count, ratio = effective_ranks(np.full(n, 0.3, dtype=np.float32))
    assert entropy == pytest.approx(1.0, rel=1e-5)
    assert ratio == pytest.approx(1.0, rel=1e-5)
    assert count == math.floor(0.9 * n + 1) / n  # the first index past 90 %


def test_a_single_value_has_the_least_effective_rank() -> None:
    found = effective_ranks(np.array([5, 0, 0, 0, 0, 0, 0, 0], dtype=np.float32))
    np.testing.assert_allclose(found, [1 / 8] * 3, rtol=1e-5)


def test_more_than_ninety_per_cent_is_meant_strictly() -> None:
    # after the first value 15 / 16, 7 / 8 and exactly the float32 nearest to 0.9
    assert effective_ranks(np.array([15, 0.5, 0.5], dtype=np.float32))[1] == pytest.approx(1 / 3)
    assert effective_ranks(np.array([7, 0.5, 0.5], dtype=np.float32))[1] == pytest.approx(2 / 3)
    assert effective_ranks(np.array([9, 1], dtype=np.float32))[1] == 1.0


@pytest.mark.parametrize("value", [0.0, 1e-20])
def test_a_collapsed_layer_reads_as_full_rank_and_is_flagged(value: float) -> None:
    # METHOD 4.3, R = 64: the added 1e-10 dominates
    found = effective_ranks(np.full(64, value, dtype=np.float32))
    np.testing.assert_allclose(found, [1.0, 58 / 64, 1.0], rtol=1e-5)
    weights = {"dead": torch.full((8, 8), value), "alive": 1e-3 * torch.eye(8)}
    assert one(weights, "effective_rank")["collapse"].tolist() == [2, 1]


@pytest.mark.parametrize(("largest", "flag"), [(0.9e-6, 2), (1.1e-6, 1)])
def test_a_layer_is_collapsed_below_a_millionth(largest: float, flag: int) -> None:
    found = one({"w": largest * torch.eye(3)}, "effective_rank")
    assert found["collapse"].tolist() == [flag]
    assert get_analysis("effective_rank").variables["collapse"].flags[flag] == ("", "alive", "collapsed")[flag]


def test_the_spectrum_is_nan_beyond_a_layers_rank_and_names_its_driver() -> None:
    weights = {"small": matrix_with([3, 2], 2, 5), "large": matrix_with([4, 3, 2, 1], 4, 4)}
    found = one(weights, "spectrum")
    expected = [[3, 2, np.nan, np.nan], [4, 3, 2, 1]]
    np.testing.assert_allclose(found["singular_value"], expected, rtol=1e-6)
    assert [DRIVERS[i] for i in found["driver"]] == ["gram_float64", "svd_float32"]


def test_performance_is_that_of_the_weights() -> None:
    assert one({"w": torch.ones(2, 3)}, "performance")["total"].tolist() == [6, -6]


def test_pruning_measures_both_halves_on_every_split() -> None:
    weights = {"w": torch.diag(torch.tensor([4.0, 3.0, 2.0])), "last": torch.diag(torch.tensor([10.0, 20.0]))}
    # top keeps ceil(3 / 2) = 2 values: 4 + 3, bottom 2; the last layer's 30 stay
    np.testing.assert_allclose(one(weights, "pruning")["pruned_total"], [[37, -37], [32, -32]], rtol=1e-6)


def test_a_matrix_agrees_with_itself_whatever_the_signs_and_values() -> None:
    w = matrix_with([3, 2, 1], 5, 3)
    f = decompose(w)
    signs = torch.tensor([1.0, -1.0, -1.0])
    other = Factors(f.left * signs, 10 * f.s, f.right * signs, f.driver)
    np.testing.assert_allclose(agreement(f, other), np.eye(3), atol=1e-6)


def test_agreement_is_the_product_of_the_cosines_of_left_and_right() -> None:
    # left vectors turned by 60 degrees, right ones by 30
    def turned(degrees: float) -> Tensor:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return torch.tensor([[c, -s], [s, c]])

    values = torch.diag(torch.tensor([2.0, 1.0]))
    found = agreement(decompose(turned(60) @ values @ turned(30).T), decompose(values))
    on, off = 0.5 * math.sqrt(0.75), math.sqrt(0.75) * 0.5
    np.testing.assert_allclose(found, [[on, off], [off, on]], atol=1e-6)


def test_rows_of_agreement_are_of_the_current_and_columns_of_the_final_checkpoint() -> None:
    # values 3 2 1 lie on axes 0 1 2 at the end, and on axes 2 0 1 now
    final = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    current = torch.diag(torch.tensor([2.0, 1.0, 3.0]))
    expected = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    np.testing.assert_allclose(agreement(decompose(current), decompose(final)), expected, atol=1e-6)
    found = two({"w": current}, {"w": final}, "agreement")
    np.testing.assert_allclose(found["agreement_block"][0], expected, atol=1e-6)
    np.testing.assert_allclose(found["agreement"][0], [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found["agreement_best_match"][0], [1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(found["agreement_score"], [0], atol=1e-6)


def test_the_best_match_is_the_permutation_with_the_largest_sum() -> None:
    current, final = (matrix_with([4, 3, 2, 1], 5, 4, seed) for seed in (3, 53))
    a = agreement(decompose(current), decompose(final))
    best = max(itertools.permutations(range(4)), key=lambda columns: sum(a[range(4), columns]))
    found = two({"w": current}, {"w": final}, "agreement")["agreement_best_match"][0]
    np.testing.assert_allclose(found, a[range(4), best], rtol=1e-6)
    # Here neither the diagonal nor the largest entry of each row is that permutation.
    assert list(best) != [0, 1, 2, 3]
    assert list(best) != a.argmax(axis=1).tolist()


def test_scores_are_means_of_the_first_ten_ranks_or_fewer() -> None:
    # Of 12 ranks the last two are exchanged; of 3 all are kept.
    values = np.linspace(2, 1, 12)
    final = {"a": torch.diag(torch.tensor(values)).float(), "b": torch.diag(torch.tensor([3.0, 2.0, 1.0]))}
    swapped = values.copy()
    swapped[[9, 10]] = swapped[[10, 9]]
    current = {"a": torch.diag(torch.tensor(swapped)).float(), "b": final["b"]}
    found = two(current, final, "agreement")
    np.testing.assert_allclose(found["agreement_score"], [0.9, 1.0], atol=1e-6)
    assert np.isnan(found["agreement"][1, 3:]).all()
    assert np.isnan(found["agreement_block"][1, 3:]).all()


def test_the_block_is_the_leading_64_ranks() -> None:
    now, last = (matrix_with(np.linspace(2, 1, 70), 70, 70, seed) for seed in (0, 5))
    found = two({"w": now}, {"w": last}, "agreement")["agreement_block"][0]
    np.testing.assert_array_equal(found, agreement(decompose(now), decompose(last))[:64, :64])


def test_chance_agreement_is_what_the_variable_says() -> None:
    f, g = (decompose(matrix_with(np.linspace(2, 1, 90), 200, 90, seed)) for seed in (0, 5))
    assert agreement(f, g).mean() == pytest.approx((2 / math.pi) / math.sqrt(200 * 90), rel=0.03)


def test_alignment_is_between_what_one_layer_writes_and_the_next_reads() -> None:
    # a writes along its left vectors; b = (turned so that it reads a's second direction first)
    left = orthonormal(4, 2, 3)
    a = torch.tensor(left @ np.diag([2.0, 1.0]) @ orthonormal(3, 2, 4).T, dtype=torch.float32)
    b = torch.tensor(orthonormal(5, 2, 5) @ np.diag([2.0, 1.0]) @ left[:, ::-1].T, dtype=torch.float32)
    pair = LayerPair(writer=Matrix(parameter="a"), reader=Matrix(parameter="b"))
    values = [np.linalg.svd(w.double().numpy(), full_matrices=False) for w in (a, b)]
    expected = np.abs(values[1][2] @ values[0][0])  # |Vh_b U_a|
    found = one({"a": a, "b": b}, "alignment", pairs=[pair])
    # b's matrix has rank 2 of 4: only its two leading reading vectors are determined
    np.testing.assert_allclose(expected[:2, :2], [[0, 1], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(found["alignment"][0, :2], np.diagonal(expected)[:2], atol=1e-5)


def test_chance_alignment_is_what_the_variable_says() -> None:
    a, b = (matrix_with(np.linspace(2, 1, 100), 100, 100, seed) for seed in (0, 5))
    pair = LayerPair(writer=Matrix(parameter="a"), reader=Matrix(parameter="b"))
    found = one({"a": a, "b": b}, "alignment", pairs=[pair])
    assert found["alignment"].mean() == pytest.approx(math.sqrt(2 / (math.pi * 100)), rel=0.2)


def test_query_and_key_are_aligned_head_by_head() -> None:
    # Of the first layer, head 1 has queries and keys along the same axes in the same order, head 2 in the opposite
    # order; of the second layer it is the other way round. A pair without heads lies between them.
    def matrix(parameter: str, part: str, rows: tuple[int, int]) -> Matrix:
        return Matrix(parameter=parameter, part=part, rows=rows, heads=2)

    straight, turned = torch.diag(torch.tensor([2.0, 1.0])), torch.diag(torch.tensor([1.0, 2.0]))
    weights = {
        "first": torch.cat([straight, straight, straight, turned]),  # queries of both heads, keys of both heads
        "second": torch.cat([straight, straight, turned, straight]),
        "plain": straight,
    }
    first, second = (
        LayerPair(writer=matrix(name, "key", (4, 8)), reader=matrix(name, "query", (0, 4)), reader_vectors="left")
        for name in ("first", "second")
    )
    plain = LayerPair(writer=Matrix(parameter="plain"), reader=Matrix(parameter="plain"))
    found = one(weights, "alignment", pairs=(first, plain, second))
    np.testing.assert_allclose(found["head_alignment"], [[[1, 1], [0, 0]], [[0, 0], [1, 1]]], atol=1e-6)
    np.testing.assert_allclose(found["head_alignment_score"], [[1, 0], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(found["alignment"], [[0.5, 0.5], [1, 1], [0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(found["alignment_score"], [0.5, 1, 0.5], atol=1e-6)


@pytest.mark.parametrize("name", analysis_names())
def test_an_analysis_declares_dimensions_of_the_schema(name: str) -> None:
    analysis = get_analysis(name)
    assert analysis.name == name
    assert analysis.version >= 1
    assert analysis.variables
    for variable in analysis.variables.values():
        assert set(variable.dims) <= set(DIMENSIONS)
        assert len(set(variable.dims)) == len(variable.dims)
        assert "step" in variable.dims or analysis.of == "run"
        leading = {"layer": ("layer",), "pair": ("pair", "attention")}
        assert variable.dims[0] in leading.get(analysis.of, DIMENSIONS)
        assert set(analysis.labels) <= set(DIMENSIONS)
        assert set(variable.chunks) <= set(variable.dims)
        assert variable.long_name
        if variable.flags:
            assert variable.flags[0] == "missing"
        assert np.dtype(variable.dtype).kind == "f" or variable.flags or variable.fill == -1


def test_no_two_analyses_declare_the_same_variable() -> None:
    metrics = {"loss": Metric(of=lambda outputs, batch: outputs, long_name="loss")}
    names = [v for name in analysis_names() for v in get_analysis(name).variables_for(metrics)]
    assert len(set(names)) == len(names)


@pytest.fixture(scope="module", params=SPECS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Target]:
    """Every analysis of the first checkpoints of a run, whose weights move a little from one to the next."""
    spec: RunSpec = request.param
    experiment, folder = get_experiment(spec.experiment), str(tmp_path_factory.mktemp("run"))
    net, body = experiment.net(spec), network_layout(spec)
    if needed := experiment.dataset(spec):
        require_data(Store(folder), get_dataset(*needed))
    checkpoints, examples = {}, load_examples(spec, Store(folder))
    for step in range(3):
        checkpoints[step] = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
        for seed, parameter in enumerate(net.parameters()):
            parameter.data += 0.1 * parameter.data.std(correction=0) * seeded(100 * step + seed, *parameter.shape)
    # A few are enough, as every analysis that prunes evaluates dozens of times.
    few = {split: found.take(slice(FEW)) for split, found in examples.items()}
    evaluate = Evaluator(experiment, spec, experiment.net(spec), few, torch.device("cpu"))
    series = HandMade(checkpoints, evaluate)
    target = target_of(folder, series, body, analysis_names(), experiment.metrics(spec))
    anchors = [decompose_step(series, body, step) for step in series.steps]
    for block in target.layout.blocks():
        analyse_block(series, body, target, block, analysis_names(), *anchors)
    return spec, target


@pytest.mark.parametrize("name", analysis_names())
def test_an_analysis_fills_its_variables(name: str, run: tuple[RunSpec, Target]) -> None:
    spec, target = run
    found = stored(target)
    layout = network_layout(spec)
    # The run has three checkpoints and no recorded decay, so that no window of ten updates ends in it.
    empty = name == "update_windows" or (
        name == "projections" and not any(layer.name.endswith(JOINT) for layer in layout.layers)
    )
    for key, variable in get_analysis(name).variables_for(get_experiment(spec.experiment).metrics(spec)).items():
        if empty:
            # All of it is missing, of each that the run has: no other value stands in for what cannot be measured.
            values = found[key]
            assert (np.isnan(values) if values.dtype.kind == "f" else values == variable.fill).all(), key
            continue
        # Others have a dimension that this network has none of; tails of fewer than 50 values are not fitted, and
        # pairs with gates or kernel positions have no product of two matrices.
        unfitted = "power_law" in key and "status" not in key and layout.ranks < 50
        no_product = name == "products" and all(pair.parts > 1 for pair in layout.pairs)
        if key in found and not unfitted and not no_product:
            values = found[key]
            assert (np.isfinite(values) if values.dtype.kind == "f" else values).any(), key


def test_a_variable_of_every_metric_is_named_after_it() -> None:
    metrics = {
        "loss": Metric(of=lambda outputs, batch: outputs, long_name="loss", units="nat"),
        "cer": Metric(of=lambda outputs, batch: outputs, long_name="character error rate"),
    }
    found = get_analysis("pruning").variables_for(metrics)
    assert {name: (v.long_name, v.units) for name, v in found.items()} == {
        "pruned_loss": ("loss with half of the singular values", "nat"),
        "pruned_cer": ("character error rate with half of the singular values", "1"),
    }
    declared = get_analysis("pruning").variables["pruned_{metric}"]
    assert all((v.dims, v.about, v.chunks) == (declared.dims, declared.about, declared.chunks) for v in found.values())
    assert list(get_analysis("spectrum").variables_for(metrics)) == ["singular_value", "driver"]


def test_a_variable_of_every_metric_keeps_all_that_was_declared() -> None:
    declared = Variable(
        dims=("layer", "step"),
        long_name="rank of the {metric}",
        dtype="int8",
        flags=("missing", "a"),
        chunks={"step": 8},
    )
    analysis = Analysis(name="x", version=1, of="layer", variables={"{metric}_rank": declared}, compute=lambda view: {})
    found = analysis.variables_for({"cer": Metric(of=lambda outputs, batch: outputs, long_name="error", units="%")})
    assert found == {"cer_rank": dataclasses.replace(declared, long_name="rank of the error", units="%")}


def test_an_unknown_analysis_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown analysis 'spectra': known are agreement, .* 'spectrum'\?"):
        get_analysis("spectra")
