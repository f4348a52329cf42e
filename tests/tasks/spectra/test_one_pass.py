"""One pass over the checkpoints of a run: what is decomposed, evaluated and written, and how often."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.read import of_shapes
from reference.series import HandMade, body_of, one, stored, target_of
from specdyn.models.experiments.base import experiment_names, get_experiment
from specdyn.models.nets.matrices import FLATTENED
from specdyn.models.nets.mlp import Mlp
from specdyn.models.nets.transformer import Transformer
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access.objects import names
from specdyn.storage.checkpoints import Manifest, read_checkpoint
from specdyn.storage.places import Store
from specdyn.storage.results import blocks_of, part_name
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.failures import NotFinite
from specdyn.tasks.plan.runs import analysed
from specdyn.tasks.spectra import decomposition, one_pass
from specdyn.tasks.spectra.analysis import Analysis, default_analyses, get_analysis, versions_of
from specdyn.tasks.spectra.decomposition import Factors, decompose
from specdyn.tasks.spectra.network_layout import NetworkLayout, Target, network_layout, run_layout
from specdyn.tasks.spectra.one_pass import analyse_block, decompose_into, decompose_step
from specdyn.tasks.spectra.series import RunSeries, ahead, anchor_steps, needed
from specdyn.tasks.training.training import train

SMOKE = get_experiment("modular_addition").preset("smoke").spec
SHORT = with_settings(SMOKE, steps=10, checkpoint_every=1)
MLP = dataclasses.replace(SHORT, net=Mlp(width=12))
DEEP = dataclasses.replace(SHORT, net=Transformer(width=16, feedforward=16, depth=2))
ALL = default_analyses()


def layout_of(spec: RunSpec, steps: tuple[int, ...] = (0, 10), analyses: list[str] = ALL) -> Any:
    metrics = get_experiment(spec.experiment).metrics(spec)
    return run_layout(network_layout(spec), steps, analyses, metrics, {"run_id": spec.run_id})


@dataclasses.dataclass
class Counts:
    """What one analysis of a whole run did, and where its results are."""

    manifest: Manifest
    store: Store
    decomposed: Counter[str]
    reads: Counter[int]
    evaluations: int
    forwards: int
    reported: list[int]


def target_in(store: Store, spec: RunSpec, steps: tuple[int, ...]) -> Target:
    """Where the results of a run go."""
    return Target(folder=store.run_results(spec.experiment, spec.run_id), layout=layout_of(spec, steps))


def analyse(spec: RunSpec, store: Store) -> Counts:
    """Train and analyse a run, counting."""
    manifest = train(spec, store, device=torch.device("cpu"))
    body, target = network_layout(spec), target_in(store, spec, manifest.steps)
    decomposed: Counter[str] = Counter()
    calls, reads = Counter[str](), Counter[int]()

    def counted(w: Tensor, what: str, vectors: bool) -> Factors:
        decomposed[what] += 1
        return decompose(w, what, vectors)

    evaluate, read = Evaluator.__call__, RunSeries.weights

    def evaluated(self: Evaluator, *args: Any, **options: Any) -> dict[str, np.ndarray]:
        calls["evaluations"] += 1
        return evaluate(self, *args, **options)

    def weights(self: RunSeries, step: int) -> Any:
        reads[step] += 1
        return read(self, step)

    kind = type(get_experiment(spec.experiment).net(spec))
    forward = kind.forward

    def forwarded(self: nn.Module, x: Tensor) -> Tensor:
        calls["forwards"] += 1
        return forward(self, x)

    series = RunSeries(store=store, manifest=manifest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_pass, "decompose", counted)
        patch.setattr(Evaluator, "__call__", evaluated)
        patch.setattr(RunSeries, "weights", weights)
        patch.setattr(kind, "forward", forwarded)
        blocks = target.layout.blocks()
        anchors = {step: decompose_step(series, body, step) for step in anchor_steps(series.steps, blocks)}
        reported = [
            analyse_block(
                series, body, target, block, ALL, *(anchors[s] for s in needed(series.steps, block) if s in anchors)
            )
            for block in blocks
        ]
    return Counts(manifest, store, decomposed, reads, calls["evaluations"], calls["forwards"], reported)


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counts]:
    """A transformer, a deeper one and an MLP, each trained for 10 steps and analysed in blocks of two checkpoints."""
    return {
        name: analyse(spec, Store(str(tmp_path_factory.mktemp(name))))
        for name, spec in (("transformer", SHORT), ("deep", DEEP), ("mlp", MLP))
    }


@pytest.mark.parametrize(
    ("name", "matrices"),
    [
        ("transformer", 6 + 1 + 2 + 2),  # METHOD 7: the layers and W_V, stacks of queries and keys; W_V and W_O by head
        ("deep", 10 + 2 + 4 + 4),
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
    # Steps 0, 1, 3, 5, 7, 9 and 10 are made for several blocks; what is left of the blocks is 2, 4, 6 and 8.
    assert found.reported == [0, *[matrices] * 4, 0]


def test_blocks_share_the_ends_of_the_run_and_the_checkpoint_before() -> None:
    steps = tuple(range(0, 70, 10))
    blocks = [(0, 10), (20, 30), (40, 50), (60,)]
    assert anchor_steps(steps, blocks) == [0, 10, 30, 50, 60]
    assert [needed(steps, block) for block in blocks] == [[0, 10, 60], [0, 10, 30, 60], [0, 30, 50, 60], [0, 50, 60]]
    # A single block that is missing asks for no more than it needs.
    assert anchor_steps(steps, [(20, 30)]) == [0, 10, 60]


@pytest.mark.parametrize("name", ["transformer", "deep", "mlp"])
def test_every_checkpoint_is_evaluated_three_times_on_two_splits(name: str, counts: dict[str, Counts]) -> None:
    found = counts[name]
    assert found.evaluations == 11 * 3
    assert found.forwards == 11 * 3 * 2  # all of a split fits in one batch


@pytest.mark.parametrize(
    ("config", "layers", "parts", "stacks"),
    [(Transformer(), 6, 1, 4), (Transformer(width=24, heads=12, feedforward=24, depth=12), 50, 12, 48)],
    ids=["modular addition", "language model"],
)
def test_a_transformer_needs_the_published_number_of_decompositions(
    config: Transformer, layers: int, parts: int, stacks: int
) -> None:
    body: NetworkLayout = network_layout(dataclasses.replace(SMOKE, net=config))
    assert len(body.layers) == layers
    assert len(body.matrices) == layers + parts + stacks
    assert sum(matrix.heads > 0 for matrix in body.matrices) == stacks
    assert len(body.attention) == 2 * config.depth


def test_the_results_match_the_checkpoints(counts: dict[str, Counts]) -> None:
    found = counts["transformer"]
    values = stored(target_in(found.store, SHORT, found.manifest.steps))
    experiment = get_experiment(SHORT.experiment)
    body = network_layout(SHORT)
    data = load_examples(SHORT, found.store)
    net = experiment.net(SHORT).eval()
    for at, entry in enumerate(found.manifest.checkpoints):
        weights = read_checkpoint(found.store.run_of(SHORT), entry)
        for i, layer in enumerate(body.layers):
            s = np.linalg.svd(weights[layer.parameter].double().numpy(), compute_uv=False)
            row = values["singular_value"][i, at]
            np.testing.assert_allclose(row[: len(s)], s, rtol=0, atol=1.1e-6 * s[0])  # 1e-6 and rounding
            assert np.isnan(row[len(s) :]).all()
            p = s / s.sum()
            entropy_rank = np.exp(-(p * np.log(p)).sum()) / len(s)
            assert values["effective_rank"][i, at] == pytest.approx(entropy_rank, rel=1e-5)
        net.load_state_dict(weights)
        with torch.no_grad():
            loss = [float(nn.functional.cross_entropy(net(part.inputs), part.targets)) for part in data.values()]
        np.testing.assert_allclose(values["loss"][:, at], loss, rtol=1e-5)
    # The last checkpoint agrees with itself.
    np.testing.assert_allclose(values["agreement_score"][:, -1], 1, atol=1e-5)
    assert (values["agreement_score"][:, 0] < 0.999).all()


def test_every_block_is_one_object_with_every_analysis(counts: dict[str, Counts]) -> None:
    found = counts["mlp"]
    folder = found.store.run_results(MLP.experiment, MLP.run_id)
    versions = versions_of(ALL)
    assert names(folder) == [part_name(block, versions) for block in blocks_of(found.manifest.steps)]
    assert analysed(folder, found.manifest.steps, ALL).missing == {}


def test_a_network_without_attention_has_no_variables_of_it() -> None:
    layout = layout_of(MLP)
    assert "singular_value" in layout.variables
    assert not [name for name, variable in layout.variables.items() if "attention" in variable.dims]
    assert [name for name in layout_of(SHORT).variables if name.startswith("head_")]


@pytest.mark.parametrize("name", experiment_names())
def test_the_layout_labels_every_dimension_of_its_variables(name: str) -> None:
    spec = get_experiment(name).preset("smoke").spec
    layout = layout_of(spec)
    for variable in layout.variables.values():
        for dim in variable.dims:
            assert len(set(layout.labels[dim])) == len(layout.labels[dim]) > 0
    assert layout.attributes["run_id"] == spec.run_id


def test_the_layout_of_the_smoke_transformer() -> None:
    layout = layout_of(SMOKE, (0, 10, 60))
    sizes = {"step": 3, "layer": 6, "pair": 7, "attention": 2, "head": 4, "rank": 32, "row": 32, "column": 32}
    assert {dim: layout.sizes[dim] for dim in (*sizes, "split", "kept", "part")} == {
        **sizes,
        "split": 2,
        "kept": 2,
        "part": 0,
    }
    assert layout.labels["rank"][:2] == [1, 2]
    assert layout.extras["rows"][1] == [14, 96, 32, 64, 32, 14]
    assert layout.extras["columns"][1] == [32, 32, 32, 32, 64, 32]


def test_compared_vectors_are_limited_to_64_ranks() -> None:
    paper = get_experiment("modular_addition").preset("paper").spec
    sizes = layout_of(paper, (0,)).sizes
    assert (sizes["rank"], sizes["row"], sizes["column"]) == (128, 64, 64)


def test_a_layer_that_is_not_finite_is_named_with_run_and_step() -> None:
    weights = {
        name: tensor.clone() for name, tensor in get_experiment(SMOKE.experiment).net(SMOKE).state_dict().items()
    }
    weights["decoder.weight"][0, 0] = float("nan")
    with pytest.raises(NotFinite, match=r"^run abc step 7 layer decoder\.weight: 1 of 448 entries"):
        list(decompose_into({}, weights, network_layout(SMOKE), "run abc step 7"))


def broken(monkeypatch: pytest.MonkeyPatch, analysis: Analysis) -> None:
    monkeypatch.setattr(one_pass, "get_analysis", lambda name: analysis)


def test_an_analysis_that_fails_is_named_with_step_and_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(view: object) -> dict[str, float]:
        raise ZeroDivisionError("no ranks")

    broken(monkeypatch, dataclasses.replace(get_analysis("effective_rank"), compute=compute))
    where = r"^analysis 'effective_rank' failed at test step 7 layer w: no ranks$"
    with pytest.raises(RuntimeError, match=where) as error:
        one({"w": torch.eye(2)}, "effective_rank")
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_a_result_of_a_wrong_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"singular_value": np.zeros(3, dtype=np.float32)}
    broken(monkeypatch, dataclasses.replace(get_analysis("spectrum"), compute=lambda view: wrong))
    with pytest.raises(
        ValueError, match=r"variable 'singular_value' at test step 7 layer w: expected up to \(2,\), got \(3,\)"
    ):
        one({"w": torch.eye(2)}, "spectrum")


def test_every_tensor_is_analysed_or_skipped_for_a_reason() -> None:
    shapes = {"a": (4, 3), "mask": (5, 5), "b": (2, 4, 3, 3), "bias": (4,), "none": (0, 3)}
    body = of_shapes(shapes)
    assert [(entry.parameter, entry.way, entry.skipped) for entry in body.entries] == [
        ("a", "as it is", ""),
        ("mask", "", "a buffer by its name, which is not trained"),
        ("b", FLATTENED + "; unknown whether it is transposed", ""),
        ("none", "", "has no elements"),
    ]
    assert body.pairs == (), "of no known family"
    layout = run_layout(body, (0,), ["spectrum"], {}, {})
    left_out = [["mask", [5, 5], body.entries[1].skipped], ["none", [0, 3], "has no elements"]]
    assert json.loads(layout.attributes["skipped"]) == left_out
    assert (layout.attributes["family"], layout.extras["role"][1]) == ("unknown", ["unknown", "convolution"])
    assert layout.extras["made"][1] == ["as it is", body.entries[2].way]
    with pytest.raises(ValueError, match="no tensor of two or more rows and columns"):
        of_shapes({"bias": (4,)})


def test_what_is_read_ahead_comes_in_order_and_no_further_than_one_ahead() -> None:
    begun: list[int] = []

    def read(key: int) -> int:
        begun.append(key)
        return 10 * key

    for i, (key, value) in enumerate(ahead(range(5), read)):
        assert (key, value) == (i, 10 * i)
        assert len(begun) <= i + 2
    assert begun == list(range(5))


def test_a_failing_read_reaches_the_caller() -> None:
    def read(key: int) -> int:
        raise OSError(f"no {key}")

    with pytest.raises(OSError, match="no 1"):
        list(ahead([1, 2], read))


def test_matrices_of_one_shape_are_decomposed_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"a": (8, 3), "b": (3, 8), "c": (8, 3), "d": (4, 4)}
    draw = torch.Generator().manual_seed(0)
    matrices = {name: torch.randn(*shape, generator=draw) for name, shape in shapes.items()}
    calls: list[tuple[int, ...]] = []
    real = decomposition._decompose

    def counted(w: Tensor, vectors: bool) -> Factors:
        calls.append(tuple(w.shape))
        return real(w, vectors)

    monkeypatch.setattr(decomposition, "_decompose", counted)
    found = decomposition.decompose_alike(matrices, "test")
    assert sorted(calls) == [(1, 3, 8), (1, 4, 4), (2, 8, 3)]
    assert list(found) == list(shapes)
    for name, w in matrices.items():
        f = found[name]
        torch.testing.assert_close((f.left * f.s) @ f.right.mT, w, rtol=0, atol=1e-5)
    matrices["c"][0, 0] = float("inf")
    with pytest.raises(NotFinite, match="test layer c: 1 of 24"):
        decomposition.decompose_alike(matrices, "test")


def test_an_analysis_that_is_added_to_a_block_leaves_the_others_values_alone(tmp_path: Path) -> None:
    series = HandMade({0: {"w": torch.eye(3)}, 1: {"w": torch.eye(3) + 0.1 * torch.ones(3, 3)}})
    body = body_of(series.weights(0))
    target = target_of(str(tmp_path), series, body, ["spectrum", "effective_rank"])
    anchors = [decompose_step(series, body, step) for step in series.steps]
    for chosen in (["spectrum"], ["effective_rank"]):
        for block in target.layout.blocks():
            analyse_block(series, body, target, block, chosen, *anchors)
    found = stored(target)
    assert np.isfinite(found["singular_value"]).all()
    assert np.isfinite(found["effective_rank"]).all()
