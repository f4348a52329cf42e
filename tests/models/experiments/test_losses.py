"""Losses and metrics of the four experiments on data sets, by hand (METHOD 1.2 to 1.5)."""

import dataclasses
import itertools
import math

import pytest
import torch

from reference.samples import sample_arrays
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.datasets.decoders.images import Images
from specdyn.models.experiments.base import Experiment, get_experiment
from specdyn.models.spec.run_spec import RunSpec


def smoke(name: str) -> tuple[Experiment, RunSpec]:
    experiment = get_experiment(name)
    return experiment, experiment.preset("smoke").spec


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


def test_the_loss_of_speech_sums_over_all_alignments() -> None:
    experiment, spec = smoke("speech_recognition")
    torch.manual_seed(0)
    outputs = torch.randn(2, 4, 4).log_softmax(-1)
    targets, frames, texts = torch.tensor([[2, 2, -1], [3, 1, -1]]), (4, 3), ([2, 2], [3, 1])
    batch = Examples(torch.zeros(2, 4, 40), targets, torch.tensor(frames))
    expected = 0.0
    for b, (length, text) in enumerate(zip(frames, texts, strict=True)):
        paths = [path for path in itertools.product(range(4), repeat=length) if collapsed(path) == text]
        total = sum(math.exp(sum(float(outputs[b, t, k]) for t, k in enumerate(path))) for path in paths)
        expected += -math.log(total) / len(text) / 2
    assert float(experiment.loss(spec, outputs, batch)) == pytest.approx(expected, rel=1e-5)


def test_error_rates_of_speech_are_pooled_over_the_corpus_and_read_the_padding() -> None:
    experiment, spec = smoke("speech_recognition")
    space, a, b = 2, 3, 4
    best = torch.tensor([[a, b, space, a, 0, 0], [a, a, 0, 0, 0, b]])
    outputs = torch.nn.functional.one_hot(best, 6).float().log_softmax(-1)
    targets = torch.tensor([[a, b, space, a], [a, -1, -1, -1]])
    batch = Examples(torch.zeros(2, 6, 40), targets, torch.tensor([6, 3]))
    metrics = experiment.metrics(spec)
    assert list(metrics) == ["loss", "cer", "wer"]
    assert [metric.pooled for metric in metrics.values()] == [False, True, True]
    # the second is heard as "ab", its b in a frame of the padding
    assert metrics["cer"].of(outputs, batch).tolist() == [1, 5]
    assert metrics["wer"].of(outputs, batch).tolist() == [1, 3]


def test_the_loss_of_generation_is_the_mean_square_of_what_is_left_of_the_noise() -> None:
    experiment, spec = smoke("image_generation")
    left = torch.tensor([1.0, -2.0, 3.0, 0.0]).reshape(2, 1, 1, 2)
    batch = Examples(torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64))
    assert float(experiment.loss(spec, left, batch)) == 3.5
    assert list(experiment.metrics(spec)) == ["loss"]


def test_generation_refuses_images_that_its_network_does_not_fit() -> None:
    experiment, spec = smoke("image_generation")
    with pytest.raises(ValueError, match=r"dataset='cifar10' is not allowed: expected a set of images of 28 x 28"):
        experiment.net(dataclasses.replace(spec, data=Images()))


def test_the_loss_of_language_counts_every_token_alike() -> None:
    experiment, spec = smoke("language_modelling")
    outputs = torch.zeros(2, 2, 4)
    outputs[0, 0, 3] = math.log(3.0)
    batch = Examples(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([[3, 0], [1, 2]]))
    # 3 / 6 for the first token, 1 / 4 for the others
    assert float(experiment.loss(spec, outputs, batch)) == pytest.approx((math.log(2) + 3 * math.log(4)) / 4)
    assert list(experiment.metrics(spec)) == ["loss"]


def test_a_language_model_predicts_from_what_came_before() -> None:
    experiment, spec = smoke("language_modelling")
    net = experiment.net(spec)
    tokens = torch.randint(512, (2, 64), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 40:] = (changed[:, 40:] + 1) % 512
    before, after = net(tokens), net(changed)
    assert before.shape == (2, 64, 512)
    torch.testing.assert_close(before[:, :40], after[:, :40])
    assert (before[:, 40:] - after[:, 40:]).abs().amin(dim=(0, 2)).max() > 0


def test_layers_of_the_transformer_start_alike_as_published() -> None:
    experiment, spec = smoke("language_modelling")
    weights = experiment.net(spec).state_dict()
    first = [name for name in weights if "layers.0." in name]
    assert first
    assert all(torch.equal(weights[name], weights[name.replace("layers.0.", "layers.1.")]) for name in first)


def test_loss_and_error_of_classification_by_hand() -> None:
    experiment, spec = smoke("image_classification")
    outputs = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, math.log(3.0)], [5.0, 0.0, 0.0]])
    batch = Examples(torch.zeros(3, 1), torch.tensor([0, 2, 1]))
    metrics = experiment.metrics(spec)
    assert list(metrics) == ["loss", "err"]
    assert float(metrics["err"].of(outputs, batch)) == pytest.approx(1 / 3)
    expected = -(math.log(2 / 4) + math.log(3 / 5) - math.log(math.exp(5) + 2)) / 3
    assert float(metrics["loss"].of(outputs, batch)) == pytest.approx(expected)


@pytest.mark.parametrize("preset", ["smoke", "sample"])
@pytest.mark.parametrize(("name", "low", "high"), [("image_classification", -0.1, 0.1), ("language_modelling", 0, 0.4)])
def test_an_untrained_network_guesses_evenly(name: str, preset: str, low: float, high: float) -> None:
    experiment = get_experiment(name)
    spec = experiment.preset(preset).spec
    val = experiment.examples(spec, sample_arrays(spec.data.dataset))["val"].take(slice(0, 100))
    with torch.no_grad():
        loss = float(experiment.loss(spec, experiment.net(spec).eval()(val.inputs), val))
    classes = 9 if name == "image_classification" else 512
    assert low < loss - math.log(classes) < high


@pytest.mark.parametrize(
    "name", ["image_classification", "image_generation", "speech_recognition", "language_modelling"]
)
def test_one_step_down_the_gradient_lowers_the_loss_and_every_layer_has_one(name: str) -> None:
    experiment, spec = smoke(name)
    batch = experiment.examples(spec, sample_arrays(spec.data.dataset))["train"].take(slice(0, 8))
    net = experiment.net(spec).train()

    def loss() -> torch.Tensor:
        torch.manual_seed(3)
        return experiment.loss(spec, net(batch.inputs), batch)

    before = loss()
    before.backward()
    trained = {key: p for key, p in net.named_parameters() if p.requires_grad}
    assert all(bool(torch.isfinite(p.grad).all()) for p in trained.values())
    assert {key for key, p in trained.items() if p.ndim > 1 and not p.grad.any()} == set()
    slope = sum(float(p.grad.square().sum()) for p in trained.values())
    rate = 1e-4 / math.sqrt(slope)
    with torch.no_grad():
        for p in trained.values():
            p.sub_(rate * p.grad)
    # to first order the loss falls by rate * |gradient|^2
    assert float(before.detach() - loss().detach()) == pytest.approx(rate * slope, rel=0.3)
