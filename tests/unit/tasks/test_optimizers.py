"""The training loop against AdamW and SGD written out in float64."""

import dataclasses

import numpy as np
import pytest
import torch
from reference import optimizers
from torch import nn
from torch.nn import functional as F

from models.experiment import Examples, get_experiment
from models.run_spec import RunSpec
from tasks.training import make_optimizer, run_steps

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(6, 3)), DRAW.normal(size=(6, 2))
START = [DRAW.normal(size=(2, 3)), DRAW.normal(size=2)]
FACTORS = [0.0, 0.5, 1.0, 1.0, 0.1, 1.0, 1.0]


def trained(spec: RunSpec, device: str = "cpu") -> list[np.ndarray]:
    """Weight and bias of a linear model after a step for each factor."""
    net = nn.Linear(3, 2, dtype=torch.float64, device=device)
    with torch.no_grad():
        for parameter, start in zip(net.parameters(), START, strict=True):
            parameter.copy_(torch.tensor(start))
    examples = Examples(torch.tensor(X), torch.tensor(Y)).to(torch.device(device))
    loss = run_steps(
        net,
        make_optimizer(spec, net),
        lambda step: examples,
        lambda outputs, batch: F.mse_loss(outputs, batch.targets),
        lambda step: spec.learning_rate * FACTORS[step],
        0,
        len(FACTORS),
    )
    assert bool(torch.isfinite(loss))
    return [parameter.detach().cpu().numpy() for parameter in net.parameters()]


def spec(**settings: object) -> RunSpec:
    return dataclasses.replace(get_experiment("modular_addition").preset("smoke").spec, **settings)


@pytest.mark.parametrize("decay", [0.0, 1.0])
@pytest.mark.parametrize(("beta1", "beta2", "epsilon"), [(0.9, 0.98, 1e-8), (0.9, 0.999, 1e-8), (0.0, 0.5, 1e-2)])
def test_adamw_is_the_published_algorithm(decay: float, beta1: float, beta2: float, epsilon: float) -> None:
    run = spec(learning_rate=0.05, weight_decay=decay, beta1=beta1, beta2=beta2, epsilon=epsilon)
    rates = [0.05 * factor for factor in FACTORS]
    expected = optimizers.adamw(START, X, Y, rates, decay, beta1, beta2, epsilon)
    for ours, theirs, start in zip(trained(run), expected, START, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
        assert np.abs(ours - start).min() > 1e-3


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_has_heavy_ball_momentum_and_an_l2_term(decay: float, momentum: float) -> None:
    run = spec(optimizer="sgd", learning_rate=0.05, weight_decay=decay, momentum=momentum)
    expected = optimizers.sgd(START, X, Y, [0.05 * factor for factor in FACTORS], decay, momentum)
    for ours, theirs, start in zip(trained(run), expected, START, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
        assert np.abs(ours - start).max() > 1e-3


@pytest.mark.parametrize("bad", range(4))
def test_the_loop_tells_of_a_loss_that_was_not_finite_even_if_the_last_one_is(bad: int) -> None:
    net = nn.Linear(1, 1)
    targets = [torch.zeros(1, 1)] * 4
    targets[bad] = torch.full((1, 1), float("inf"))

    def keep_alive(outputs: torch.Tensor, batch: Examples) -> torch.Tensor:
        # the infinite target enters the value and not the gradient, so that later losses are finite
        return outputs.pow(2).mean() + batch.targets.sum()

    loss = run_steps(
        net,
        torch.optim.SGD(net.parameters(), lr=0.1),
        lambda step: Examples(torch.ones(1, 1), targets[step]),
        keep_alive,
        lambda step: 0.1,
        0,
        4,
    )
    assert not bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in net.parameters())
