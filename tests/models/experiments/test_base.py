"""What every experiment and every preset must fulfil; a new one is tested by being there."""

import dataclasses
import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from reference.samples import sample_arrays
from specdyn.models.datasets.base import get_dataset
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.datasets.decoders.images import Images
from specdyn.models.datasets.decoders.modular_addition import ModularAddition
from specdyn.models.datasets.decoders.speech import FEATURES, Recordings
from specdyn.models.datasets.decoders.tokens import Text
from specdyn.models.experiments.base import Experiment, experiment_names, get_experiment, read_spec
from specdyn.models.nets.matrices import layers
from specdyn.models.nets.mlp import Mlp
from specdyn.models.spec.run_spec import RunSpec, hyperparameters, own_settings, to_json
from specdyn.storage.schema import DIMENSIONS

PRESETS = [
    pytest.param(get_experiment(name), preset.spec, id=f"{name}/{key}")
    for name in experiment_names()
    for key, preset in get_experiment(name).presets.items()
]
AT_HAND = [param for param in PRESETS if (of := param.values[0].dataset(param.values[1])) is None or of[1] == "sample"]
"""The presets whose data are shipped or made."""
SMALL = [param for param in AT_HAND if not param.id.endswith("paper-sample")]


def modular_addition(preset: str) -> tuple[Experiment, RunSpec]:
    experiment = get_experiment("modular_addition")
    return experiment, experiment.preset(preset).spec


def data_of(spec: RunSpec) -> dict[str, Examples]:
    experiment = get_experiment(spec.experiment)
    needed = experiment.dataset(spec)
    return experiment.examples(spec, {} if needed is None else sample_arrays(needed[0]))


def net_of(experiment: Experiment, spec: RunSpec) -> nn.Module:
    """The network's names and shapes, without its weights."""
    with torch.device("meta"):
        return experiment.build_net(spec)


def answers(*targets: int) -> Examples:
    return Examples(torch.zeros(len(targets), 1), torch.tensor(targets))


@pytest.mark.parametrize("name", experiment_names())
def test_an_experiment_has_its_modules_name_and_specs_of_its_own(name: str) -> None:
    experiment = get_experiment(name)
    assert experiment.name == name
    assert experiment.title
    assert "smoke" in experiment.presets
    for preset in experiment.presets.values():
        assert preset.spec.experiment == name
        assert preset.about
        assert preset.weight_decays
        assert preset.seeds


@pytest.mark.parametrize("name", experiment_names())
def test_presets_are_different_runs(name: str) -> None:
    ids = [preset.spec.run_id for preset in get_experiment(name).presets.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("experiment", "spec"), PRESETS)
def test_the_data_set_is_declared_and_is_what_the_spec_says(experiment: Experiment, spec: RunSpec) -> None:
    needed = experiment.dataset(spec)
    if needed is None:
        return
    params = get_dataset(*needed).params
    match spec.data:
        case Images():
            about = spec.data.about
            assert params["classes"] == about.classes
            assert tuple(params["shape"][1:]) == (about.channels, about.size, about.size)
        case Recordings():
            assert params["features"] == FEATURES
        case Text():
            assert (params["vocabulary"], params["length"]) == (spec.data.vocabulary, spec.data.length)


@pytest.mark.parametrize(("experiment", "spec"), AT_HAND)
def test_the_network_takes_the_data_and_has_every_metric(experiment: Experiment, spec: RunSpec) -> None:
    net = experiment.net(spec).eval()
    for examples in data_of(spec).values():
        batch = examples.take(slice(0, 5))
        outputs = net(batch.inputs)
        assert bool(torch.isfinite(experiment.loss(spec, outputs, batch)))
        for metric in experiment.metrics(spec).values():
            assert metric.of(outputs, batch).shape == ((2,) if metric.pooled else ())


@pytest.mark.parametrize(("experiment", "spec"), AT_HAND)
def test_the_splits_are_train_and_val_and_disjoint(experiment: Experiment, spec: RunSpec) -> None:
    data = data_of(spec)
    assert list(data) == ["train", "val"]
    rows = {split: {row.numpy().tobytes() for row in examples.inputs} for split, examples in data.items()}
    assert rows["train"].isdisjoint(rows["val"])
    for examples in data.values():
        assert 0 < len(examples.inputs) == len(examples.targets)


@pytest.mark.parametrize(("experiment", "spec"), PRESETS)
def test_names_of_layers_and_pairs_are_unique(experiment: Experiment, spec: RunSpec) -> None:
    net = net_of(experiment, spec)
    for names in ([m.name for m in layers(net)], [p.name for p in experiment.layer_pairs(spec, net)]):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(("experiment", "spec"), PRESETS)
def test_the_vectors_of_a_pair_lie_in_one_space(experiment: Experiment, spec: RunSpec) -> None:
    net = net_of(experiment, spec)
    weights = dict(net.named_parameters())
    pairs = experiment.layer_pairs(spec, net)
    assert pairs
    for pair in pairs:
        writer, reader = pair.writer.of(weights), pair.reader.of(weights)
        side = {"left": -2, "right": -1}
        written, read = writer.shape[side[pair.writer_vectors]], reader.shape[side[pair.reader_vectors]]
        assert written % pair.gates == read % pair.positions == 0, pair.name
        assert written // pair.gates == read // pair.positions, pair.name
        assert 0 <= pair.shown < pair.parts, pair.name
        assert writer.shape[:-2] == reader.shape[:-2], pair.name


@pytest.mark.parametrize(("experiment", "spec"), PRESETS)
def test_the_spec_survives_json(experiment: Experiment, spec: RunSpec) -> None:
    assert read_spec(to_json(spec), experiment.name) == spec


