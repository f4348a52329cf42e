"""Metrics are unweighted means over batches (METHOD 4.1)."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import Experiment, Metric, get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.tasks.evaluation.evaluator import Evaluator


class Doubling(nn.Module):
    """Twice its input times a weight; refuses to be trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        return 2 * self.weight * x


def distance(experiment: Experiment) -> Experiment:
    """The experiment with one metric: the mean of |output - target|."""
    metric = Metric(of=lambda outputs, batch: (outputs - batch.targets).abs().mean(), long_name="distance")
    return dataclasses.replace(experiment, metrics=lambda spec: {"distance": metric})


def evaluator(batch: int) -> Evaluator:
    experiment = get_experiment("modular_addition")
    spec: RunSpec = with_settings(experiment.preset("smoke").spec, eval_batch_size=batch)
    data = {
        "train": Examples(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([2.0, 3.0, 6.0, 5.0, 0.0])),
        "val": Examples(torch.tensor([1.0]), torch.tensor([0.0])),
    }
    return Evaluator(distance(experiment), spec, Doubling().train(), data, torch.device("cpu"))


@pytest.mark.parametrize(
    ("batch", "train"),
    [
        # distances 0 1 0 3 10: batches (0 1)(0 3)(10) have means 0.5 1.5 10
        (2, 4.0),
        (4, 5.5),  # (0 1 0 3)(10): 1 and 10
        (5, 2.8),
        (100, 2.8),
        (1, 2.8),
    ],
)
def test_the_last_smaller_batch_counts_fully(batch: int, train: float) -> None:
    measured = evaluator(batch)({"weight": torch.ones(1)})
    assert list(measured) == ["distance"]
    np.testing.assert_allclose(measured["distance"], [train, 2.0], rtol=1e-6)
    assert measured["distance"].dtype == np.float32


def test_the_weights_given_are_the_ones_evaluated() -> None:
    evaluate = evaluator(5)
    for weight, val in ((0.5, 1.0), (3.0, 6.0), (0.5, 1.0)):
        assert evaluate({"weight": torch.tensor([weight])})["distance"][1] == pytest.approx(val)


def small(net: nn.Module, train: torch.Tensor, **settings: object) -> Evaluator:
    """An evaluator of the metric `distance`, with the training inputs as their own targets."""
    experiment = get_experiment("modular_addition")
    spec = with_settings(experiment.preset("smoke").spec, **settings)
    data = {"train": Examples(train, train), "val": Examples(train[:2], train[:2])}
    return Evaluator(distance(experiment), spec, net, data, torch.device("cpu"))


def test_batch_norm_is_re_estimated_with_equal_weight_for_every_batch() -> None:
    x = torch.tensor([[0.0], [2.0], [4.0], [6.0], [10.0], [20.0]])
    net = nn.BatchNorm1d(1, affine=False, momentum=0.3)
    weights = {
        "running_mean": torch.tensor([5.0]),
        "running_var": torch.tensor([9.0]),
        "num_batches_tracked": torch.tensor(7),
    }
    evaluate = small(net, x, eval_batch_size=4)
    stale = evaluate(weights)["distance"][0]
    fresh = evaluate(weights, renormalise=True)["distance"][0]
    # batches (0 2 4 6) and (10 20): means 3 and 15, unbiased variances 20 / 3 and 50
    mean, variance = 9.0, (20 / 3 + 50) / 2
    by_hand = np.abs((x.numpy() - mean) / np.sqrt(variance + 1e-5) - x.numpy())[:, 0]
    assert fresh == pytest.approx((by_hand[:4].mean() + by_hand[4:].mean()) / 2, rel=1e-5)
    assert stale != pytest.approx(fresh, rel=1e-2)
    assert evaluate(weights)["distance"][0] == stale
    assert float(weights["running_mean"]) == 5.0
    assert net.momentum == 0.3
    assert not net.training


def test_a_network_without_batch_norm_is_not_touched() -> None:
    # Doubling refuses to run in train mode.
    evaluate = small(Doubling(), torch.tensor([1.0, 2.0]))
    weights = {"weight": torch.ones(1)}
    assert evaluate(weights, renormalise=True)["distance"].tolist() == evaluate(weights)["distance"].tolist()


class Noisy(nn.Module):
    """Its input plus noise from torch's generator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn(x.shape)


def test_noise_is_the_same_at_every_evaluation_and_leaves_torchs_generator_alone() -> None:
    evaluate = small(Noisy(), torch.arange(10.0), eval_batch_size=3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    once = evaluate({})["distance"]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert np.array_equal(evaluate({})["distance"], once)
    assert once[0] > 0


def test_noise_is_the_same_at_every_estimate_of_batch_norm() -> None:
    net = nn.Sequential(Noisy(), nn.BatchNorm1d(1, affine=False))
    evaluate = small(net, torch.arange(10.0)[:, None], eval_batch_size=5)
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    once = evaluate(weights, renormalise=True)["distance"]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert np.array_equal(evaluate(weights, renormalise=True)["distance"], once)


def test_training_metrics_are_measured_on_the_fixed_subset() -> None:
    x = torch.arange(50.0)
    chosen = np.random.default_rng(12345).permutation(50)[:4]
    measured = small(Doubling(), x, eval_examples=4)({"weight": torch.ones(1)})["distance"]
    np.testing.assert_allclose(measured, [chosen.mean(), 0.5])  # |2x - x|
    everything = small(Doubling(), x)({"weight": torch.ones(1)})["distance"]
    np.testing.assert_allclose(everything[0], 24.5)


def test_a_pooled_metric_is_a_sum_over_a_count_of_all_batches() -> None:
    experiment = get_experiment("modular_addition")
    metric = Metric(
        of=lambda outputs, batch: torch.stack([outputs.sum(), torch.tensor(float(len(outputs)))]),
        long_name="mean output",
        pooled=True,
    )
    pooled = dataclasses.replace(experiment, metrics=lambda spec: {"mean": metric})
    spec = with_settings(experiment.preset("smoke").spec, eval_batch_size=2)
    data = {
        "train": Examples(torch.tensor([1.0, 2.0, 6.0]), torch.zeros(3)),
        "val": Examples(torch.ones(1), torch.zeros(1)),
    }
    found = Evaluator(pooled, spec, Doubling(), data, torch.device("cpu"))({"weight": torch.ones(1)})["mean"]
    np.testing.assert_allclose(found, [6.0, 2.0])
