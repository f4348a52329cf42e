"""From parameters to matrices (METHOD 0), and the pairs of METHOD 4.4."""

import itertools

import pytest
import torch
from torch import nn

from models.matrices import Matrix, consecutive_pairs, layers, rank_limit, state_bytes
from models.nets.transformer import Transformer, TransformerNet, qkv_part, transformer_pairs


class Zoo(nn.Module):
    """One of every kind of parameter, registered in an order that is not alphabetical."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 5, (2, 4))
        self.conv = nn.Conv2d(4, 6, (2, 3))
        self.norm = nn.BatchNorm2d(6)
        self.line = nn.ConvTranspose1d(2, 7, 3)
        self.recurrent = nn.LSTM(4, 3, bidirectional=True)
        self.table = nn.Embedding(9, 4)
        self.register_buffer("positions", torch.zeros(8, 8))
        self.alone = nn.Parameter(torch.zeros(2, 3, 4))
        self.end = nn.Linear(6, 2)


def test_matrix_parameters_are_found_in_registration_order_without_biases_norms_and_buffers() -> None:
    net = Zoo()
    weights = dict(net.named_parameters())
    assert [(matrix.name, tuple(matrix.of(weights).shape)) for matrix in layers(net)] == [
        ("alone", (2, 12)),  # a module's own parameters come before those of its children
        ("up.weight", (5, 3 * 2 * 4)),
        ("conv.weight", (6, 4 * 2 * 3)),
        ("line.weight", (7, 2 * 3)),
        ("recurrent.weight_ih_l0", (12, 4)),
        ("recurrent.weight_hh_l0", (12, 3)),
        ("recurrent.weight_ih_l0_reverse", (12, 4)),
        ("recurrent.weight_hh_l0_reverse", (12, 3)),
        ("table.weight", (9, 4)),
        ("end.weight", (2, 6)),
    ]


def test_a_convolution_is_flattened_by_input_channel_then_kernel_position() -> None:
    net = Zoo()
    w = net.conv.weight
    flat = next(m for m in layers(net) if m.name == "conv.weight").of(dict(net.named_parameters()))
    for o, c, y, x in itertools.product(range(6), range(4), range(2), range(3)):
        assert flat[o, (c * 2 + y) * 3 + x] == w[o, c, y, x]


def test_a_transposed_convolution_swaps_its_channels_first() -> None:
    net = Zoo()
    w = net.up.weight  # (c_in, c_out, kh, kw)
    flat = next(m for m in layers(net) if m.name == "up.weight").of(dict(net.named_parameters()))
    for c, o, y, x in itertools.product(range(3), range(5), range(2), range(4)):
        assert flat[o, (c * 2 + y) * 4 + x] == w[c, o, y, x]


def test_a_part_is_its_rows_and_a_stack_its_heads_of_consecutive_rows() -> None:
    w = torch.arange(24.0).view(12, 2)
    part = Matrix(parameter="w", part="key", rows=(4, 8))
    stack = Matrix(parameter="w", part="key", rows=(4, 8), heads=2)
    assert part.name == stack.name == "w[key]"
    assert part.of({"w": w}).tolist() == [[8, 9], [10, 11], [12, 13], [14, 15]]
    assert stack.of({"w": w}).tolist() == [[[8, 9], [10, 11]], [[12, 13], [14, 15]]]


@pytest.mark.parametrize(("part", "start"), [("query", 0), ("key", 128), ("value", 256)])
def test_the_fused_projection_holds_query_key_and_value_in_this_order(part: str, start: int) -> None:
    w = torch.arange(384.0).unsqueeze(1).expand(384, 128)
    rows = qkv_part(Transformer(), "w", part).of({"w": w})[:, 0]
    assert rows.tolist() == list(range(start, start + 128))
    heads = qkv_part(Transformer(), "w", part, heads=4).of({"w": w})
    assert heads.shape == (4, 32, 128)
    assert heads[:, 0, 0].tolist() == [start, start + 32, start + 64, start + 96]


def test_the_pairs_of_a_transformer_are_the_published_ones() -> None:
    first, second = "transformer_encoder.layers.0.", "transformer_encoder.layers.1."

    def inside(layer: str) -> list[tuple[str, str, str, str]]:
        fused, out = f"{layer}self_attn.in_proj_weight", f"{layer}self_attn.out_proj.weight"
        return [
            (f"{fused}[key]", "left", f"{fused}[query]", "left"),
            (f"{fused}[value]", "left", out, "right"),
            (out, "left", f"{layer}linear1.weight", "right"),
            (f"{layer}linear1.weight", "left", f"{layer}linear2.weight", "right"),
        ]

    found = transformer_pairs(Transformer(depth=2))
    assert [(p.writer.name, p.writer_vectors, p.reader.name, p.reader_vectors) for p in found] == [
        ("encoder.weight", "right", f"{first}self_attn.in_proj_weight", "right"),
        *inside(first),
        (f"{first}linear2.weight", "left", f"{second}self_attn.in_proj_weight", "right"),
        *inside(second),
        (f"{second}linear2.weight", "left", "decoder.weight", "right"),
    ]
    assert [pair.writer.heads for pair in found] == [0, 4, 0, 0, 0, 0, 4, 0, 0, 0, 0]


@pytest.mark.parametrize(("depth", "pairs"), [(1, 6), (12, 61)], ids=["modular addition", "language model"])
def test_a_transformer_has_the_published_number_of_pairs(depth: int, pairs: int) -> None:
    assert len(transformer_pairs(Transformer(depth=depth))) == pairs


def test_consecutive_pairs_lead_from_each_layer_to_the_next() -> None:
    a, b, c = (Matrix(parameter=name) for name in "abc")
    assert [pair.name for pair in consecutive_pairs((a, b, c))] == ["a -> b", "b -> c"]
    assert consecutive_pairs((a,)) == ()


def test_the_rank_limit_is_the_largest_of_the_smaller_sides() -> None:
    net = TransformerNet(Transformer(width=8, heads=2, feedforward=20), vocabulary=30, length=3)
    assert rank_limit(layers(net), net) == 8
    zoo = Zoo()
    assert rank_limit(layers(zoo), zoo) == 6  # of the convolution, 6 x 24


def test_state_bytes_count_buffers_too() -> None:
    norm = nn.BatchNorm2d(6)
    assert state_bytes(norm) == 4 * 4 * 6 + 8  # weight, bias, mean, variance; one int64
