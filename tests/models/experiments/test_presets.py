"""Settings, schedules, grids and sizes of the paper: experiments on data sets (METHOD 0.2, 1.2, 1.3, 1.4, 1.5, 9)."""

import pytest
import torch

from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.matrices import layers
from specdyn.models.spec.run_spec import hyperparameters
from specdyn.models.spec.schedules import checkpoint_steps, steps_per_epoch

GRID = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
ADAMW = {"optimizer": "adamw", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
SGD = {"optimizer": "sgd", "momentum": 0.9}
VGG = {"architecture": "Vgg", "dataset": "cifar10", "variant": "full", "labels": "true", "learning_rate": 0.1}
MLP = {"architecture": "Mlp", "width": 256, "hidden_layers": 3, "learning_rate": 1e-3, "schedule": "constant"}


@pytest.mark.parametrize(
    ("name", "preset", "settings", "decay", "grid"),
    [
        ("image_classification", "paper", {**SGD, **VGG, "batch_size": 128, "width": 64}, 1e-4, GRID),
        ("image_classification", "mlp-true", {**SGD, **MLP, "labels": "true"}, 0.0, (0.0,)),
        ("image_classification", "mlp-random", {**SGD, **MLP, "labels": "random"}, 0.0, (0.0,)),
        (
            "image_generation",
            "paper",
            {**ADAMW, "dataset": "mnist", "learning_rate": 3e-4, "batch_size": 128, "schedule": "constant"},
            0.0,
            GRID,
        ),
        (
            "speech_recognition",
            "paper",
            {
                **ADAMW,
                **{"learning_rate": 3e-4, "batch_size": 32, "schedule": "cosine-to-zero", "outputs": 30},
                **{"eval_batch_size": 256, "eval_examples": 1000},
            },
            0.1,
            GRID,
        ),
        (
            "language_modelling",
            "paper",
            {
                **ADAMW,
                **{"beta2": 0.95, "learning_rate": 6e-4, "batch_size": 4, "accumulate": 64, "clip_norm": 1.0},
                **{"schedule": "warmup-cosine", "warmup": 200, "period": 6660, "precision": "float16"},
                **{"width": 768, "heads": 12, "feedforward": 768, "depth": 12, "layernorm": True},
                **{"vocabulary": 50_277, "length": 2048, "eval_examples": 1000},
            },
            0.1,
            GRID,
        ),
    ],
)
def test_presets_have_the_published_settings(
    name: str, preset: str, settings: dict[str, object], decay: float, grid: tuple[float, ...]
) -> None:
    found = get_experiment(name).preset(preset)
    flat = hyperparameters(found.spec)
    assert {key: flat[key] for key in settings} == settings
    assert (found.spec.decay.weight_decay, found.weight_decays, found.seeds) == (decay, grid, (0, 1, 2))


def test_the_rate_of_vgg_falls_after_82_123_and_160_epochs() -> None:
    spec = get_experiment("image_classification").preset("paper").spec
    assert (spec.schedule.name, spec.schedule.milestones) == ("milestones", (82, 123, 160))


@pytest.mark.parametrize(
    ("name", "preset", "examples", "inner", "checkpoints", "steps"),
    [
        ("image_classification", "paper", 45_000, (70, 140, 210, 280), 169, 57_728),
        ("image_classification", "mlp-true", 45_000, (70, 140, 210, 280), 305, 105_600),
        ("image_generation", "paper", 54_000, (84, 168, 252, 336), 105, 42_200),
        ("speech_recognition", "paper", 28_539, (178, 356, 534, 712), 55, 44_600),
        ("language_modelling", "paper", 57_000, (44, 88, 132, 176), 15, 2_220),
    ],
)
def test_checkpoints_lie_where_the_published_ones_do(
    name: str, preset: str, examples: int, inner: tuple[int, ...], checkpoints: int, steps: int
) -> None:
    spec = get_experiment(name).preset(preset).spec
    per_epoch = steps_per_epoch(spec, examples)
    found = checkpoint_steps(spec, per_epoch)
    assert found[:6] == (0, *inner, per_epoch)
    assert (len(found), found[-1], spec.steps) == (checkpoints, steps, steps)


@pytest.mark.parametrize(
    ("name", "preset", "parameters", "matrices", "pairs"),
    [
        ("image_classification", "paper", 14_728_266, 14, 13),
        ("image_classification", "mlp-random", 920_842, 4, 3),
        ("image_classification", "resnet", 272_474, 22, None),
        ("image_classification", "lenet", 62_006, 5, 3),
        ("image_generation", "paper", 4_085_761, 16, 17),
        # one output more than published: 512 weights and a bias
        ("speech_recognition", "paper", 5_356_061 + 513, 17, 24),
        # 23 tokens more than published, in the embedding and in the decoder with its bias; 12 pairs by head are ours
        ("language_modelling", "paper", 119_799_886 + 23 * (2 * 768 + 1), 50, 61 + 12),
    ],
)
def test_presets_build_the_published_networks(
    name: str, preset: str, parameters: int, matrices: int, pairs: int | None
) -> None:
    experiment = get_experiment(name)
    spec = experiment.preset(preset).spec
    with torch.device("meta"):
        net = experiment.build_net(spec)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(layers(net)) == matrices
    if pairs is not None:
        assert len(experiment.layer_pairs(spec, net)) == pairs


@pytest.mark.parametrize(
    "name", ["image_classification", "image_generation", "speech_recognition", "language_modelling"]
)
def test_the_sample_of_the_paper_has_its_network(name: str) -> None:
    experiment = get_experiment(name)
    assert experiment.preset("paper-sample").spec.net == experiment.preset("paper").spec.net
    for preset in ("sample", "paper-sample", "smoke"):
        spec = experiment.preset(preset).spec
        assert experiment.dataset(spec) == (spec.data.dataset, "sample")
        assert spec.numerics.precision == "float32"
        assert len(checkpoint_steps(spec, spec.steps)) <= 25
