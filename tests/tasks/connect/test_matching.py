"""Hidden units put in the order of another network's."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.models.nets.convnet import LeNet, LeNetNet, ResNet, ResNetNet, Vgg, VggNet
from specdyn.models.nets.matrices import Matrix, layers
from specdyn.models.nets.mlp import Mlp, MlpNet
from specdyn.models.nets.transformer import LanguageModel, Transformer, TransformerNet
from specdyn.tasks.connect.matching import Axis, Group, groups, match, permute, places
from specdyn.tasks.connect.paths import ALPHAS, barrier, blend
from specdyn.tasks.spectra.decomposition import decompose, reordered

SMALL = Transformer(width=12, heads=3, feedforward=10, depth=2)
LARGE = Transformer(width=16, heads=8, feedforward=24, depth=3, layernorm=True)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP": (lambda: MlpNet(Mlp(width=16, hidden_layers=3), inputs=12, outputs=5), (12,)),
    "one hidden layer": (lambda: MlpNet(Mlp(width=6, hidden_layers=1), inputs=12, outputs=5), (12,)),
    "VGG": (lambda: VggNet(Vgg(width=4), channels=3, classes=10), (3, 32, 32)),
    "ResNet": (lambda: ResNetNet(ResNet(width=4, blocks=2), channels=3, classes=10), (3, 32, 32)),
    "LeNet": (lambda: LeNetNet(LeNet(), channels=1, size=28, classes=10), (1, 28, 28)),
    "transformer": (lambda: TransformerNet(SMALL, vocabulary=9, length=4), ()),
    "transformer with LayerNorm": (lambda: TransformerNet(LARGE, vocabulary=9, length=4), ()),
    "language model": (lambda: LanguageModel(SMALL, vocabulary=9, length=4), ()),
}
"""Name -> what builds the network, and the shape of an example, () for four tokens of nine."""
EVERY = pytest.mark.parametrize("name", NETWORKS)


def drawn(name: str, seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network in evaluation mode and random weights for it in float64, with no bias, norm or statistic plain."""
    net = NETWORKS[name][0]().double().eval()
    draw = torch.Generator().manual_seed(seed)
    weights = {}
    for entry, tensor in net.state_dict().items():
        noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
        if not tensor.is_floating_point():
            weights[entry] = torch.tensor(7 + seed)
        elif tensor.ndim > 1:
            weights[entry] = noise * math.sqrt(2 / tensor[0].numel())
        else:
            plain = 1.0 if entry.endswith(("running_var", "weight")) else 0.0
            weights[entry] = plain + 0.3 * noise.clamp(-2, 2)
    return net, weights


def outputs(name: str, net: nn.Module, weights: Mapping[str, Tensor]) -> Tensor:
    shape = NETWORKS[name][1]
    draw = torch.Generator().manual_seed(5)
    batch = torch.randn(6, *shape, generator=draw, dtype=torch.float64)
    net.load_state_dict(dict(weights))
    with torch.no_grad():
        return net(batch if shape else torch.randint(9, (6, 4), generator=draw))


def shuffles(found: Sequence[Group], seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1000 + seed)
    return {group.name: torch.randperm(group.size, generator=draw) for group in found}


def rolls(found: Sequence[Group]) -> dict[str, Tensor]:
    """Permutations that leave no unit in its place."""
    return {group.name: torch.arange(group.size).roll(1) for group in found}


def inner_product(a: Mapping[str, Tensor], b: Mapping[str, Tensor], found: Sequence[Group]) -> float:
    """Of all that the groups move, but for running statistics, number by number."""
    entries = {axis.entry for group in found for axis in group.axes if "running_" not in axis.entry}
    return math.fsum(math.fsum((a[entry].double() * b[entry].double()).flatten().tolist()) for entry in entries)


def test_the_units_of_an_mlp_are_rows_biases_and_the_columns_that_read_them() -> None:
    net = MlpNet(Mlp(width=7, hidden_layers=2), inputs=3, outputs=2)
    first, second = groups(net)
    assert (first.name, first.size, second.name, second.size) == ("layers.0", 7, "layers.1", 7)
    assert first.axes == (Axis("layers.0.weight", 0), Axis("layers.0.bias", 0), Axis("layers.1.weight", 1))
    assert second.axes == (Axis("layers.1.weight", 0), Axis("layers.1.bias", 0), Axis("layers.2.weight", 1))


