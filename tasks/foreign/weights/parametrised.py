"""Weights computed from other tensors: products with masks, weight and spectral normalisation."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
NEW = ".parametrizations."


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a weight is computed from tensors in the file."""

    sources: tuple[str, ...]
    make: Callable[..., Tensor]
    """Computes the weight from the sources, in float32 or float64."""
    shape: tuple[int, ...]
    how: str
    parts: Mapping[str, str] = field(default_factory=dict)
    """Tensors of the file that are parts of this weight and not layers, with a description."""


def recipes(shapes: Shapes) -> tuple[dict[str, Recipe], dict[str, str]]:
    """Computed weights by their names in the network, and the reasons why others cannot be computed."""
    made: dict[str, Recipe] = {}
    unknown: dict[str, str] = {}
    for name in shapes:
        stem, _, last = name.rpartition("_")
        if last == "orig" and (found := _of_original(name, stem, shapes)):
            made[stem] = found
        elif last == "bar" and f"{stem}_u" in shapes:
            made[stem] = _spectral(name, f"{stem}_u", f"{stem}_v", shapes)
        elif last == "v" and f"{stem}_orig" not in shapes and _is_magnitude(shapes.get(f"{stem}_g"), shapes[name]):
            made[stem] = _normalised(name, f"{stem}_g", shapes)
        elif NEW in name and name.rpartition(".")[2] in ("original", "original0"):
            weight = name.rpartition(".")[0].replace(NEW, ".")
            if (recipe := _of_parametrization(name, shapes)) is not None:
                made[weight] = recipe
            else:
                why = f"part of {weight}, which the network computes in a way that the file does not record"
                unknown |= {other: why for other in shapes if other.startswith(f"{name.rpartition('.')[0]}.")}
    return made, unknown


def _of_original(name: str, stem: str, shapes: Shapes) -> Recipe | None:
    mask = f"{stem}_mask"
    if shapes.get(mask) == shapes[name]:
        return Recipe(
            sources=(name, mask),
            make=lambda w, mask: w * mask,
            shape=shapes[name],
            how="product of weights and mask",
            parts={name: f"the weights of {stem} before the mask", mask: f"the mask of {stem}"},
        )
    return _spectral(name, f"{stem}_u", f"{stem}_v", shapes) if f"{stem}_u" in shapes else None


def _of_parametrization(name: str, shapes: Shapes) -> Recipe | None:
    of, _, last = name.rpartition(".")
    if last == "original0":
        direction = f"{of}.original1"
        known = direction in shapes and _is_magnitude(shapes[name], shapes[direction])
        return _normalised(direction, name, shapes) if known else None
    others = {other for other in shapes if other.startswith(f"{of}.") and other != name}
    u, v = f"{of}.0._u", f"{of}.0._v"
    return _spectral(name, u, v, shapes) if u in shapes and others <= {u, v} else None


def _is_magnitude(magnitude: tuple[int, ...] | None, direction: tuple[int, ...]) -> bool:
    """Whether a tensor's shape fits the norms of another's slices along one axis, or its total norm."""
    if magnitude is None or len(direction) < 2:
        return False
    longer = [size for size in magnitude if size > 1]
    along = len(magnitude) == len(direction) and all(a in (1, b) for a, b in zip(magnitude, direction, strict=True))
    return not longer or (len(longer) == 1 and along)


def _normalised(direction: str, magnitude: str, shapes: Shapes) -> Recipe:
    """g v / ||v||, the norm over all axes along which g has one entry."""
    axes = shapes[magnitude]
    over = tuple(axis for axis, size in enumerate(axes) if size == 1) if axes else ()

    def make(v: Tensor, g: Tensor) -> Tensor:
        return v * (g / torch.linalg.vector_norm(v, dim=over or None, keepdim=bool(over)))

    return Recipe(
        sources=(direction, magnitude),
        make=make,
        shape=shapes[direction],
        how="weight normalisation: g v / |v|",
        parts={direction: "directions of weight normalisation", magnitude: "lengths of weight normalisation"},
    )


def _spectral(weight: str, u: str, v: str, shapes: Shapes) -> Recipe:
    """W / sigma, sigma = u' W v with the vectors of the power iteration; rows along the axis as long as u."""
    shape, length = shapes[weight], shapes[u][0]
    axis = next((axis for axis in (0, 1) if shape[axis] == length), 0)
    there = tuple(name for name in (u, v) if name in shapes)

    def make(w: Tensor, left: Tensor, right: Tensor | None = None) -> Tensor:
        flat = w.movedim(axis, 0).flatten(1)
        right = torch.nn.functional.normalize(flat.mT @ left, dim=0) if right is None else right
        return w / torch.dot(left, flat @ right)

    return Recipe(
        sources=(weight, *there),
        make=make,
        shape=shape,
        how="spectral normalisation: W / sigma",
        parts={weight: "weights before spectral normalisation", **dict.fromkeys(there, "vectors of a power iteration")},
    )


def density(mask: Tensor) -> float:
    """The fraction of entries that a mask keeps."""
    return float((mask != 0).double().mean()) if mask.numel() else math.nan


def in_floats(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors in float32, or in float64 if one of them is."""
    wide = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    return [tensor.to(wide) for tensor in tensors]
