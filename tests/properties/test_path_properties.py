"""What holds for any path between two networks, any curve along it and any order of hidden units."""

import itertools
import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from specdyn.models.nets.convnet import LeNet, LeNetNet, Vgg, VggNet
from specdyn.models.nets.mlp import Mlp, MlpNet
from specdyn.models.nets.transformer import Transformer, TransformerNet
from specdyn.tasks.connect.matching import Group, groups, match, permute
from specdyn.tasks.connect.paths import barrier, bezier, blend, blend_layer, distance, instability

SHAPES = {"w": (3, 4), "b": (3,), "scalar": ()}
values = st.floats(-1e3, 1e3, allow_subnormal=False)
shares = st.floats(0, 1, allow_subnormal=False)
curves = st.lists(values, min_size=3, max_size=15).map(np.array)
seeds = st.integers(0, 10_000)


def weights(seed: int) -> dict[str, Tensor]:
    """Small floats of two precisions and an integer."""
    draw = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
    return {**drawn, "double": torch.randn(2, generator=draw).double(), "n": torch.randint(99, (), generator=draw)}


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """One of each kind that has groups, of any small size, with its initial weights."""
    torch.manual_seed(draw(seeds))
    match draw(st.sampled_from(["mlp", "vgg", "lenet", "transformer"])):
        case "mlp":
            mlp = Mlp(width=draw(st.integers(1, 9)), hidden_layers=draw(st.integers(1, 4)))
            return MlpNet(mlp, inputs=6, outputs=3)
        case "vgg":
            return VggNet(Vgg(width=draw(st.integers(1, 3))), channels=1, classes=3)
        case "lenet":
            return LeNetNet(LeNet(width=draw(st.integers(1, 4))), channels=1, size=28, classes=3)
        case _:
            heads, width = draw(st.sampled_from([(1, 4), (2, 6), (4, 8)]))
            feedforward, depth = draw(st.integers(1, 9)), draw(st.integers(1, 2))
            config = Transformer(width=width, heads=heads, feedforward=feedforward, depth=depth)
            return TransformerNet(config, vocabulary=5, length=3)


def orders(found: tuple[Group, ...], seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {group.name: torch.randperm(group.size, generator=draw) for group in found}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """The same names, types and bits."""
    return list(a) == list(b) and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


@given(seeds, seeds, seeds)
def test_paths_start_and_end_with_the_bits_of_the_networks(first: int, second: int, third: int) -> None:
    a, b, control = weights(first), weights(second), weights(third)
    assert same(blend(a, b, 0), a) and same(blend(a, b, 1), b)
    assert same(bezier(a, control, b, 0), a) and same(bezier(a, control, b, 1), b)
    assert same(blend_layer(a, b, 1, ["w"]), a | {"w": b["w"]})


@given(seeds, seeds, shares)
def test_a_point_of_a_path_lies_between_the_ends_and_divides_their_distance(
    first: int, second: int, alpha: float
) -> None:
    a, b = weights(first), weights(second)
    mixed, back = blend(a, b, alpha), blend(b, a, 1 - alpha)
    for name in a:
        low, high = torch.minimum(a[name], b[name]), torch.maximum(a[name], b[name])
        slack = 1e-5 if a[name].is_floating_point() else 1  # cut off
        assert (mixed[name] >= low - slack).all() and (mixed[name] <= high + slack).all()
        torch.testing.assert_close(mixed[name], back[name], rtol=0, atol=slack)
    floats = [name for name in a if name != "n"]
    whole = distance(a, b, floats).l2
    np.testing.assert_allclose(distance(a, mixed, floats).l2, alpha * whole, atol=1e-5)
    np.testing.assert_allclose(distance(mixed, b, floats).l2, (1 - alpha) * whole, atol=1e-5)


@given(seeds, seeds, seeds, shares)
def test_a_curve_is_two_rounds_of_straight_paths(first: int, second: int, third: int, t: float) -> None:
    a, control, b = ({name: w for name, w in weights(seed).items() if name != "n"} for seed in (first, second, third))
    of_casteljau = blend(blend(a, control, t), blend(control, b, t), t)
    for name, w in bezier(a, control, b, t).items():
        torch.testing.assert_close(w, of_casteljau[name], rtol=0, atol=1e-5)


@given(curves, values, values)
def test_a_straight_line_changes_no_barrier(y: np.ndarray, start: float, slope: float) -> None:
    line = start + slope * np.linspace(0, 1, len(y))
    np.testing.assert_allclose(barrier(y + line), barrier(y), atol=1e-9)
    np.testing.assert_allclose(barrier(line), 0, atol=1e-9)


@given(curves)
def test_a_path_has_the_same_barrier_both_ways(y: np.ndarray) -> None:
    np.testing.assert_allclose(barrier(y[::-1]), barrier(y), atol=1e-9)
    assert instability(y[::-1]) == instability(y)


@given(curves, st.floats(0, 100, allow_subnormal=False))
def test_barriers_grow_with_the_units_and_with_an_inner_point(y: np.ndarray, more: float) -> None:
    np.testing.assert_allclose(barrier(4 * y), 4 * barrier(y), rtol=1e-12)
    for i in range(1, len(y) - 1):
        higher = y + more * (np.arange(len(y)) == i)
        assert barrier(y) - 1e-9 <= barrier(higher) <= barrier(y) + more + 1e-9
    by_point = [value - y[0] - i * (y[-1] - y[0]) / (len(y) - 1) for i, value in enumerate(y)]
    np.testing.assert_allclose(barrier(y), max(by_point[1:-1]), atol=1e-9)


@given(networks(), seeds, seeds)
def test_an_order_and_its_inverse_give_back_the_bits(net: nn.Module, first: int, second: int) -> None:
    found, b = groups(net), net.state_dict()
    p, q = orders(found, first), orders(found, second)
    moved = permute(b, found, p)
    assert same(permute(moved, found, {name: order.argsort() for name, order in p.items()}), b)
    assert same(permute(moved, found, q), permute(b, found, {name: p[name][q[name]] for name in p}))
    for name, tensor in moved.items():
        assert tensor.shape == b[name].shape
        assert torch.equal(tensor.flatten().sort().values, b[name].flatten().sort().values)


@given(networks(), seeds, seeds)
def test_the_objective_rises_to_that_of_the_order_found_where_no_swap_helps(
    net: nn.Module, seed: int, noise: int
) -> None:
    found, a = groups(net), net.state_dict()
    draw = torch.Generator().manual_seed(noise)
    b = {name: w if w.ndim < 1 else torch.randn(w.shape, generator=draw) for name, w in a.items()}
    matched = match(a, b, found, seed)
    assert all(later >= earlier for earlier, later in itertools.pairwise(matched.objectives))
    entries = {axis.entry for group in found for axis in group.axes if not axis.entry.endswith(("_mean", "_var"))}

    def objective(moved: dict[str, Tensor]) -> float:
        return math.fsum(float(a[name].double().flatten() @ moved[name].double().flatten()) for name in entries)

    at_end = permute(b, found, matched.permutations)
    for reached, moved in zip((matched.objectives[0], matched.objectives[-1]), (b, at_end), strict=True):
        np.testing.assert_allclose(reached, objective(moved), rtol=1e-10, atol=1e-9)
    for group in found:
        swap = torch.arange(group.size)
        swap[[0, -1]] = swap[[-1, 0]]
        assert objective(permute(at_end, found, {group.name: swap})) <= matched.objectives[-1] + 1e-9