def test_the_channels_of_a_vgg_take_their_norms_along_and_end_in_the_head() -> None:
    net = VggNet(Vgg(width=2), channels=3, classes=10)
    found = groups(net)
    assert [group.size for group in found] == [2, 2, 4, 4, 8, 8, 8, 16, 16, 16, 16, 16, 16]
    moved = {(axis.entry, axis.axis) for group in found for axis in group.axes}
    by_shape = {
        (entry, axis)
        for entry, tensor in net.state_dict().items()
        for axis in range(min(tensor.ndim, 2))
        if (entry, axis) not in {("layers.0.conv.weight", 1), ("fc.weight", 0), ("fc.bias", 0)}
    }
    assert moved == by_shape
    assert {axis.entry.rsplit(".", 1)[1] for group in found for axis in group.axes if not axis.scored} == {
        "running_mean",
        "running_var",
    }


def test_flattened_channels_are_blocks_of_pixels() -> None:
    found = groups(LeNetNet(LeNet(), channels=1, size=28, classes=10))
    assert found[1].axes[-1] == Axis("layers.0.weight", 1, block=16)  # of 4 x 4
    assert [group.size for group in found] == [6, 16, 120, 84]


def test_a_transformer_has_heads_and_hidden_units_in_every_block() -> None:
    found = groups(TransformerNet(SMALL, vocabulary=9, length=4))
    prefix = "transformer_encoder.layers.1."
    assert [(group.name.rsplit(".", 1)[1], group.size) for group in found] == [("self_attn", 3), ("linear1", 10)] * 2
    assert found[2].axes == (
        Axis(prefix + "self_attn.in_proj_weight", 0, block=4, parts=3),
        Axis(prefix + "self_attn.in_proj_bias", 0, block=4, parts=3),
        Axis(prefix + "self_attn.out_proj.weight", 1, block=4),
    )
    assert found[3].axes == (
        Axis(prefix + "linear1.weight", 0),
        Axis(prefix + "linear1.bias", 0),
        Axis(prefix + "linear2.weight", 1),
    )


def test_other_networks_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Linear: supported are MlpNet, VggNet, ResNetNet, LeNetNet, TransformerNet"):
        groups(nn.Linear(3, 2))


def test_the_blocks_of_a_resnet_share_the_channels_that_they_add_to() -> None:
    net = ResNetNet(ResNet(), channels=3, classes=10)
    found = {group.name: group for group in groups(net)}
    assert [group.size for group in found.values()] == [16] * 3 + [32, 16, 32, 32] + [64, 32, 64, 64] + [64]
    assert list(found) == [
        *(f"blocks.{i}.conv1" for i in range(4)),
        "conv",
        *(f"blocks.{i}.conv1" for i in range(4, 7)),
        "blocks.3.conv2",
        *(f"blocks.{i}.conv1" for i in range(7, 9)),
        "blocks.6.conv2",
    ]
    stage = {(axis.entry, axis.axis) for axis in found["blocks.3.conv2"].axes if axis.entry.endswith("weight")}
    assert stage == {
        *((f"blocks.{i}.{part}.weight", 0) for i in (3, 4, 5) for part in ("conv2", "bn2")),
        *((f"blocks.3.shortcut.{part}.weight", 0) for part in (0, 1)),
        *((f"blocks.{i}.conv1.weight", 1) for i in (4, 5, 6)),
        ("blocks.6.shortcut.0.weight", 1),
    }
    moved = {(axis.entry, axis.axis) for group in found.values() for axis in group.axes}
    assert moved == {
        (entry, axis)
        for entry, tensor in net.state_dict().items()
        for axis in range(min(tensor.ndim, 2))
        if (entry, axis) not in {("conv.weight", 1), ("fc.weight", 0), ("fc.bias", 0)}
    }


