"""Keeping half of the singular values (METHOD 4.5)."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reference.spectra import matrix_with
from specdyn.models.nets.matrices import Matrix, layers
from specdyn.tasks.spectra.decomposition import Factors, decompose
from specdyn.tasks.spectra.truncation import (
    Keep,
    bottom,
    energy_matched,
    keep_in_all,
    of_halves,
    random_components,
    random_directions,
    top,
    without,
)


class Convolutions(nn.Module):
    """A convolution, its transpose, a bias-free line of rank 1, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.tconv = nn.ConvTranspose2d(6, 4, (2, 3))
        self.norm = nn.BatchNorm2d(4)
        self.line = nn.Linear(5, 1, bias=False)
        self.head = nn.Linear(4, 3)


def halves_of(net: nn.Module, fraction: float = 0.5) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    weights = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    found = layers(net)
    factors = {matrix.name: decompose(matrix.of(weights)) for matrix in found}
    return weights, kept_halves(weights, found, factors, fraction)


def kept_halves(
    weights: dict[str, Tensor], matrices: tuple[Matrix, ...], factors: dict[str, Factors], fraction: float = 0.5
) -> dict[str, dict[str, Tensor]]:
    ways = {"top": top(fraction), "bottom": bottom(fraction)}
    return {name: keep_in_all(weights, matrices, factors, keep) for name, keep in ways.items()}


def values(matrix: Matrix, weights: dict[str, Tensor]) -> np.ndarray:
    return np.linalg.svd(matrix.of(weights).double().numpy(), compute_uv=False)


@pytest.mark.parametrize(("rank", "kept"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (14, 7)])
def test_top_keeps_half_of_the_values_rounded_up_and_bottom_the_others(rank: int, kept: int) -> None:
    s = np.linspace(2, 1, rank)
    weights = {"a": matrix_with(s, rank + 2, rank), "last": torch.ones(2, 2)}
    matrices = (Matrix(parameter="a"), Matrix(parameter="last"))
    part = kept_halves(weights, matrices, {"a": decompose(weights["a"])})
    upper, lower = (values(matrices[0], part[name]) for name in ("top", "bottom"))
    # A float32 SVD errs by up to rank units of 2^-23 of s_1, and what is kept is a product of its factors.
    np.testing.assert_allclose(upper, [*s[:kept], *[0] * (rank - kept)], atol=1e-5)
    np.testing.assert_allclose(lower, [*s[kept:], *[0] * kept], atol=1e-5)


@pytest.mark.parametrize(("fraction", "kept"), [(0.01, 1), (0.2, 1), (0.21, 2), (0.8, 4), (1.0, 5)])
def test_the_number_kept_is_rounded_up_for_any_fraction(fraction: float, kept: int) -> None:
    weights = {"a": matrix_with([5, 4, 3, 2, 1], 5, 9), "last": torch.ones(2, 2)}
    matrices = (Matrix(parameter="a"), Matrix(parameter="last"))
    upper = kept_halves(weights, matrices, {"a": decompose(weights["a"])}, fraction)["top"]["a"]
    assert int(torch.linalg.matrix_rank(upper, rtol=1e-4)) == kept


