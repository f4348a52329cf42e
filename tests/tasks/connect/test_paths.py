"""Paths between two networks, and barriers along them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from specdyn.models.nets.convnet import Vgg, VggNet
from specdyn.tasks.connect.paths import ALPHAS, barrier, bezier, blend, blend_layer, distance, instability


def vgg(seed: int) -> dict[str, Tensor]:
    """A small VGG whose BatchNorm has seen one batch per seed and one more."""
    torch.manual_seed(seed)
    net = VggNet(Vgg(width=1), channels=1, classes=3)
    for _ in range(seed + 1):
        net(torch.randn(8, 1, 32, 32))
    return {name: tensor.detach() for name, tensor in net.state_dict().items()}


def point(*values: float) -> dict[str, Tensor]:
    return {"w": torch.tensor(values, dtype=torch.float64)}


def test_a_path_has_eleven_points_a_tenth_apart() -> None:
    np.testing.assert_allclose(ALPHAS, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1], rtol=1e-15)
    assert (ALPHAS[0], ALPHAS[-1]) == (0, 1)


def test_every_entry_is_blended_with_its_buffers() -> None:
    a, b = vgg(0), vgg(3)
    mixed = blend(a, b, 0.3)
    assert list(mixed) == list(a)
    assert {"layers.0.bn.running_var", "layers.0.conv.bias", "fc.weight"} < set(mixed)
    for name, tensor in mixed.items():
        assert tensor.dtype == a[name].dtype
        if tensor.is_floating_point():
            expected = 0.7 * a[name].double().numpy() + 0.3 * b[name].double().numpy()
            np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6, atol=1e-7, err_msg=name)
    assert mixed["layers.0.bn.num_batches_tracked"] == 1  # of 1 and 4: 1.9, cut off
    VggNet(Vgg(width=1), channels=1, classes=3).load_state_dict(mixed)


@pytest.mark.parametrize(("first", "second", "alpha", "between"), [(3, 10, 0.5, 6), (-3, -10, 0.5, -6), (1, 4, 0.9, 3)])
def test_integers_are_cut_off_towards_zero(first: int, second: int, alpha: float, between: int) -> None:
    mixed = blend({"n": torch.tensor(first)}, {"n": torch.tensor(second)}, alpha)["n"]
    assert (mixed.dtype, mixed.item()) == (torch.int64, between)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays_also_for_the_numbers_of_numpy(dtype: torch.dtype) -> None:
    a, b = {"w": torch.tensor([1.0, 0.0], dtype=dtype)}, {"w": torch.tensor([3.0, -8.0], dtype=dtype)}
    mixed = blend(a, b, np.float64(0.25))["w"]
    assert isinstance(mixed, Tensor) and mixed.dtype == dtype
    assert mixed.tolist() == [1.5, -2.0]


def test_the_ends_are_the_networks_themselves_whatever_the_other_holds() -> None:
    a = {"w": torch.tensor([0.1, -0.0]), "n": torch.tensor(2**60 + 1)}
    b = {"w": torch.tensor([math.inf, math.nan]), "n": torch.tensor(3)}
    for alpha, end in ((0, a), (0.0, a), (np.float64(1), b), (1, b)):
        for path in (blend(a, b, alpha), bezier(a, b if end is a else a, b, alpha)):
            assert all(path[name] is end[name] for name in a)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"w": torch.zeros(2, 3)}, "'extra'"),
        ({"w": torch.zeros(2, 3), "extra": torch.zeros(1), "more": torch.zeros(1)}, "'more'"),
        ({"w": torch.zeros(3, 2), "extra": torch.zeros(1)}, r"shape of 'w'=\(3, 2\).*\(2, 3\)"),
        ({"w": torch.zeros(2, 3), "extra": torch.zeros(())}, "shape of 'extra'"),
        ({"w": torch.zeros(2, 3, dtype=torch.float64), "extra": torch.zeros(1)}, "dtype of 'w'"),
    ],
)
def test_networks_that_differ_are_refused_by_entry(other: dict[str, Tensor], named: str) -> None:
    a = {"w": torch.zeros(2, 3), "extra": torch.zeros(1)}
    for call in (
        lambda: blend(a, other, 0.5),
        lambda: blend(other, a, 0),
        lambda: bezier(a, other, a, 0.5),
        lambda: bezier(a, a, other, 0.5),
    ):
        with pytest.raises(ValueError, match=r"'(w|extra|more)'"):
            call()
    with pytest.raises(ValueError, match=named):
        blend(a, other, 0.5)


def test_a_single_layer_moves_and_all_others_stay_at_the_first_network() -> None:
    a, b = vgg(0), vgg(3)
    names = ("layers.1.conv.weight", "layers.1.conv.bias")
    moved = blend_layer(a, b, 0.4, iter(names))
    whole = blend(a, b, 0.4)
    assert list(moved) == list(a)
    for name, tensor in moved.items():
        assert torch.equal(tensor, whole[name]) if name in names else tensor is a[name]
    assert not torch.equal(moved[names[0]], a[names[0]])
    assert blend_layer(a, b, 1, names)[names[0]] is b[names[0]]


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown entry 'fc\.weigth'.*did you mean 'fc\.weight'"):
        blend_layer(vgg(0), vgg(1), 0.5, ["fc.weigth"])


def test_the_layer_wise_blend_asks_nothing_of_other_layers() -> None:
    a, b = {"w": torch.zeros(1), "x": torch.zeros(2)}, {"w": torch.ones(1), "x": torch.zeros(3)}
    assert blend_layer(a, b, 0.5, ["w"])["w"].item() == 0.5


def test_the_curve_has_the_weights_of_bernstein() -> None:
    a, control, b = point(1, 0, 0), point(0, 1, 0), point(0, 0, 1)
    assert bezier(a, control, b, 0.25)["w"].tolist() == [9 / 16, 6 / 16, 1 / 16]
    first, middle, last = ({"n": torch.tensor(n)} for n in (16, 32, 64))
    assert bezier(first, middle, last, 0.25)["n"].item() == 25  # 9 + 12 + 4
    assert bezier(first, middle, last, 0.7)["n"].item() == 46  # 1.44 + 13.44 + 31.36 = 46.24


@pytest.mark.parametrize("t", ALPHAS)
def test_with_its_control_point_half_way_the_curve_is_the_straight_path(t: float) -> None:
    a, b = point(1, -2, 5), point(3, 4, -1)
    straight = blend(a, b, t)["w"]
    torch.testing.assert_close(bezier(a, blend(a, b, 0.5), b, t)["w"], straight, rtol=1e-14, atol=1e-14)


def test_gradients_reach_the_control_point() -> None:
    control = {"w": torch.zeros(3, requires_grad=True)}
    bezier({"w": torch.ones(3)}, control, {"w": torch.ones(3)}, 0.25)["w"].sum().backward()
    assert control["w"].grad is not None
    assert control["w"].grad.tolist() == [0.375] * 3  # 2 t (1 - t)


def test_a_curve_goes_round_the_hill_that_the_straight_path_climbs() -> None:
    """On (|w|^2 - 1)^2 from (-1, 0) to (1, 0); the curve over (0, 2) is the parabola y = 1 - x^2."""
    a, control, b = point(-1, 0), point(0, 2), point(1, 0)

    def losses(path: list[dict[str, Tensor]]) -> list[float]:
        return [float((weights["w"].square().sum() - 1) ** 2) for weights in path]

    assert barrier(losses([blend(a, b, alpha) for alpha in ALPHAS])) == pytest.approx(1, abs=1e-12)
    # there the loss is (x^2 (1 - x^2))^2, the largest of the eleven at x = 0.6 and 0.8
    round_it = losses([bezier(a, control, b, t) for t in ALPHAS])
    assert barrier(round_it) == pytest.approx((0.36 * 0.64) ** 2, rel=1e-9)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ((1, 2, 5, 2, 3), 3),
        ((0, 1, 2, 3, 4), 0),
        ((4, 1, 1, 1, 2), -1.5),
        ((9, 0, 0, 0, 9), -9),
        ((0, 0, 0, 7, 0), 7),
        ((2, 5, 4), 2),
        ((0, *[0] * 9, 10), -1),
    ],
)
def test_the_barrier_is_the_highest_inner_point_above_the_straight_line(y: tuple[float, ...], expected: float) -> None:
    assert barrier(y) == pytest.approx(expected, abs=1e-12)


def test_the_golden_barrier_is_exact_in_any_type() -> None:
    for dtype in (np.int64, np.float32, np.float64):
        found = barrier(np.array([1, 2, 5, 2, 3], dtype=dtype))
        assert found.dtype == np.float64 and found.shape == ()
        assert float(found) == 3


def test_the_instability_counts_from_the_mean_of_the_ends_and_the_ends_too() -> None:
    assert instability((1, 2, 5, 2, 3)) == 3
    assert instability((4, 1, 1, 1, 2)) == 1
    assert instability((0, 0, 6, 3, 4)) == 4
    assert barrier((0, 0, 6, 3, 4)) == 4


def test_curves_lie_along_the_last_axis() -> None:
    y = np.array([[[1, 2, 5, 2, 3], [0, 1, 2, 3, 4]], [[4, 1, 1, 1, 2], [0, 0, 6, 3, 4]]])
    np.testing.assert_allclose(barrier(y), [[3.0, 0.0], [-1.5, 4.0]], atol=1e-12)
    np.testing.assert_allclose(instability(y), [[3, 2], [1, 4]], atol=1e-12)


@pytest.mark.parametrize("place", range(5))
def test_a_missing_value_anywhere_is_not_a_barrier(place: int) -> None:
    y = np.array([[1.0, 2, 5, 2, 3], [1, 2, 5, 2, 3]])
    y[0, place] = math.nan
    for measure in (barrier, instability):
        found = measure(y)
        assert np.isnan(found[0]) and found[1] == 3


def test_a_diverged_point_is_an_infinite_barrier_and_a_diverged_end_hides_all_others() -> None:
    assert barrier([1, math.inf, 1]) == math.inf
    assert barrier([1, 2, math.inf]) == -math.inf
    assert math.isnan(barrier([1, math.inf, math.inf]))
    assert instability([1, math.inf, 1]) == math.inf
    assert math.isnan(instability([1, 2, math.inf]))


@pytest.mark.parametrize("y", [[], [1], [1, 2], 3.0, np.zeros((4, 2))])
def test_two_points_have_no_inner_one(y: object) -> None:
    for measure in (barrier, instability):
        with pytest.raises(ValueError, match=r"number of points=\d.*3 or more"):
            measure(y)  # type: ignore[arg-type]


def test_the_distance_is_over_all_named_entries_at_once() -> None:
    a = {"w": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([2.0]), "other": torch.tensor([50.0])}
    b = {"w": torch.tensor([[4.0], [2.0]]), "b": torch.tensor([-2.0]), "other": torch.tensor([-50.0])}
    found = distance(a, b, ["w", "b"])
    assert found.l2 == 5  # (-3, 0, 4)
    assert found.cosine == pytest.approx(4 / math.sqrt(9 * 24), rel=1e-14)


def test_distances_of_single_precision_are_summed_in_double() -> None:
    a, b = {"w": torch.tensor([4096.0, 1.0])}, {"w": torch.zeros(2)}
    assert distance(a, b, ["w"]).l2 == pytest.approx(math.sqrt(2**24 + 1), rel=1e-12)
    tiny = {"w": torch.tensor([3e-30, 4e-30])}
    assert distance(tiny, b, ["w"]).l2 == pytest.approx(5e-30, rel=1e-6)
    assert distance(point(1, 1 + 2**-50), point(1, 1), ["w"]).l2 == 2**-50
    assert distance(tiny, {"w": torch.tensor([4e-30, 3e-30])}, ["w"]).cosine == pytest.approx(0.96, rel=1e-6)


def test_the_cosine_ends_at_one_and_is_unknown_of_zero() -> None:
    a = {"w": torch.tensor([0.1, 0.7, -0.3])}
    assert distance(a, a, ["w"]).l2 == 0
    assert distance(a, a, ["w"]).cosine == pytest.approx(1, abs=1e-15)
    assert distance(a, {"w": -3 * a["w"]}, ["w"]).cosine == pytest.approx(-1, abs=1e-7)
    for seed in range(50):
        w = {"w": torch.randn(7, generator=torch.Generator().manual_seed(seed))}
        assert distance(w, w, ["w"]).cosine <= 1
    zero = {"w": torch.zeros(3)}
    for pair in ((a, zero), (zero, a), (zero, zero)):
        assert math.isnan(distance(*pair, ["w"]).cosine)
    assert distance(a, zero, ["w"]).l2 == pytest.approx(math.sqrt(0.59), rel=1e-6)


def test_distances_of_unlike_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown entry 'v'"):
        distance(point(1), point(1), ["v"])
    with pytest.raises(ValueError, match="shape of 'w'"):
        distance(point(1), point(1, 2), ["w"])
