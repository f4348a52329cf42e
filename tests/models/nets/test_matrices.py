"""From parameters to matrices (METHOD 0), and the pairs of METHOD 4.4."""

import itertools

import pytest
import torch
from torch import nn

from specdyn.models.nets.matrices import (
    LayerPair,
    Matrix,
    analysed,
    consecutive_pairs,
    feed,
    inventory,
    layers,
    shapes_of,
    state_bytes,
)
from specdyn.models.nets.transformer import Transformer, qkv_part, transformer_pairs


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


def test_the_pairs_of_a_transformer_are_the_published_ones_and_values_by_head() -> None:
    first, second = "transformer_encoder.layers.0.", "transformer_encoder.layers.1."

    def inside(layer: str) -> list[tuple[str, str, str, str]]:
        fused, out = f"{layer}self_attn.in_proj_weight", f"{layer}self_attn.out_proj.weight"
        return [
            (f"{fused}[key]", "left", f"{fused}[query]", "left"),
            (f"{fused}[value]", "left", out, "right"),
            (f"{fused}[value by head]", "left", f"{out}[by head]", "right"),
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
    assert [pair.writer.heads for pair in found] == [0, 4, 0, 4, 0, 0, 0, 4, 0, 4, 0, 0, 0]


@pytest.mark.parametrize(("depth", "pairs"), [(1, 6), (12, 61)], ids=["modular addition", "language model"])
def test_a_transformer_has_the_published_number_of_pairs(depth: int, pairs: int) -> None:
    found = [pair for pair in transformer_pairs(Transformer(depth=depth)) if "by head" not in pair.name]
    assert len(found) == pairs


def test_consecutive_pairs_have_shapes_that_fit() -> None:
    shapes = {"a": (6, 4), "b": (5, 6), "c": (7, 4), "d": (9, 7, 3, 3), "e": (3, 9)}
    found = consecutive_pairs(tuple(Matrix(parameter=name) for name in shapes), shapes)
    assert [pair.name for pair in found] == ["a -> b", "c -> d", "d -> e"]
    assert [(pair.positions, pair.shown) for pair in found] == [(1, 0), (9, 4), (1, 0)]
    assert consecutive_pairs((Matrix(parameter="a"),), shapes) == ()


@pytest.mark.parametrize(
    ("kernel", "centre"), [((3, 3), 4), ((1, 1), 0), ((2, 4), 6), ((5,), 2), ((3, 3, 3), 13), ((4, 3), 7)]
)
def test_the_centre_position_is_shown(kernel: tuple[int, ...], centre: int) -> None:
    pair = feed(Matrix(parameter="a"), Matrix(parameter="b"), {"a": (4, 2), "b": (3, 4, *kernel)})
    assert pair is not None
    positions = list(itertools.product(*map(range, kernel)))
    assert (pair.positions, pair.shown) == (len(positions), centre)
    assert positions[centre] == tuple(size // 2 for size in kernel)


def test_a_transposed_convolution_reads_by_its_first_axis_and_writes_by_its_second() -> None:
    down, up = Matrix(parameter="down"), Matrix(parameter="up", transposed=True)
    shapes = {"down": (8, 4, 3, 3), "up": (8, 4, 3, 3)}
    into, out = feed(down, up, shapes), feed(up, down, shapes)
    assert into is not None and out is not None
    assert (into.positions, out.positions) == (9, 9)
    assert feed(up, up, shapes) is None


def test_a_matrix_knows_its_shape_without_the_weights() -> None:
    net = Zoo()
    weights = dict(net.named_parameters())
    matrices = [
        *layers(net),
        Matrix(parameter="end.weight", part="x", columns=(2, 5)),
        Matrix(parameter="table.weight", part="y", rows=(0, 6), heads=3),
        Matrix(parameter="table.weight", part="z", heads=2, split="columns"),
    ]
    for matrix in matrices:
        assert matrix.shape(tuple(weights[matrix.parameter].shape)) == tuple(matrix.of(weights).shape[-2:]), matrix


def test_columns_split_by_head_are_consecutive_columns() -> None:
    w = torch.arange(12.0).view(2, 6)
    stack = Matrix(parameter="w", part="by head", heads=3, split="columns").of({"w": w})
    assert stack.tolist() == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    assert Matrix(parameter="w", part="half", columns=(3, 6)).of({"w": w}).tolist() == [[3, 4, 5], [9, 10, 11]]


def test_the_inventory_has_every_parameter_and_buffer_of_two_dimensions() -> None:
    net = Zoo()
    entries = inventory(net)
    named = [*net.named_parameters(), *net.named_buffers()]
    assert [entry.parameter for entry in entries] == [name for name, tensor in named if tensor.ndim >= 2]
    assert all(bool(entry.way) != bool(entry.skipped) for entry in entries)
    ways = {entry.parameter: entry.way or entry.skipped for entry in entries}
    assert ways["up.weight"] == "axes swapped, then flattened to (out, in * kernel)"
    assert ways["conv.weight"] == "flattened to (out, in * kernel)"
    assert ways["end.weight"] == "as it is"
    assert ways["positions"] == "a buffer, which is not trained"
    assert analysed(entries) == layers(net)
    assert shapes_of(net)["conv.weight"] == (6, 4, 2, 3)


def test_the_parts_of_a_pair_are_its_positions_or_gates() -> None:
    a, b = Matrix(parameter="a"), Matrix(parameter="b")
    assert [LayerPair(writer=a, reader=b, positions=p, gates=g).parts for p, g in ((1, 1), (9, 1), (1, 4))] == [1, 9, 4]


def test_state_bytes_count_buffers_too() -> None:
    norm = nn.BatchNorm2d(6)
    assert state_bytes(norm) == 4 * 4 * 6 + 8  # weight, bias, mean, variance; one int64
