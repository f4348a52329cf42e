"""Parameter counts, names, order and initialisation of the networks (METHOD 1.1, 1.2, 1.5)."""

import math

import pytest
import torch
from torch import nn

from reference.transformers import positions
from specdyn.models.datasets.decoders.modular_addition import ModularAddition
from specdyn.models.nets.matrices import layers, state_bytes
from specdyn.models.nets.mlp import Mlp, MlpNet
from specdyn.models.nets.transformer import Transformer, TransformerNet, positional_table

LANGUAGE = Transformer(width=768, heads=12, feedforward=768, depth=12, layernorm=True)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("config", "vocabulary", "length", "count"),
    [
        (Transformer(), 114, 3, 227_058),
        (Transformer(layernorm=True), 98, 3, 223_458),
        (LANGUAGE, 50_254, 2048, 119_799_886),
    ],
    ids=["p=113 without LayerNorm", "p=97 with LayerNorm", "language model"],
)
def test_a_transformer_has_the_published_number_of_parameters(
    config: Transformer, vocabulary: int, length: int, count: int
) -> None:
    with torch.device("meta"):
        assert parameters(TransformerNet(config, vocabulary, length)) == count


@pytest.mark.parametrize(
    ("config", "inputs", "outputs", "count"),
    [(Mlp(), 46, 23, 37_323), (Mlp(width=256, hidden_layers=3), 3072, 10, 920_842)],
    ids=["p=23", "CIFAR-10"],
)
def test_an_mlp_has_the_published_number_of_parameters(config: Mlp, inputs: int, outputs: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters(MlpNet(config, inputs, outputs)) == count


def test_a_checkpoint_holds_the_parameters_and_no_positional_table() -> None:
    assert state_bytes(TransformerNet(Transformer(), 114, 3)) == 4 * 227_058


def test_the_matrices_of_the_transformer_are_the_published_ones_in_order() -> None:
    net = TransformerNet(Transformer(layernorm=True), vocabulary=114, length=3)
    weights = dict(net.named_parameters())
    assert [(layer.name, tuple(layer.of(weights).shape)) for layer in layers(net)] == [
        ("encoder.weight", (114, 128)),
        ("transformer_encoder.layers.0.self_attn.in_proj_weight", (384, 128)),
        ("transformer_encoder.layers.0.self_attn.out_proj.weight", (128, 128)),
        ("transformer_encoder.layers.0.linear1.weight", (512, 128)),
        ("transformer_encoder.layers.0.linear2.weight", (128, 512)),
        ("decoder.weight", (114, 128)),
    ]


def test_the_language_model_has_50_matrices() -> None:
    with torch.device("meta"):
        assert len(layers(TransformerNet(LANGUAGE, vocabulary=50_254, length=8))) == 50


def test_the_matrices_of_the_mlp_are_its_layers_in_order() -> None:
    net = MlpNet(Mlp(), inputs=226, outputs=113)
    shapes = [tuple(layer.of(dict(net.named_parameters())).shape) for layer in layers(net)]
    assert [layer.name for layer in layers(net)] == [f"layers.{i}.weight" for i in range(5)]
    assert shapes == [(100, 226), (100, 100), (100, 100), (100, 100), (113, 100)]


@pytest.mark.parametrize(("length", "width"), [(3, 128), (7, 6), (4, 5), (1, 1)])
def test_the_positional_table_follows_the_formula(length: int, width: int) -> None:
    torch.testing.assert_close(positional_table(length, width), positions(length, width), rtol=0, atol=1e-6)


def test_embedding_and_decoder_are_uniform_within_a_tenth() -> None:
    torch.manual_seed(0)
    net = TransformerNet(Transformer(), vocabulary=114, length=3)
    for weight in (net.encoder.weight.detach(), net.decoder.weight.detach()):
        assert 0.0999 < float(weight.abs().max()) <= 0.1
        assert float(weight.std()) == pytest.approx(0.2 / math.sqrt(12), rel=0.02)
    assert not net.decoder.bias.any()


def test_the_mlp_has_relu_between_its_layers_and_none_after_the_last() -> None:
    net = MlpNet(Mlp(width=2, hidden_layers=1), inputs=1, outputs=1)
    net.load_state_dict(
        {
            "layers.0.weight": torch.tensor([[1.0], [-1.0]]),
            "layers.0.bias": torch.tensor([0.0, 1.0]),
            "layers.1.weight": torch.tensor([[1.0, -2.0]]),
            "layers.1.bias": torch.tensor([0.5]),
        }
    )
    # x=3: relu(3, -2) = (3, 0) -> 3.5;  x=-3: relu(-3, 4) = (0, 4) -> -7.5
    torch.testing.assert_close(net(torch.tensor([[3.0], [-3.0]])), torch.tensor([[3.5], [-7.5]]))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Transformer, {"heads": 5}, r"heads=5 is not allowed: expected a divisor of width=128"),
        (Transformer, {"depth": 0}, r"depth=0 is not allowed: expected an integer of 1 or more"),
        (Transformer, {"width": 128.5}, r"width=128.5 is not allowed: expected an integer"),
        (Transformer, {"layernorm": "no"}, r"layernorm='no' is not allowed: expected True or False"),
        (Mlp, {"width": 0}, r"width=0 is not allowed: expected an integer of 1 or more"),
        (Mlp, {"hidden_layers": -1}, r"hidden_layers=-1 is not allowed"),
        (ModularAddition, {"prime": 113.5}, r"prime=113.5 is not allowed: expected an integer"),
    ],
)
def test_a_setting_that_makes_no_network_is_refused(kind: type, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)
