"""One pass over the checkpoints of a run: what is decomposed, evaluated and written, and how often."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from torch import Tensor, nn

from models.experiment import experiment_names, get_experiment
from models.nets.mlp import Mlp
from models.nets.transformer import Transformer
from models.run_spec import RunSpec
from storage.checkpoints import Manifest, read_checkpoint
from storage.locations import Layout
from storage.results import allocate, committed
from tasks import one_pass
from tasks.analysis import Analysis, analysis_names, get_analysis
from tasks.decomposition import Factors, NotFinite, decompose
from tasks.evaluation import Evaluator
from tasks.one_pass import (
    Anatomy,
    analyse_block,
    anatomy,
    compute_all,
    decompose_all,
    decompose_final,
    run_layout,
)
from tasks.training import train

SMOKE = get_experiment("modular_addition").preset("smoke").spec
SHORT = dataclasses.replace(SMOKE, steps=10, checkpoint_every=1)
MLP = dataclasses.replace(SHORT, net=Mlp(width=12))
DEEP = dataclasses.replace(SHORT, net=Transformer(width=16, feedforward=16, depth=2))
ALL = analysis_names()


@dataclasses.dataclass
class Counts:
    """What one analysis of a whole run did, and where its results are."""

    manifest: Manifest
    store: str
    decomposed: Counter[str]
    evaluations: int
    forwards: int
    reported: list[int]


def analyse(spec: RunSpec, store: str) -> Counts:
    """Train and analyse a run, counting."""
    manifest = train(spec, store, torch.device("cpu"))
    layout = run_layout(spec, manifest.steps, ALL)
    allocate(Layout(store).run_store(spec.experiment, spec.run_id), layout)
    decomposed: Counter[str] = Counter()
    calls = Counter[str]()

    def counted(w: Tensor, what: str) -> Factors:
        decomposed[what] += 1
        return decompose(w, what)

    evaluate = Evaluator.__call__

    def evaluated(self: Evaluator, weights: dict[str, Tensor]) -> dict[str, np.ndarray]:
        calls["evaluations"] += 1
        return evaluate(self, weights)

    kind = type(get_experiment(spec.experiment).net(spec))
    forward = kind.forward

    def forwarded(self: nn.Module, x: Tensor) -> Tensor:
        calls["forwards"] += 1
        return forward(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_pass, "decompose", counted)
        patch.setattr(Evaluator, "__call__", evaluated)
        patch.setattr(kind, "forward", forwarded)
        final = decompose_final(spec, store, manifest)
        reported = [analyse_block(spec, store, manifest, layout, steps, ALL, final) for steps in layout.blocks()]
    return Counts(manifest, store, decomposed, calls["evaluations"], calls["forwards"], reported)


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counts]:
    """A transformer, a deeper one and an MLP, each trained for 10 steps and analysed in blocks of two checkpoints."""
    return {
        name: analyse(spec, str(tmp_path_factory.mktemp(name)))
        for name, spec in (("transformer", SHORT), ("deep", DEEP), ("mlp", MLP))
    }


@pytest.mark.parametrize(
    ("name", "matrices"),
    [
        ("transformer", 6 + 1 + 2),  # METHOD 7: the layers and W_V, and stacks of queries and keys
        ("deep", 10 + 2 + 4),
        ("mlp", 5),
    ],
)
def test_every_matrix_of_every_checkpoint_is_decomposed_once(
    name: str, matrices: int, counts: dict[str, Counts]
) -> None:
    found = counts[name]
    assert found.manifest.steps == tuple(range(11))
    assert set(found.decomposed.values()) == {1}
    per_step = Counter(what.split(" layer ")[0].split(" step ")[1] for what in found.decomposed)
    assert per_step == {str(step): matrices for step in range(11)}
    # The final checkpoint's factors are given to its block, which makes none.
    assert found.reported == [2 * matrices] * 5 + [0]


@pytest.mark.parametrize("name", ["transformer", "deep", "mlp"])
def test_every_checkpoint_is_evaluated_three_times_on_two_splits(name: str, counts: dict[str, Counts]) -> None:
    found = counts[name]
    assert found.evaluations == 11 * 3
    assert found.forwards == 11 * 3 * 2  # all of a split fits in one batch


@pytest.mark.parametrize(
    ("config", "layers", "parts", "stacks"),
    [(Transformer(), 6, 1, 2), (Transformer(width=24, heads=12, feedforward=24, depth=12), 50, 12, 24)],
    ids=["modular addition", "language model"],
)
def test_a_transformer_needs_the_published_number_of_decompositions(
    config: Transformer, layers: int, parts: int, stacks: int
) -> None:
    experiment, spec = get_experiment("modular_addition"), dataclasses.replace(SMOKE, net=config)
    body: Anatomy = anatomy(experiment, spec, experiment.net(spec))
    assert len(body.layers) == layers
    assert len(body.matrices) == layers + parts + stacks
    assert sum(matrix.heads > 0 for matrix in body.matrices) == stacks
    assert len(body.attention) == config.depth


def test_the_results_are_those_of_the_checkpoints(counts: dict[str, Counts]) -> None:
    found = counts["transformer"]
    where = Layout(found.store).run_store(SHORT.experiment, SHORT.run_id)
    stored = zarr.open_group(where, mode="r")
    experiment = get_experiment(SHORT.experiment)
    body = anatomy(experiment, SHORT, experiment.net(SHORT))
    data = experiment.load_data(SHORT)
    net = experiment.net(SHORT).eval()
    for at, entry in enumerate(found.manifest.checkpoints):
        weights = read_checkpoint(found.store, SHORT.experiment, SHORT.run_id, entry)
        for i, layer in enumerate(body.layers):
            s = np.linalg.svd(weights[layer.parameter].double().numpy(), compute_uv=False)
            row = stored["layers/singular_value"][i, at]
            np.testing.assert_allclose(row[: len(s)], s, rtol=0, atol=1e-5 * s[0])
            assert np.isnan(row[len(s) :]).all()
            p = s / s.sum()
            entropy_rank = np.exp(-(p * np.log(p)).sum()) / len(s)
            assert stored["layers/effective_rank"][i, at] == pytest.approx(entropy_rank, rel=1e-5)
        net.load_state_dict(weights)
        with torch.no_grad():
            loss = [float(nn.functional.cross_entropy(net(part.inputs), part.targets)) for part in data.values()]
        np.testing.assert_allclose(stored["metrics/loss"][:, at], loss, rtol=1e-5)
    # The last checkpoint agrees with itself.
    np.testing.assert_allclose(stored["layers/agreement_score"][:, -1], 1, atol=1e-5)
    assert (stored["layers/agreement_score"][:, 0] < 0.999).all()


def test_every_block_of_every_analysis_is_marked(counts: dict[str, Counts]) -> None:
    found = counts["mlp"]
    commits = Layout(found.store).commits(MLP.experiment, MLP.run_id)
    markers = committed(commits, {name: get_analysis(name).version for name in ALL})
    assert len(markers) == len(ALL) * 6


def test_a_network_without_attention_has_no_variables_of_it() -> None:
    layout = run_layout(MLP, (0, 10), ALL)
    assert "singular_value" in layout.variables
    assert not [name for name, variable in layout.variables.items() if "attention" in variable.dims]
    assert [name for name in run_layout(SHORT, (0, 10), ALL).variables if name.startswith("head_")]


@pytest.mark.parametrize("name", experiment_names())
def test_the_layout_labels_every_dimension_of_its_variables(name: str) -> None:
    spec = get_experiment(name).preset("smoke").spec
    layout = run_layout(spec, (0, 5), ALL)
    for variable in layout.variables.values():
        for dim in variable.dims:
            assert len(set(layout.labels[dim])) == len(layout.labels[dim]) > 0
    assert layout.attributes["run_id"] == spec.run_id


def test_the_layout_of_the_smoke_transformer() -> None:
    layout = run_layout(SMOKE, (0, 10, 60), ALL)
    sizes = {"step": 3, "layer": 6, "pair": 6, "attention": 1, "head": 4, "rank": 32, "row": 32, "column": 32}
    assert layout.sizes == {**sizes, "split": 2, "kept": 2}
    assert layout.labels["rank"][:2] == [1, 2]
    assert layout.extras["rows"][1] == [14, 96, 32, 64, 32, 14]
    assert layout.extras["columns"][1] == [32, 32, 32, 32, 64, 32]


def test_compared_vectors_are_limited_to_64_ranks() -> None:
    paper = get_experiment("modular_addition").preset("paper").spec
    sizes = run_layout(paper, (0,), ALL).sizes
    assert (sizes["rank"], sizes["row"], sizes["column"]) == (128, 64, 64)


def test_a_layer_that_is_not_finite_is_named_with_run_and_step() -> None:
    experiment = get_experiment("modular_addition")
    net = experiment.net(SMOKE)
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    weights["decoder.weight"][0, 0] = float("nan")
    matrices = anatomy(experiment, SMOKE, net).matrices
    with pytest.raises(NotFinite, match=r"^run abc step 7 layer decoder\.weight: 1 of 448 entries"):
        decompose_all(weights, matrices, "run abc step 7")


def test_an_analysis_that_fails_is_named_with_the_step() -> None:
    def compute(view: object) -> dict[str, np.ndarray]:
        raise ZeroDivisionError("no ranks")

    broken = Analysis(name="broken", version=1, variables={}, compute=compute)
    with pytest.raises(RuntimeError, match=r"^analysis 'broken' failed at step 7: no ranks$") as error:
        compute_all([broken], dataclasses.make_dataclass("View", ["step"])(7), run_layout(SMOKE, (7,), []))
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_a_result_of_a_wrong_shape_is_refused(tmp_path: Path) -> None:
    layout = run_layout(SMOKE, (7,), ["effective_rank"])
    wrong = {"effective_rank": np.zeros(5, dtype=np.float32)}
    broken = dataclasses.replace(get_analysis("effective_rank"), compute=lambda view: wrong)
    view = dataclasses.make_dataclass("View", ["step", "sizes"])(7, layout.sizes)
    with pytest.raises(ValueError, match=r"variable 'effective_rank': expected \(layer\) = \(6,\), got \(5,\)"):
        compute_all([broken], view, layout)
