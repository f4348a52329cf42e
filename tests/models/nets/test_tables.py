"""The transformer's tables of what one token decides, against torch's own encoder: outputs, gradients, rounding."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reference.transformers import TorchTransformer
from specdyn.models.nets.transformer import Transformer, TransformerNet

VOCABULARY, LAST = 11, 7
CASES = [
    pytest.param(
        Transformer(width=16, heads=4, feedforward=24, layernorm=layernorm), length, id=f"{layernorm} {length}"
    )
    for layernorm, length in itertools.product((False, True), (2, 3, 5))
]


def net_and_tokens(config: Transformer, length: int, rows: int = 40) -> tuple[TransformerNet, Tensor]:
    """A net in float64 whose parameters are all random, and inputs that end alike."""
    torch.manual_seed(3)
    net = TransformerNet(config, VOCABULARY, length, last_token=LAST)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tokens = torch.randint(VOCABULARY, (rows, length))
    tokens[:, -1] = LAST
    return net.double(), tokens


@pytest.fixture
def by_tables(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were computed by tables."""
    rows: list[int] = []
    of_tables = TransformerNet._by_tables
    monkeypatch.setattr(TransformerNet, "_by_tables", lambda self, x: rows.append(len(x)) or of_tables(self, x))
    return rows


def torchs(net: TransformerNet, length: int) -> TorchTransformer:
    oracle = TorchTransformer(net, length).double()
    oracle.load_state_dict(net.state_dict())
    oracle.table = net.pos_encoder.pe
    return oracle


@pytest.mark.parametrize(("config", "length"), CASES)
def test_outputs_and_gradients_match_torchs_encoder(config: Transformer, length: int, by_tables: list[int]) -> None:
    net, tokens = net_and_tokens(config, length)
    oracle, targets = torchs(net, length), torch.arange(40) % VOCABULARY
    net.train_by_tables = True
    found, expected = net(tokens), oracle(tokens)[:, -1]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    F.cross_entropy(found, targets).backward()
    F.cross_entropy(expected, targets).backward()
    slopes = dict(oracle.named_parameters())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, slopes[name].grad, rtol=1e-9, atol=1e-9, msg=name)
        assert parameter.grad.abs().max() > 1e-4, name
    assert by_tables == [40]


@pytest.mark.parametrize("width", [8, 16])  # fewer and more than the vocabulary
@pytest.mark.parametrize("layernorm", [False, True])
def test_outputs_without_gradients_match_torchs_encoder(width: int, layernorm: bool, by_tables: list[int]) -> None:
    net, tokens = net_and_tokens(Transformer(width=width, feedforward=24, layernorm=layernorm), 3)
    with torch.no_grad():
        torch.testing.assert_close(net(tokens), torchs(net, 3)(tokens)[:, -1], rtol=1e-10, atol=1e-10)
    assert by_tables == [40]


@pytest.mark.parametrize("layernorm", [False, True])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_float32_rounds_by_tables_as_it_does_by_layers(layernorm: bool, scale: float) -> None:
    config = Transformer(width=64, feedforward=128, layernorm=layernorm)
    torch.manual_seed(5)
    single = TransformerNet(config, 24, 3, last_token=23)
    with torch.no_grad():
        for parameter in single.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter)).mul_(scale)
    double = TransformerNet(config, 24, 3).double()
    double.load_state_dict(single.state_dict())
    double.pos_encoder.pe = single.pos_encoder.pe.double()
    digits = torch.cartesian_prod(torch.arange(23), torch.arange(23))
    tokens, targets = torch.cat([digits, torch.full((len(digits), 1), 23)], 1), digits.sum(1) % 23

    def gradient(net: TransformerNet, tables: bool) -> Tensor:
        net.train_by_tables = tables
        net.zero_grad()
        F.cross_entropy(net(tokens), targets).backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()]).double()

    exact = gradient(double, False)
    layers, tables = ((gradient(single, way) - exact).norm() / exact.norm() for way in (False, True))
    assert 0 < tables < 2 * layers < 2e-4


def test_what_does_not_end_alike_is_computed_by_layers(by_tables: list[int]) -> None:
    net, tokens = net_and_tokens(Transformer(width=16, feedforward=24), 3)
    with torch.no_grad():
        net(tokens)
        tokens[0, -1] = 0  # the same tensor, which was looked at before
        expected = torchs(net, 3)(tokens)[:, -1]
        torch.testing.assert_close(net(tokens), expected, rtol=1e-10, atol=1e-10)
    with torch.inference_mode():
        net(tokens.clone())
    assert by_tables == [40]


def test_tables_are_used_where_they_are_less_work_and_asked_for(by_tables: list[int]) -> None:
    small = Transformer(width=16, feedforward=24)
    net, tokens = net_and_tokens(small, 3)
    net(tokens)  # with gradients, and not asked for
    with torch.no_grad():
        net(tokens[:VOCABULARY])
        net(tokens, last_only=False)
        net_and_tokens(Transformer(width=16, feedforward=24, depth=2), 3)[0](tokens)
        TransformerNet(small, VOCABULARY, 3).double()(tokens)
        assert by_tables == []
        net(tokens[: VOCABULARY + 1])
    assert by_tables == [VOCABULARY + 1]


@pytest.mark.parametrize("register", ["register_forward_pre_hook", "register_forward_hook"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_hook_sees_each_layer_called_with_the_batch(register: str, depth: int, by_tables: list[int]) -> None:
    net, tokens = net_and_tokens(Transformer(width=16, feedforward=24, depth=depth, layernorm=True), 3)
    expected = net(tokens)
    seen: list[tuple[object, int]] = []
    for name in ("norm1", "self_attn.out_proj", "linear1", "linear2"):
        layer = net.transformer_encoder.layers[0].get_submodule(name)
        handle = getattr(layer, register)(lambda of, given, *_: seen.append((of, len(given[0]))))
        with torch.no_grad():
            torch.testing.assert_close(net(tokens), expected, rtol=1e-10, atol=1e-10)
        assert seen.pop() == (layer, len(tokens)), "the first block is not read from a table of tokens either"
        assert not seen
        handle.remove()
    assert by_tables == []
    net.register_forward_hook(lambda *_: None)
    with torch.no_grad():
        net(tokens)
    assert by_tables == [len(tokens)] * (depth == 1), "hooks of the whole network are no reason"