@pytest.mark.parametrize("name", ["ResNet", "VGG", "transformer"])
def test_a_permuted_network_lies_behind_a_barrier_that_matching_removes(name: str) -> None:
    net, a = drawn(name)
    b = permute(a, groups(net), shuffles(groups(net), 3))
    right = outputs(name, net, a).argmax(-1)
    moved = permute(b, groups(net), match(a, b, groups(net), seed=0).permutations)

    def losses(end: Mapping[str, Tensor]) -> list[float]:
        logits = (outputs(name, net, blend(a, end, alpha)) for alpha in ALPHAS)
        return [float(F.cross_entropy(one.flatten(0, -2), right.flatten())) for one in logits]

    before, after = losses(b), losses(moved)
    assert before[0] == pytest.approx(before[-1]) == after[0] == after[-1]
    assert barrier(before) > 0.1
    assert barrier(after) == pytest.approx(0, abs=1e-12)


@EVERY
@pytest.mark.parametrize("seed", [0, 1])
def test_a_permuted_network_computes_the_same(name: str, seed: int) -> None:
    net, weights = drawn(name, seed)
    found = groups(net)
    permuted = permute(weights, found, shuffles(found, seed) if seed else rolls(found))
    assert list(permuted) == list(weights)
    assert {axis.entry for group in found for axis in group.axes} == {
        entry for entry in weights if permuted[entry] is not weights[entry]
    }
    expected = outputs(name, net, weights)
    assert expected.std() > 1e-3
    torch.testing.assert_close(outputs(name, net, permuted), expected, rtol=1e-10, atol=1e-10)


@EVERY
def test_every_axis_of_every_group_is_needed(name: str) -> None:
    net, weights = drawn(name)
    expected = outputs(name, net, weights)
    for group in groups(net):
        for axis in group.axes:
            kept = tuple(other for other in group.axes if other != axis)
            part = dataclasses.replace(group, axes=kept)
            changed = outputs(name, net, permute(weights, [part], rolls([part]))) - expected
            assert changed.abs().max() > 1e-7, axis


def test_place_i_is_taken_by_unit_p_i() -> None:
    _, weights = drawn("transformer")
    found = groups(TransformerNet(SMALL, vocabulary=9, length=4))[:2]
    p, q = torch.tensor([2, 0, 1]), torch.arange(10).flip(0)
    permuted = permute(weights, found, dict(zip((group.name for group in found), (p, q), strict=True)))
    prefix = "transformer_encoder.layers.0."
    fused = prefix + "self_attn.in_proj_weight"
    places = [4 * int(head) + k for head in p for k in range(4)]
    for part in range(3):
        assert torch.equal(permuted[fused][12 * part : 12 * part + 12], weights[fused][[12 * part + i for i in places]])
    out = prefix + "self_attn.out_proj.weight"
    assert torch.equal(permuted[out], weights[out][:, places])
    assert torch.equal(permuted[prefix + "linear1.bias"], weights[prefix + "linear1.bias"].flip(0))
    assert torch.equal(permuted[prefix + "linear2.weight"], weights[prefix + "linear2.weight"].flip(1))


@EVERY
def test_a_permuted_layer_is_the_layer_with_its_rows_and_columns_in_other_places(name: str) -> None:
    net, weights = drawn(name)
    found = groups(net)
    order = shuffles(found, 0)
    moved = permute(weights, found, order)
    changed = 0
    for layer in layers(net):
        rows, columns = places(layer, weights, found, order)
        before, after = layer.of(weights), layer.of(moved)
        assert torch.equal(before[rows][:, columns], after)
        changed += not torch.equal(before, after)
        there = reordered(decompose(before), rows, columns)
        again = (there.left * there.s) @ there.right.mT
        torch.testing.assert_close(again, after.float(), rtol=0, atol=1e-5 * float(there.s[0]))
    assert changed > 1


def test_an_order_that_brings_numbers_into_a_part_is_refused() -> None:
    torn = Group(name="torn", size=2, axes=(Axis("w", 1, block=2),))
    weights, order = {"w": torch.arange(8.0).view(2, 4)}, {"torn": torch.tensor([1, 0])}
    with pytest.raises(ValueError, match=r"permutations=\['torn'\] is not allowed: expected ones that move whole rows"):
        places(Matrix(parameter="w", columns=(0, 2)), weights, [torn], order)


