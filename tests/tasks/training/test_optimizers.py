"""Updates of the weights against the optimizers written out in float64."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference import optimizers
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.convnet import Vgg, VggNet
from specdyn.models.nets.mlp import Mlp, MlpNet
from specdyn.models.nets.transformer import Transformer, TransformerNet
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.tasks.training.optimizers import Updater, attention_matrices, decayed, hidden_matrices
from specdyn.tasks.training.training import Loop

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(6, 3)), DRAW.normal(size=(6, 2))
START = [DRAW.normal(size=(2, 3)), DRAW.normal(size=2)]
FACTORS = [0.0, 0.5, 1.0, 1.0, 0.1, 1.0, 1.0]


def linear(dtype: torch.dtype = torch.float64) -> nn.Linear:
    """A linear model at the start."""
    net = nn.Linear(3, 2, dtype=dtype)
    with torch.no_grad():
        for parameter, start in zip(net.parameters(), START, strict=True):
            parameter.copy_(torch.tensor(start))
    return net


def squared_error(outputs: Tensor, batch: Examples) -> Tensor:
    return F.mse_loss(outputs, batch.targets)


def trained(spec: RunSpec, factors: list[float] = FACTORS) -> list[np.ndarray]:
    """Weight and bias of the linear model after a step for each factor on the learning rate, full batch."""
    net, batch = linear(), Examples(torch.tensor(X), torch.tensor(Y))
    updater = Updater(spec, net)
    for step, factor in enumerate(factors):
        loss = updater(step, spec.optimizer.learning_rate * factor, lambda: [squared_error(net(batch.inputs), batch)])
        assert bool(torch.isfinite(loss))
    return [parameter.detach().numpy() for parameter in net.parameters()]


def spec(**settings: object) -> RunSpec:
    return with_settings(get_experiment("modular_addition").preset("smoke").spec, **settings)


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
def test_the_loop_reports_an_infinite_loss_even_if_the_last_one_is_finite(bad: int) -> None:
    net = nn.Linear(1, 1)
    targets = [torch.zeros(1, 1)] * 4
    targets[bad] = torch.full((1, 1), float("inf"))

    def keep_alive(outputs: Tensor, batch: Examples) -> Tensor:
        # the infinite target enters the value and not the gradient, so that later losses are finite
        return outputs.pow(2).mean() + batch.targets.sum()

    experiment = dataclasses.replace(get_experiment("modular_addition"), loss=lambda spec, *given: keep_alive(*given))
    run = spec(optimizer="sgd", learning_rate=0.1, batch_size=1)
    loop = Loop(experiment, run, net, Examples(torch.ones(4, 1), torch.stack(targets)[:, 0]))
    loss = loop.run(0, 4)
    assert not bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in net.parameters())


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_nesterov_looks_ahead_by_the_momentum(momentum: float) -> None:
    run = spec(optimizer="sgd", learning_rate=0.05, weight_decay=0.3, momentum=momentum, nesterov=True)
    rates = [0.05 * factor for factor in FACTORS]
    expected = optimizers.sgd(START, X, Y, rates, 0.3, momentum, nesterov=True)
    plain = optimizers.sgd(START, X, Y, rates, 0.3, momentum)
    for ours, theirs, other in zip(trained(run), expected, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
        assert np.abs(ours - other).max() > 1e-3


@pytest.mark.parametrize(("decay", "momentum"), [(0.0, 0.0), (0.3, 0.9)])
def test_sam_goes_down_by_the_gradient_a_radius_up_the_gradient(decay: float, momentum: float) -> None:
    run = spec(optimizer="sam", learning_rate=0.05, weight_decay=decay, momentum=momentum, sam_radius=0.5)
    rates = [0.05 * factor for factor in FACTORS]
    expected = optimizers.sgd(START, X, Y, rates, decay, momentum, radius=0.5)
    plain = optimizers.sgd(START, X, Y, rates, decay, momentum)
    for ours, theirs, other in zip(trained(run), expected, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
        assert np.abs(ours - other).max() > 1e-3


def test_sam_on_a_quadratic_by_hand() -> None:
    # loss = w^2 / 2 at w = 2: the gradient is 2, its direction 1, so the second one is taken at 2.25
    net = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(net.weight, 2.0)
    updater = Updater(spec(optimizer="sam", sam_radius=0.25, weight_decay=0.0), net)
    loss = updater(0, 0.1, lambda: [net.weight.square().sum() / 2])
    assert float(loss) == 2.0
    assert net.weight.item() == pytest.approx(2 - 0.1 * 2.25, rel=1e-12)


def test_both_gradients_of_sam_see_the_same_noise_and_batch_norm_counts_the_first() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.5)).train()
    x, drawn = torch.tensor(X, dtype=torch.float32), []
    with torch.no_grad():
        mean = net[0](x).mean(0)

    def losses() -> list[Tensor]:
        drawn.append(torch.rand(5).tolist())
        return [net(x).pow(4).sum()]

    Updater(spec(optimizer="sam"), net)(0, 0.1, losses)
    assert len(drawn) == 2
    assert drawn[0] == drawn[1]
    torch.testing.assert_close(net[1].running_mean, 0.5 * mean)
    assert int(net[1].num_batches_tracked) == 1
    assert net[1].track_running_stats


def test_muon_moves_hidden_matrices_by_their_polar_factor_and_the_rest_by_adamw() -> None:
    net = MlpNet(Mlp(width=6, hidden_layers=2), inputs=4, outputs=3)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    updater = Updater(spec(optimizer="muon", weight_decay=0.5), net)
    updater(0, 0.02, lambda: [net(x).square().sum()])
    for name, p in net.named_parameters():
        gradient, kept = p.grad.double(), before[name].double() * (1 - 0.02 * 0.5)
        step = (kept - p.detach().double()) / 0.02
        if name in ("layers.0.weight", "layers.1.weight"):
            # Newton and Schulz's iteration in bfloat16 leaves singular values between about 0.6 and 1.3
            scaled = step / (0.2 * max(p.shape) ** 0.5)
            u_MR, s_R, v_RN = torch.linalg.svd(gradient, full_matrices=False)
            along = torch.diagonal(u_MR.T @ scaled @ v_RN.T)[s_R / s_R[0] > 0.05]
            assert along.min() > 0.5 and along.max() < 1.4
            assert torch.linalg.svdvals(scaled).max() < 1.4
        else:
            # the first step of Adam is the sign of the gradient
            torch.testing.assert_close(step, gradient / (gradient.abs() + 1e-8), rtol=1e-3, atol=1e-3)


def test_the_last_matrix_and_embeddings_are_not_hidden() -> None:
    net = TransformerNet(Transformer(width=8, feedforward=8, layernorm=True), vocabulary=6, length=3)
    layer = "transformer_encoder.layers.0."
    attention = {layer + "self_attn.in_proj_weight", layer + "self_attn.out_proj.weight"}
    hidden = attention | {layer + "linear1.weight", layer + "linear2.weight"}
    every = hidden | {"encoder.weight", "decoder.weight"}
    assert hidden_matrices(net) == hidden
    assert attention_matrices(net) == attention
    assert decayed(spec(weight_decay_on="matrices"), net) == every
    assert decayed(spec(weight_decay_on="hidden"), net) == hidden
    assert decayed(spec(weight_decay_on="attention"), net) == attention
    assert decayed(spec(weight_decay_on="non-attention"), net) == every - attention
    assert decayed(spec(), net) == {name for name, _ in net.named_parameters()}
    assert len(hidden_matrices(VggNet(Vgg(width=4), channels=3, classes=10))) == 13


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("where", ["matrices", "hidden", "attention", "non-attention"])
def test_only_the_chosen_parameters_decay(where: str, optimizer: str) -> None:
    torch.manual_seed(2)
    net = TransformerNet(Transformer(width=8, feedforward=8, layernorm=True), vocabulary=6, length=3)
    chosen = decayed(spec(weight_decay_on=where), net)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    tokens = torch.randint(6, (5, 3))

    def after(decay: float) -> dict[str, Tensor]:
        net.load_state_dict(start)
        run = spec(weight_decay_on=where, weight_decay=decay, optimizer=optimizer)
        Updater(run, net)(0, 0.01, lambda: [net(tokens).square().sum()])
        return {name: p.detach().clone() for name, p in net.named_parameters()}

    without, decaying = after(0.0), after(0.5)
    for name, w in start.items():
        expected = without[name] - 0.01 * 0.5 * w if name in chosen else without[name]
        torch.testing.assert_close(decaying[name], expected, rtol=1e-5, atol=1e-7, msg=name)
        assert torch.equal(decaying[name], without[name]) == (name not in chosen or not w.any()), name


def test_decay_on_parameters_that_a_network_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="weight_decay_on='attention' is not allowed: Linear has no such parameters"):
        Updater(spec(weight_decay_on="attention"), linear())


def test_muon_without_hidden_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="optimizer='muon' is not allowed: Linear has no hidden matrices"):
        Updater(spec(optimizer="muon"), linear())


def test_weight_decay_is_switched_at_finished_updates() -> None:
    settings = {"learning_rate": 0.05, "weight_decay": 0.8}
    factors = [1.0] * 6
    rates = [0.05] * 6
    for bounds, decays in (
        ({"decay_from": 2, "decay_until": 5}, [0.0, 0.0, 0.8, 0.8, 0.8, 0.0]),
        ({"decay_from": 5, "decay_until": 6}, [0.0, 0.0, 0.0, 0.0, 0.0, 0.8]),
        ({"decay_until": 1}, [0.8, 0.0, 0.0, 0.0, 0.0, 0.0]),
    ):
        expected = optimizers.adamw(START, X, Y, rates, decays, 0.9, 0.98, 1e-8)
        found = trained(spec(**settings, beta2=0.98, **bounds), factors)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bound", [0.01, 0.1, 1e6])
def test_the_norm_of_the_whole_gradient_is_bounded(bound: float) -> None:
    run = spec(optimizer="sgd", learning_rate=0.05, weight_decay=0.0, clip_norm=bound)
    gradients = optimizers.gradients(*START, X, Y)
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    assert 0.1 < norm < 1e6
    for ours, start, g in zip(trained(run, [1.0]), START, gradients, strict=True):
        # torch divides by norm + 1e-6
        np.testing.assert_allclose(ours, start - 0.05 * g * min(1, bound / (norm + 1e-6)), rtol=1e-9)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_the_gradients_of_equal_batches_add_up_to_that_of_all(parts: int) -> None:
    net, whole = linear(), linear()
    size = len(X) // parts
    pieces = list(Examples(torch.tensor(X), torch.tensor(Y)).batches(size))
    everything = Examples(torch.tensor(X), torch.tensor(Y))
    settings = spec(learning_rate=0.05, weight_decay=0.1)
    in_parts, at_once = Updater(settings, net), Updater(settings, whole)
    for step in range(5):
        one = in_parts(step, 0.05, lambda: (squared_error(net(b.inputs), b) for b in pieces), parts)
        other = at_once(step, 0.05, lambda: [squared_error(whole(everything.inputs), everything)])
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    for ours, theirs in zip(net.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_the_norms_of_matrices_are_held_and_their_direction_and_vectors_are_not(optimizer: str) -> None:
    torch.manual_seed(4)
    net = MlpNet(Mlp(width=6, hidden_layers=2), inputs=4, outputs=3)
    nn.init.zeros_(net.layers[0].weight)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    x = torch.randn(8, 4)
    updater = Updater(spec(optimizer=optimizer, norm_control="initial"), net)
    for step in range(10):
        updater(step, 0.05, lambda: [(net(x) - 1).square().mean()])
        for name, p in net.named_parameters():
            if p.ndim == 2:
                torch.testing.assert_close(p.norm(), start[name].norm(), rtol=1e-6, atol=0)
    assert not torch.allclose(net.layers[1].weight, start["layers.1.weight"], rtol=1e-2)
    assert not torch.isclose(net.layers[2].bias.norm(), start["layers.2.bias"].norm(), rtol=1e-2)


def test_a_matrix_of_zeros_that_is_not_moved_stays_finite_where_norms_are_held() -> None:
    net = nn.Linear(3, 2)
    nn.init.zeros_(net.weight)
    Updater(spec(norm_control="initial"), net)(0, 0.1, lambda: [net.bias.sum() + 0 * net.weight.sum()])
    assert torch.equal(net.weight, torch.zeros(2, 3))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_scaled_losses_give_the_same_updates_bounded_or_not(optimizer: str) -> None:
    # scales are powers of two, so that nothing is rounded
    for bound in (None, 0.05):
        settings = {"optimizer": optimizer, "learning_rate": 0.05, "clip_norm": bound}
        plain, scaled = (trained(spec(**settings, precision=precision)) for precision in ("float32", "float16"))
        for one, other in zip(plain, scaled, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_update_whose_gradient_overflows_is_left_out_and_the_scale_halved(optimizer: str) -> None:
    net = linear(torch.float32)
    updater = Updater(spec(optimizer=optimizer, precision="float16", weight_decay=0.0), net)
    before = updater.state()[1]["scaler"]["scale"]
    start = net.weight.detach().clone()
    updater(0, 0.1, lambda: [(net.weight * 3e38).sum()])
    assert torch.equal(net.weight, start)
    assert updater.state()[1]["scaler"]["scale"] == before / 2
    updater(1, 0.1, lambda: [net.weight.sum()])
    assert not torch.equal(net.weight, start)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "weight_decay_on": "matrices"},
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "sam", "momentum": 0.9, "nesterov": True},
        {"optimizer": "muon", "weight_decay_on": "hidden"},
        {"optimizer": "adamw", "precision": "float16", "clip_norm": 0.1},
        {"optimizer": "adamw", "decay": "nuclear", "precision": "float16"},
    ],
    ids=str,
)
def test_an_updater_goes_on_from_its_state_with_equal_bits(settings: dict[str, object]) -> None:
    run = spec(**settings)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))

    def fresh() -> tuple[MlpNet, Updater]:
        torch.manual_seed(0)
        net = MlpNet(Mlp(width=6, hidden_layers=2), inputs=4, outputs=3)
        return net, Updater(run, net)

    def go(net: MlpNet, updater: Updater, start: int, stop: int) -> None:
        for step in range(start, stop):
            # the third gradient is too large where it is scaled
            factor = 1e36 if step == 2 and run.numerics.precision == "float16" else 1.0
            updater(step, 0.01, lambda factor=factor: [net(x).square().mean() * factor])

    net, updater = fresh()
    go(net, updater, 0, 5)
    weights = {name: w.clone() for name, w in net.state_dict().items()}
    tensors, body = updater.state()
    go(net, updater, 5, 9)
    other, resumed = fresh()
    other.load_state_dict(weights)
    resumed.load(tensors, json.loads(json.dumps(body)))
    go(other, resumed, 5, 9)
    assert all(torch.equal(w, other.state_dict()[name]) for name, w in net.state_dict().items())
    assert json.dumps(resumed.state()[1]) == json.dumps(updater.state()[1])
    kept, again = updater.state()[0], resumed.state()[0]
    assert {name.split("/")[0] for name in kept} == {str(number) for number in range(len(weights))}
    assert kept.keys() == again.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in kept.items())
