"""Networks with part of their singular values removed (METHOD 4.5, CLAIMS 2.7 and 5.14)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from specdyn.models.generators import seed_of
from specdyn.models.nets.matrices import Matrix
from specdyn.tasks.spectra.decomposition import Factors

T = TypeVar("T")
Keep = Callable[[Matrix, Tensor, Factors], Tensor]
"""Returns the modified layer (M, N), given its factors."""


def keep_in_all(
    weights: Mapping[str, Tensor], layers: Sequence[Matrix], factors: Mapping[str, Factors], keep: Keep
) -> dict[str, Tensor]:
    """The weights with every layer but the last modified by `keep`; other tensors are shared."""
    return keep_in(layers[:-1], weights, factors, keep)


def keep_in(
    layers: Sequence[Matrix], weights: Mapping[str, Tensor], factors: Mapping[str, Factors], keep: Keep
) -> dict[str, Tensor]:
    """The weights with these layers modified by `keep`; other tensors are shared."""
    kept = dict(weights)
    for layer in layers:
        parameter = weights[layer.parameter]
        left = keep(layer, layer.of(weights), factors[layer.name])
        kept[layer.parameter] = as_parameter(left, parameter, layer.transposed)
    return kept


def components(factors: Factors, chosen: Tensor | slice) -> Tensor:
    """The sum of some of the components s_i u_i v_i' as (M, N)."""
    left_MK, right_NK = factors.left[:, chosen], factors.right[:, chosen]
    if len(left_MK) > len(right_NK):
        return left_MK @ (right_NK * factors.s[chosen]).mT
    return (left_MK * factors.s[chosen]) @ right_NK.mT


def count_kept(factors: Factors, fraction: float) -> int:
    """ceil(fraction * R)."""
    return math.ceil(fraction * factors.s.shape[-1])


def top(fraction: float) -> Keep:
    """Keep the first ceil(fraction * R) components."""

    def keep(layer: Matrix, w_MN: Tensor, factors: Factors) -> Tensor:
        k = count_kept(factors, fraction)
        # If all components are kept, use the layer itself, so that `bottom` has no rounding residue.
        return w_MN if k == len(factors.s) else components(factors, slice(0, k))

    return keep


def bottom(fraction: float) -> Keep:
    """Keep all but the first ceil(fraction * R) components, by subtracting these."""

    def keep(layer: Matrix, w_MN: Tensor, factors: Factors) -> Tensor:
        return w_MN - top(fraction)(layer, w_MN, factors)

    return keep


def of_halves(
    measure: Callable[[Mapping[str, Tensor]], T],
    weights: Mapping[str, Tensor],
    layers: Sequence[Matrix],
    factors: Mapping[str, Factors],
) -> tuple[T, T]:
    """A measure of the weights with the first ceil(R / 2) components of every layer but the last, and with the rest.

    The rest is computed in place of the first, layer by layer, so that memory exceeds one network's weights by only one
    layer: the measure must not keep the weights.
    """
    kept = keep_in_all(weights, layers, factors, top(0.5))
    first = measure(kept)
    for layer in layers[:-1]:
        kept[layer.parameter] = weights[layer.parameter] - kept[layer.parameter]
    return first, measure(kept)


def without(start: float, stop: float) -> Keep:
    """Remove the components from round(start * R) to round(stop * R)."""

    def keep(layer: Matrix, w_MN: Tensor, factors: Factors) -> Tensor:
        rank = factors.s.shape[-1]
        return w_MN - components(factors, slice(round(start * rank), round(stop * rank)))

    return keep


def random_components(fraction: float) -> Keep:
    """Keep ceil(fraction * R) components drawn at random, the same at every checkpoint."""

    def keep(layer: Matrix, w_MN: Tensor, factors: Factors) -> Tensor:
        chosen = torch.randperm(len(factors.s), generator=generator(layer))[: count_kept(factors, fraction)]
        return components(factors, chosen.sort().values)

    return keep


def random_directions(fraction: float) -> Keep:
    """Project on ceil(fraction * R) random directions of the smaller side, the same at every checkpoint."""

    def keep(layer: Matrix, w_MN: Tensor, factors: Factors) -> Tensor:
        w_SL = w_MN if w_MN.shape[0] <= w_MN.shape[1] else w_MN.mT
        draws = torch.randn(len(w_SL), count_kept(factors, fraction), generator=generator(layer))
        basis_SK = torch.linalg.qr(draws).Q
        projected = basis_SK @ (basis_SK.mT @ w_SL)
        return projected if w_MN.shape[0] <= w_MN.shape[1] else projected.mT

    return keep


def energy_matched(fraction: float) -> Keep:
    """Like `random_components`, scaled to the Frobenius norm of the first ceil(fraction * R) components."""

    def keep(layer: Matrix, w_MN: Tensor, factors: Factors) -> Tensor:
        drawn = random_components(fraction)(layer, w_MN, factors)
        # In float64, since squares of float32 values may leave its range.
        wanted = torch.linalg.vector_norm(factors.s[: count_kept(factors, fraction)], dtype=torch.float64)
        length = torch.linalg.matrix_norm(drawn, dtype=torch.float64)
        return drawn * float(wanted / length.clamp_min(torch.finfo(torch.float64).tiny))

    return keep


def generator(layer: Matrix) -> torch.Generator:
    """A generator seeded by the layer's name."""
    return torch.Generator().manual_seed(seed_of(layer.name))


def as_parameter(w_MN: Tensor, parameter: Tensor, transposed: bool) -> Tensor:
    """The matrix reshaped to the parameter's shape."""
    if not transposed:
        return w_MN.reshape(parameter.shape)
    return w_MN.reshape(parameter.transpose(0, 1).shape).transpose(0, 1)