def test_groups_without_a_permutation_stay_and_the_network_is_left_alone() -> None:
    net, weights = drawn("MLP")
    before = {entry: tensor.clone() for entry, tensor in weights.items()}
    found = groups(net)
    permuted = permute(weights, found, {"layers.1": torch.arange(16).flip(0)})
    assert permuted["layers.0.weight"] is weights["layers.0.weight"]
    assert torch.equal(permuted["layers.1.weight"], weights["layers.1.weight"].flip(0))
    assert all(torch.equal(weights[entry], before[entry]) for entry in before)


@EVERY
@pytest.mark.parametrize("seed", range(3))
def test_a_shuffled_network_is_put_back_bit_for_bit(name: str, seed: int) -> None:
    net, weights = drawn(name, seed)
    found, wanted = groups(net), shuffles(groups(net), seed)
    a = permute(weights, found, wanted)
    matched = match(a, weights, found, seed)
    assert {name: p.tolist() for name, p in matched.permutations.items()} == {n: p.tolist() for n, p in wanted.items()}
    back = permute(weights, found, matched.permutations)
    assert all(torch.equal(back[entry], a[entry]) for entry in a)
    assert matched.objectives[-1] == pytest.approx(inner_product(a, a, found), rel=1e-12)


@EVERY
@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_noise_does_not_hide_the_order(name: str, noise: float) -> None:
    net, weights = drawn(name, 4)
    found, wanted = groups(net), shuffles(groups(net), 4)
    draw = torch.Generator().manual_seed(8)
    a = {
        entry: (tensor + noise * tensor.std() * torch.randn(tensor.shape, generator=draw)).float()
        if tensor.ndim > 1
        else tensor
        for entry, tensor in permute(weights, found, wanted).items()
    }
    b = {entry: tensor.float() if tensor.ndim > 1 else tensor for entry, tensor in weights.items()}
    for seed in range(3):
        permutations = match(a, b, found, seed).permutations
        assert all(torch.equal(permutations[group], wanted[group]) for group in wanted)


def test_an_order_made_by_hand_is_found() -> None:
    torch.manual_seed(0)
    b = {entry: tensor.detach() for entry, tensor in MlpNet(Mlp(width=5, hidden_layers=2), 8, 3).state_dict().items()}
    p, q = [3, 1, 4, 0, 2], [1, 0, 2, 4, 3]
    a = {
        "layers.0.weight": b["layers.0.weight"][p],
        "layers.0.bias": b["layers.0.bias"][p],
        "layers.1.weight": b["layers.1.weight"][q][:, p],
        "layers.1.bias": b["layers.1.bias"][q],
        "layers.2.weight": b["layers.2.weight"][:, q],
        "layers.2.bias": b["layers.2.bias"],
    }
    x = torch.randn(4, 8)
    hidden = F.relu(F.linear(F.relu(F.linear(x, a["layers.0.weight"], a["layers.0.bias"])), *list(a.values())[2:4]))
    net = MlpNet(Mlp(width=5, hidden_layers=2), 8, 3)
    net.load_state_dict(b)
    torch.testing.assert_close(F.linear(hidden, *list(a.values())[4:]), net(x))
    matched = match(a, b, groups(net), seed=0)
    assert {name: found.tolist() for name, found in matched.permutations.items()} == {"layers.0": p, "layers.1": q}


def tiny(seed: int, hidden_layers: int) -> tuple[dict[str, Tensor], tuple[Group, ...]]:
    torch.manual_seed(seed)
    net = MlpNet(Mlp(width=4, hidden_layers=hidden_layers), inputs=3, outputs=2)
    return {entry: tensor.detach() for entry, tensor in net.state_dict().items()}, groups(net)


