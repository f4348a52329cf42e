"""Metrics are unweighted means over batches (METHOD 4.1)."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from models.experiment import Examples, Experiment, Metric, get_experiment
from models.run_spec import RunSpec
from tasks.evaluation import Evaluator


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
    metric = Metric(of=lambda outputs, targets: (outputs - targets).abs().mean(), long_name="distance")
    return dataclasses.replace(experiment, metrics=lambda spec: {"distance": metric})


def evaluator(batch: int) -> Evaluator:
    experiment = get_experiment("modular_addition")
    spec: RunSpec = dataclasses.replace(experiment.preset("smoke").spec, eval_batch_size=batch)
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