def test_convolutions_come_back_in_their_own_shape_with_half_of_their_values() -> None:
    net = Convolutions()
    weights, kept = halves_of(net)
    for matrix, rank in zip(layers(net)[:2], (6, 4), strict=True):
        s = values(matrix, weights)
        assert len(s) == rank
        for name, part in (("top", s[: rank // 2]), ("bottom", s[rank // 2 :])):
            assert kept[name][matrix.parameter].shape == weights[matrix.parameter].shape
            expected = [*part, *[0] * (rank - len(part))]
            np.testing.assert_allclose(values(matrix, kept[name]), expected, atol=1e-5)
    net.load_state_dict(kept["top"])


def test_top_and_bottom_add_up_to_the_weights() -> None:
    weights, kept = halves_of(Convolutions())
    for name in ("conv.weight", "tconv.weight", "line.weight"):
        total = kept["top"][name].double() + kept["bottom"][name].double()
        # the difference is formed once in float32: half a unit in its last place
        torch.testing.assert_close(total, weights[name].double(), rtol=0, atol=2.0**-24 * 0.5)


def test_the_bottom_of_a_matrix_of_rank_limit_one_is_zero() -> None:
    weights, kept = halves_of(Convolutions())
    assert not kept["bottom"]["line.weight"].any()
    torch.testing.assert_close(kept["top"]["line.weight"], weights["line.weight"])


def test_the_last_layer_and_all_that_is_no_matrix_stay() -> None:
    weights, kept = halves_of(Convolutions())
    for part in kept.values():
        assert list(part) == list(weights)
        changed = {name for name in weights if not torch.equal(part[name], weights[name])}
        assert changed - {"line.weight"} == {"conv.weight", "tconv.weight"}


def test_the_weights_themselves_are_left_alone() -> None:
    net = Convolutions()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    weights, _ = halves_of(net)
    assert all(torch.equal(weights[name], before[name]) for name in before)


def test_the_halves_in_sequence_equal_each_made_alone() -> None:
    net = Convolutions()
    weights, alone = halves_of(net)
    factors = {matrix.name: decompose(matrix.of(weights)) for matrix in layers(net)}

    def measure(part: Mapping[str, Tensor]) -> dict[str, bool]:
        assert list(part) == list(weights)
        return {name: all(torch.equal(part[key], of[key]) for key in weights) for name, of in alone.items()}

    assert of_halves(measure, weights, layers(net), factors) == (
        {"top": True, "bottom": False},
        {"top": False, "bottom": True},
    )
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())


def one_layer(keep: Keep, w: Tensor) -> Tensor:
    """What is left of a layer before the last."""
    weights = {"a": w, "last": torch.ones(2, 2)}
    matrices = (Matrix(parameter="a"), Matrix(parameter="last"))
    return keep_in_all(weights, matrices, {"a": decompose(w)}, keep)["a"]


def test_a_tenth_is_removed_and_all_tenths_together_are_the_layer() -> None:
    s = np.linspace(2, 1, 25)
    w = matrix_with(s, 25, 30)
    rest = [one_layer(without(d / 10, (d + 1) / 10), w) for d in range(10)]
    for d, left in enumerate(rest):
        gone = s[round(2.5 * d) : round(2.5 * (d + 1))]
        expected = sorted([*(set(s) - set(gone)), *[0] * len(gone)], reverse=True)
        np.testing.assert_allclose(np.linalg.svd(left.double().numpy(), compute_uv=False), expected, atol=1e-5)
    torch.testing.assert_close(sum(w - left for left in rest), w, rtol=0, atol=1e-5)


def test_random_components_are_components_the_same_every_time() -> None:
    s = np.linspace(2, 1, 20)
    w = matrix_with(s, 20, 30)
    left = one_layer(random_components(0.25), w)
    assert torch.equal(left, one_layer(random_components(0.25), w))
    kept = np.linalg.svd(left.double().numpy(), compute_uv=False)[:5]
    assert all(np.abs(s - value).min() < 1e-5 for value in kept)
    assert not np.allclose(kept, s[:5], atol=1e-3)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
def test_random_directions_are_a_projection_of_the_smaller_side(shape: tuple[int, int]) -> None:
    w = matrix_with(np.linspace(2, 1, 20), *shape)
    keep = random_directions(0.25)
    once = one_layer(keep, w)
    assert int(torch.linalg.matrix_rank(once, rtol=1e-4)) == 5
    twice = keep(Matrix(parameter="a"), once, decompose(w))
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-5)
    # what is left out is orthogonal to what is left
    across = once.T @ (w - once) if shape[0] < shape[1] else once @ (w - once).T
    torch.testing.assert_close(across, torch.zeros_like(across), rtol=0, atol=1e-5)


def test_the_energy_matched_control_has_the_norm_of_the_top() -> None:
    w = matrix_with(np.geomspace(2, 0.01, 20), 20, 30)
    left = one_layer(energy_matched(0.5), w)
    assert float(torch.linalg.matrix_norm(left)) == pytest.approx(float(np.linalg.norm(np.geomspace(2, 0.01, 20)[:10])))
    drawn = one_layer(random_components(0.5), w)
    torch.testing.assert_close(left / left.norm(), drawn / drawn.norm(), rtol=0, atol=1e-6)


def test_a_zero_layer_stays_zero_in_every_way() -> None:
    for keep in (
        top(0.5),
        bottom(0.5),
        without(0, 0.1),
        random_components(0.5),
        random_directions(0.5),
        energy_matched(0.5),
    ):
        assert not one_layer(keep, torch.zeros(6, 9)).any()