@pytest.mark.parametrize("seed", range(5))
def test_of_one_group_the_best_order_of_all_is_found(seed: int) -> None:
    (a, found), (b, _) = tiny(seed, 1), tiny(seed + 50, 1)
    every = {
        p: inner_product(a, permute(b, found, {"layers.0": torch.tensor(p)}), found)
        for p in itertools.permutations(range(4))
    }
    matched = match(a, b, found, seed)
    assert tuple(matched.permutations["layers.0"].tolist()) == max(every, key=every.__getitem__)
    assert matched.objectives[0] == pytest.approx(every[0, 1, 2, 3], rel=1e-12)
    assert matched.objectives[-1] == pytest.approx(max(every.values()), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_group_alone_could_do_better_at_the_end(seed: int) -> None:
    (a, found), (b, _) = tiny(seed, 3), tiny(seed + 50, 3)
    matched = match(a, b, found, seed)
    moved = permute(b, found, matched.permutations)
    assert matched.objectives[-1] == pytest.approx(inner_product(a, moved, found), rel=1e-12)
    for group, p in itertools.product(found, itertools.permutations(range(4))):
        other = inner_product(a, permute(moved, found, {group.name: torch.tensor(p)}), found)
        assert other <= matched.objectives[-1] + 1e-12


def unlike_networks() -> tuple[dict[str, Tensor], dict[str, Tensor], tuple[Group, ...]]:
    (net, a), (_, b) = drawn("VGG", 0), drawn("VGG", 1)
    return a, b, groups(net)


def test_the_objective_never_falls_and_the_last_sweep_gains_nothing() -> None:
    a, b, found = unlike_networks()
    objectives = match(a, b, found, seed=0).objectives
    assert len(objectives) > 4
    assert all(later > earlier for earlier, later in itertools.pairwise(objectives[:-1]))
    assert objectives[-1] == objectives[-2]
    assert objectives[0] == pytest.approx(inner_product(a, b, found), rel=1e-12)


def test_sweeps_are_limited_and_each_ends_where_it_says() -> None:
    a, b, found = unlike_networks()
    whole = match(a, b, found, seed=0)
    for sweeps in (0, 1, 2):
        part = match(a, b, found, seed=0, sweeps=sweeps)
        assert part.objectives == whole.objectives[: sweeps + 1]
        moved = permute(b, found, part.permutations)
        assert part.objectives[-1] == pytest.approx(inner_product(a, moved, found), rel=1e-12)


def test_a_seed_decides_the_answer_and_another_seed_changes_the_order() -> None:
    a, b, found = unlike_networks()
    first, again = match(a, b, found, seed=3), match(a, b, found, seed=3)
    assert first.objectives == again.objectives
    assert all(torch.equal(p, again.permutations[name]) for name, p in first.permutations.items())
    assert len({match(a, b, found, seed).objectives[-1] for seed in range(4)}) > 1


def test_running_statistics_move_and_do_not_count() -> None:
    a, b, found = unlike_networks()
    other = {entry: 1e6 * tensor.flip(0) if "running_" in entry else tensor for entry, tensor in b.items()}
    first, second = match(a, b, found, seed=0), match(a, other, found, seed=0)
    assert first.objectives == second.objectives
    assert all(torch.equal(p, second.permutations[name]) for name, p in first.permutations.items())
    for i in (0, 1, 3):
        p = first.permutations[f"layers.{i}.conv"]
        entry = f"layers.{i}.bn.running_var"
        assert torch.equal(permute(b, found, first.permutations)[entry], b[entry][p])


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("alike", [0.0, 1 / 3])
def test_units_that_are_alike_or_dead_stay_where_they_are(seed: int, alike: float) -> None:
    net, b = drawn("MLP", seed)
    for axis in itertools.chain.from_iterable(group.axes for group in groups(net)):
        b[axis.entry].narrow(axis.axis, 3, 9).fill_(alike)
    matched = match(b, b, groups(net), seed)
    assert matched.objectives == (matched.objectives[0],) * 2
    assert all(p.tolist() == list(range(16)) for p in matched.permutations.values())


@pytest.mark.parametrize("seed", range(5))
def test_rounding_moves_no_unit_where_all_are_alike(seed: int) -> None:
    (net, a), (_, b) = drawn("MLP", seed), drawn("MLP", seed + 50)
    for axis in itertools.chain.from_iterable(group.axes for group in groups(net)):
        w = b[axis.entry].movedim(axis.axis, 0)
        w[:] = w[:1].clone()
    matched = match(a, b, groups(net), seed)
    assert len(matched.objectives) == 2
    assert all(p.tolist() == list(range(16)) for p in matched.permutations.values())


def test_units_that_hardly_differ_are_distinguished() -> None:
    net, b = drawn("MLP", 0)
    for axis in itertools.chain.from_iterable(group.axes for group in groups(net)):
        w = b[axis.entry].movedim(axis.axis, 0)
        w[1:4] = w[0] + 1e-4 * w[1:4]
    wanted = {group.name: torch.tensor([1, 0, 3, 2, *range(4, 16)]) for group in groups(net)}
    permutations = match(permute(b, groups(net), wanted), b, groups(net), seed=0).permutations
    assert all(torch.equal(permutations[name], p) for name, p in wanted.items())


@pytest.mark.parametrize("dead", [1e-3, 1e-6])
def test_small_units_among_large_ones_find_their_places(dead: float) -> None:
    net, weights = drawn("MLP", 2)
    found = groups(net)
    scale = torch.where(torch.arange(16) < 8, dead, 1.0).double()
    for axis in itertools.chain.from_iterable(group.axes for group in found):
        w = weights[axis.entry]
        weights[axis.entry] = w * scale[(...,) if axis.axis == w.ndim - 1 else (..., None)]
    wanted = shuffles(found, 0)
    permutations = match(permute(weights, found, wanted), weights, found, seed=0).permutations
    assert all(torch.equal(permutations[name], p) for name, p in wanted.items())


def test_what_cannot_be_matched_is_refused_by_entry() -> None:
    net, a = drawn("MLP")
    found = groups(net)
    with pytest.raises(ValueError, match=r"shape of 'layers\.1\.bias'"):
        match(a, a | {"layers.1.bias": torch.zeros(3)}, found, seed=0)
    with pytest.raises(ValueError, match=r"unknown entry 'layers\.2\.bias'"):
        match(a, {entry: tensor for entry, tensor in a.items() if entry != "layers.2.bias"}, found, seed=0)
    for value in (math.nan, math.inf):
        broken = a | {"layers.2.weight": torch.full((16, 16), value, dtype=torch.float64)}
        for pair in ((a, broken), (broken, a)):
            with pytest.raises(ValueError, match=r"layers\.2\.weight.*finite"):
                match(*pair, found, seed=0)


@pytest.mark.parametrize(
    "p",
    [
        torch.tensor(0),
        torch.arange(5),
        torch.arange(1, 17),
        torch.zeros(16, dtype=torch.int64),
        torch.arange(16)[None],
    ],
)
def test_what_is_no_permutation_is_refused(p: Tensor) -> None:
    net, weights = drawn("MLP")
    with pytest.raises(ValueError, match=r"permutation of 'layers\.1'=.*each of 0 to 15 once"):
        permute(weights, groups(net), {"layers.1": p})


def test_what_does_not_fit_the_groups_is_refused() -> None:
    net, weights = drawn("MLP")
    found = groups(net)
    with pytest.raises(ValueError, match=r"unknown group of units 'layers\.9'"):
        permute(weights, found, {"layers.9": torch.arange(16)})
    with pytest.raises(ValueError, match="unknown entry 'elsewhere'"):
        permute(weights, [Group(name="g", size=2, axes=(Axis("elsewhere", 0),))], {"g": torch.arange(2)})
    for axis in (Axis("layers.0.bias", 0), Axis("layers.0.bias", 1), Axis("layers.0.weight", -1)):
        with pytest.raises(ValueError, match=r"shape of 'layers\.0\..*12 along axis"):
            permute(weights, [Group(name="g", size=12, axes=(axis,))], {"g": torch.arange(12)})
    with pytest.raises(ValueError, match="each entry once"):
        Group(name="g", size=16, axes=(Axis("layers.1.weight", 0), Axis("layers.1.weight", 1)))


def test_blocks_and_parts_are_taken_from_the_axis() -> None:
    w = torch.arange(12)
    group = Group(name="g", size=2, axes=(Axis("w", 0, block=2, parts=3),))
    permuted = permute({"w": w}, [group], {"g": torch.tensor([1, 0])})["w"]
    np.testing.assert_array_equal(permuted, [2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9])
