"""Kinds and depths of layers, worked out by hand; short names."""

import pytest
from torch import nn

from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.layers import layer_depths, layer_kinds, module_kinds, short_names
from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.tasks.spectra.network_layout import layer_coordinates, network_layout

A, B, C, D = (Matrix(parameter=name) for name in "abcd")


def feeds(writer: Matrix, reader: Matrix, **more: object) -> LayerPair:
    return LayerPair(writer=writer, reader=reader, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("experiment", "preset", "expected"),
    [
        (
            "modular_addition",
            "smoke",
            "embedding 0, attention 1, attention 2, mlp 3, mlp 4, output 5",
        ),
        ("modular_addition", "mlp", "mlp 0, mlp 1, mlp 2, mlp 3, output 4"),
        ("image_classification", "smoke", ", ".join([*(f"conv {depth}" for depth in range(13)), "output 13"])),
        (
            # What time tells is added to each convolution's output, which the next one reads; no pair reads the rest.
            "image_generation",
            "smoke",
            "mlp -1, conv 0, mlp 0, conv 1, mlp 1, conv 2, mlp 2, conv 3, mlp 3, conv 4, mlp -1, conv 5, mlp -1, "
            "conv 6, mlp -1, output 7",
        ),
        (
            # Both directions of a layer lie side by side; in the first one the recurrence reads what the input writes.
            "speech_recognition",
            "smoke",
            "recurrent 0, recurrent 1, recurrent 0, recurrent 1, recurrent 2, recurrent 2, recurrent 2, recurrent 2, "
            "output 3",
        ),
    ],
)
def test_kinds_and_depths_of_the_experiments(experiment: str, preset: str, expected: str) -> None:
    layout = network_layout(get_experiment(experiment).preset(preset).spec)
    found = layer_coordinates(layout)
    kinds, depths = found["kind"][1], found["depth"][1]
    assert ", ".join(f"{kind} {depth}" for kind, depth in zip(kinds, depths, strict=True)) == expected
    assert len(set(found["short_name"][1])) == len(layout.layers)


def test_kinds_go_by_modules_and_what_is_in_an_attention_belongs_to_it() -> None:
    net = nn.ModuleDict(
        {
            "words": nn.Embedding(5, 4),
            "mix": nn.MultiheadAttention(4, 2),
            "cell": nn.GRUCell(4, 4),
            "up": nn.Linear(4, 8),
        }
    )
    kinds = module_kinds(net)
    matrices = {name: kinds[name] for name, parameter in net.named_parameters() if parameter.ndim == 2}
    assert matrices == {
        "words.weight": "embedding",
        "mix.in_proj_weight": "attention",
        "mix.out_proj.weight": "attention",
        "cell.weight_ih": "recurrent",
        "cell.weight_hh": "recurrent",
        "up.weight": "mlp",
    }
    assert module_kinds(nn.ParameterDict({"own": nn.Parameter()})) == {"own": ""}


def test_what_is_compared_head_by_head_is_attention_and_the_last_is_the_output_unless_it_is_read() -> None:
    by_head = feeds(Matrix(parameter="a", heads=2), Matrix(parameter="b", heads=2))
    assert layer_kinds([A, B, C, D], [by_head], ["mlp"] * 4) == ["attention", "attention", "mlp", "output"]
    assert layer_kinds([A, B], [feeds(B, A)], ["conv", "conv"]) == ["conv", "conv"]
    assert layer_kinds([A, B], [], ["output", "mlp"]) == ["output", "mlp"]
    assert layer_kinds([A], [], [""]) == [""]


def test_depths_follow_the_longest_way_and_are_missing_where_no_pair_leads() -> None:
    # a -> b -> c, and a -> c: c comes after two layers. d is in no pair.
    assert layer_depths([A, B, C, D], [feeds(A, B), feeds(B, C), feeds(A, C)]) == [0, 1, 2, -1]
    # d is read by c alone: it stands beside b, right before it.
    assert layer_depths([A, B, C, D], [feeds(A, B), feeds(B, C), feeds(D, C)]) == [0, 1, 2, 1]
    # Keys and queries are compared, and do not follow one another; parts are those of their layer.
    keys = feeds(Matrix(parameter="b", part="key"), Matrix(parameter="b", part="query"), reader_vectors="left")
    part = feeds(Matrix(parameter="b", part="value"), C)
    assert layer_depths([A, B, C], [feeds(A, B), keys, part]) == [0, 1, 2]
    assert layer_depths([A, B], [feeds(A, B), feeds(B, A)]) == [-1, -1]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (("embed.weight", "blocks.0.in_proj_weight", "blocks.0.out_proj.weight"), ["embed", "in_proj", "out_proj"]),
        (["b.0.linear.weight", "b.1.linear.weight", "head.weight"], ["0.linear", "1.linear", "head"]),
        (["features.0.weight", "features.3.weight", "out.weight"], ["features.0", "features.3", "out"]),
        (["layer1.0.conv.weight", "layer2.0.conv.weight"], ["layer1.0.conv", "layer2.0.conv"]),
        (["weight"], ["weight"]),
        (["0.weight", "2.weight"], ["0.weight", "2.weight"]),
        (["a.weight -> b.weight", "b.weight[key] -> b.weight[query]"], ["a → b", "b[key] → b[query]"]),
    ],
)
def test_short_names_tell_the_layers_apart(names: list[str], short: list[str]) -> None:
    assert list(short_names(names).values()) == short
