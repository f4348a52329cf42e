"""Paths between two networks in weight space, and barriers along them."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from specdyn.models.spec.checks import require, require_known

ALPHAS: tuple[float, ...] = tuple(np.linspace(0, 1, 11).tolist())
"""Points of a path, including both ends."""


class Distance(NamedTuple):
    """The distance of two networks; the cosine is NaN if one of them is zero."""

    l2: float
    cosine: float


def blend(a: Mapping[str, Tensor], b: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) A + alpha B for every entry with its buffers, in its dtype; the ends are A's and B's own tensors.

    Integers are truncated towards zero. ValueError names an entry whose name, shape or dtype differs.
    """
    require_alike(a, b)
    return blend_layer(a, b, alpha, a)


def blend_layer(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], alpha: float, names: Iterable[str]
) -> dict[str, Tensor]:
    """A with only the named entries interpolated towards B, as in `blend`; ValueError names an unknown one."""
    chosen = tuple(names)
    require_alike(a, b, chosen)
    return dict(a) | {name: _combine(((1 - alpha, a[name]), (alpha, b[name]))) for name in chosen}


def bezier(
    a: Mapping[str, Tensor], control: Mapping[str, Tensor], b: Mapping[str, Tensor], t: float
) -> dict[str, Tensor]:
    """(1 - t)^2 A + 2 t (1 - t) C + t^2 B entry by entry, as `blend`; gradients reach the control point C."""
    require_alike(a, b)
    require_alike(a, control)
    weights = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
    return {name: _combine(tuple(zip(weights, (a[name], control[name], b[name]), strict=True))) for name in a}


def barrier(y: ArrayLike) -> np.ndarray:
    """How far y (..., P) rises above the straight line between its ends, at the highest inner point; shape (...).

    Negative if y is below the line throughout; NaN if any of the P values is. ValueError for fewer than 3 points.
    """
    y_P = _curve(y)
    alpha_I = np.linspace(0, 1, y_P.shape[-1])[1:-1]
    with np.errstate(invalid="ignore"):  # a diverged end is infinite, and so is the line
        line_I = (1 - alpha_I) * y_P[..., :1] + alpha_I * y_P[..., -1:]
        return np.asarray((y_P[..., 1:-1] - line_I).max(axis=-1))


def instability(y: ArrayLike) -> np.ndarray:
    """The maximum of y (..., P), ends included, minus the mean of its ends; shape, NaN and errors as `barrier`."""
    y_P = _curve(y)
    with np.errstate(invalid="ignore"):
        return np.asarray(y_P.max(axis=-1) - (y_P[..., 0] + y_P[..., -1]) / 2)


def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Iterable[str]) -> Distance:
    """L2 distance and cosine of the named entries taken as one vector, in float64; ValueError as `blend_layer`."""
    chosen = tuple(names)
    require_alike(a, b, chosen)
    x, y = (_vector(weights, chosen) for weights in (a, b))
    lengths = float(torch.linalg.vector_norm(x)) * float(torch.linalg.vector_norm(y))
    cosine = float(x @ y) / lengths if lengths else math.nan
    return Distance(l2=float(torch.linalg.vector_norm(x - y)), cosine=float(np.clip(cosine, -1, 1)))


def require_alike(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Iterable[str] | None = None) -> None:
    """Raise ValueError naming an entry (of the named ones, or of all) that differs in presence, shape or dtype."""
    for name in sorted(a.keys() | b.keys()) if names is None else names:
        for weights in (a, b):
            require_known("entry", name, weights)
        for what, first, second in (
            ("shape", tuple(a[name].shape), tuple(b[name].shape)),
            ("dtype", a[name].dtype, b[name].dtype),
        ):
            require(first == second, f"{what} of {name!r}", second, f"{first}, as in the other network")


def _combine(terms: tuple[tuple[float, Tensor], ...]) -> Tensor:
    """The weighted sum in the tensors' dtype; if all the weight is on one tensor, that tensor itself."""
    (weight, tensor), *others = [(float(weight), tensor) for weight, tensor in terms if weight != 0]
    if weight == 1 and not others:
        return tensor
    total = weight * tensor
    for other, added in others:
        total = total + other * added
    return total.to(tensor.dtype)


def _curve(y: ArrayLike) -> np.ndarray:
    y_P = np.atleast_1d(np.asarray(y, dtype=np.float64))
    require(y_P.shape[-1] >= 3, "number of points", y_P.shape[-1], "3 or more")
    return y_P


def _vector(weights: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor:
    empty = torch.zeros(0, dtype=torch.float64)
    return torch.cat([empty, *[weights[name].detach().to("cpu", torch.float64).flatten() for name in names]])