@pytest.mark.parametrize(("experiment", "spec"), PRESETS)
def test_no_two_settings_share_a_name(experiment: Experiment, spec: RunSpec) -> None:
    fields = [len(dataclasses.fields(part)) for part in (spec.net, spec.data)]
    # all settings but `net`, `data` and `start` themselves and an empty `source`, and the architecture's name
    assert len(hyperparameters(spec)) == len(own_settings(spec)) - 4 + sum(fields) + 1
    # both become coordinates of the results
    assert hyperparameters(spec).keys().isdisjoint(DIMENSIONS)


@pytest.mark.parametrize(("experiment", "spec"), SMALL)
def test_the_seed_alone_decides_the_network(experiment: Experiment, spec: RunSpec) -> None:
    def values(seed: int) -> Iterator[torch.Tensor]:
        return iter(experiment.net(dataclasses.replace(spec, seed=seed)).state_dict().values())

    torch.manual_seed(99)
    before = torch.get_rng_state()
    once = list(values(5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert all(torch.equal(a, b) for a, b in zip(once, values(5), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(once, values(6), strict=True))


@pytest.mark.parametrize(
    ("preset", "classes"), [("paper", 114), ("data-rich", 114), ("slingshot", 98), ("demo", 60), ("smoke", 14)]
)
def test_an_untrained_transformer_guesses_evenly(preset: str, classes: int) -> None:
    experiment, spec = modular_addition(preset)
    val = data_of(spec)["val"]
    with torch.no_grad():
        outputs = experiment.net(spec)(val.inputs)
    assert outputs.shape[1] == classes
    loss = float(experiment.loss(spec, outputs, val))
    # E[logsumexp - mean] of Gaussian logits is half their variance, here below 0.5
    assert math.log(classes) - 0.1 < loss < math.log(classes) + 0.4


@pytest.mark.parametrize(
    ("preset", "settings", "train_batches", "val_batches"),
    [
        ("paper", {"prime": 113, "train_fraction": 0.3, "layernorm": False, "steps": 40_000}, 1, 1),
        ("data-rich", {"prime": 113, "train_fraction": 0.9, "layernorm": False, "steps": 40_000}, 1, 1),
        (
            "slingshot",
            {
                "prime": 97,
                "train_fraction": 0.7,
                "layernorm": True,
                "steps": 100_000,
                "schedule": "warmup",
                "warmup": 10,
            },
            13,
            6,
        ),
    ],
)
def test_presets_have_the_published_settings(
    preset: str, settings: dict[str, object], train_batches: int, val_batches: int
) -> None:
    _, spec = modular_addition(preset)
    adamw = {"optimizer": "adamw", "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-8}
    shape = {"width": 128, "heads": 4, "feedforward": 512, "depth": 1, "batch_size": 0, "mirrored_together": False}
    schedule = {"schedule": "constant", "warmup": 0}
    expected = {**adamw, **shape, **schedule, **settings}
    found = hyperparameters(spec)
    assert {name: found[name] for name in expected} == expected
    batches = [-(-len(part.targets) // spec.record.eval_batch_size) for part in data_of(spec).values()]
    assert batches == [train_batches, val_batches]


@pytest.mark.parametrize(
    ("preset", "decay", "grid"),
    [("paper", 1.0, (0.0, 0.1, 1.0)), ("data-rich", 0.0, (0.0,)), ("slingshot", 0.0, (0.0,))],
)
def test_presets_have_the_published_grids(preset: str, decay: float, grid: tuple[float, ...]) -> None:
    found = get_experiment("modular_addition").preset(preset)
    assert (found.spec.decay.weight_decay, found.weight_decays, found.seeds) == (decay, grid, (0, 1, 2))


def test_the_mlp_reads_two_one_hot_digits_and_has_squared_error() -> None:
    experiment, paper = modular_addition("paper")
    spec = dataclasses.replace(paper, net=Mlp(), data=ModularAddition(prime=5, train_fraction=0.5))
    tokens = data_of(dataclasses.replace(spec, net=paper.net))["train"].inputs
    inputs, targets, _ = data_of(spec)["train"]
    assert inputs.shape == (12, 10)
    for (i, j, _), row, target in zip(tokens.tolist(), inputs.tolist(), targets.tolist(), strict=True):
        assert [k for k, value in enumerate(row) if value] == [i, 5 + j]
        assert target == (i + j) % 5
    outputs = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
    # targets 1 and 2: squares 0 1 0 and 1 0 1, mean 3 / 6
    assert float(experiment.loss(spec, outputs, answers(1, 2))) == pytest.approx(0.5)


def test_loss_and_error_of_the_transformer_by_hand() -> None:
    experiment, spec = modular_addition("paper")
    outputs = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, math.log(3.0)], [0.0, 1e-3, 0.0], [9.0, 0.0, 0.0]])
    batch = answers(0, 2, 0, 1)
    metrics = experiment.metrics(spec)
    assert list(metrics) == ["loss", "err"]
    assert float(metrics["err"].of(outputs, batch)) == 0.5
    # softmax of the first is 2/4, of the second 3/5
    assert float(metrics["loss"].of(outputs[:2], batch.take(slice(0, 2)))) == pytest.approx(-math.log(0.5 * 0.6) / 2)


def test_an_unknown_experiment_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown experiment 'modular_adition'.*did you mean 'modular_addition'\?"):
        get_experiment("modular_adition")


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown preset of modular_addition 'papr': known are data-rich, demo, mlp"):
        get_experiment("modular_addition").preset("papr")
