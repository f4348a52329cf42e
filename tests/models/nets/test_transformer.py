"""The transformer against torch's own encoder: outputs, gradients, causality."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from reference.transformers import TorchTransformer
from specdyn.models.nets.transformer import Transformer, TransformerNet

VOCABULARY, LENGTH = 11, 5
CONFIGS = [
    pytest.param(
        Transformer(width=16, heads=4, feedforward=24, depth=depth, layernorm=layernorm),
        id=f"depth {depth}, {'with' if layernorm else 'without'} LayerNorm",
    )
    for depth, layernorm in itertools.product((1, 2), (False, True))
]


def net_and_tokens(config: Transformer) -> tuple[TransformerNet, torch.Tensor]:
    """A net whose parameters are all random (biases and norms too), and a batch.

    In float64, where kernels that round in another order differ by 1e-14.
    """
    torch.manual_seed(3)
    net = TransformerNet(config, VOCABULARY, LENGTH)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net.double(), torch.randint(VOCABULARY, (6, LENGTH))


def torchs(net: TransformerNet) -> TorchTransformer:
    """Torch's layers with the same weights in float64."""
    oracle = TorchTransformer(net, LENGTH).double()
    oracle.load_state_dict(net.state_dict())
    oracle.table = net.pos_encoder.pe  # tested apart; equal bits here, so that the rest can be held to 1e-10
    return oracle


@pytest.mark.parametrize("config", CONFIGS)
def test_all_positions_equal_those_of_torchs_encoder(config: Transformer) -> None:
    net, tokens = net_and_tokens(config)
    expected = torchs(net)(tokens)
    torch.testing.assert_close(net(tokens, last_only=False), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_last_position_alone_equals_that_of_torchs_encoder(config: Transformer) -> None:
    net, tokens = net_and_tokens(config)
    expected = torchs(net)(tokens)[:, -1]
    torch.testing.assert_close(net(tokens), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("config", CONFIGS)
def test_projections_looked_up_by_token_and_position_equal_those_of_torchs_encoder(
    config: Transformer, last_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, _ = net_and_tokens(config)
    tokens = torch.randint(VOCABULARY, (VOCABULARY + 20, LENGTH))
    rows: list[int] = []
    project = TransformerNet._project
    monkeypatch.setattr(
        TransformerNet, "_project", lambda self, block, x, q: rows.append(len(x)) or project(self, block, x, q)
    )
    with torch.no_grad():
        found = net(tokens, last_only=last_only)
        expected = torchs(net)(tokens)
    torch.testing.assert_close(found, expected[:, -1] if last_only else expected, rtol=1e-10, atol=1e-10)
    assert rows == [VOCABULARY, *[len(tokens)] * (config.depth - 1)]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_last_position_alone_has_the_gradients_of_torchs_encoder(config: Transformer) -> None:
    net, tokens = net_and_tokens(config)
    oracle = torchs(net)
    targets = torch.arange(6)
    F.cross_entropy(net(tokens), targets).backward()
    F.cross_entropy(oracle(tokens)[:, -1], targets).backward()
    expected = dict(oracle.named_parameters())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-9, atol=1e-9, msg=name)
        assert parameter.grad.abs().max() > 1e-4, name


def test_a_position_does_not_see_later_tokens() -> None:
    net, tokens = net_and_tokens(Transformer(width=16, heads=4, feedforward=24, depth=2))
    changed = tokens.clone()
    changed[:, 3] = (changed[:, 3] + 1) % VOCABULARY
    before, after = net(tokens, last_only=False), net(changed, last_only=False)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amin(dim=(0, 2)).max() > 0
