"""Lottery-ticket masks of given layers; random draws depend only on seed, name and size."""

import hashlib
import json
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from specdyn.models.spec.checks import require
from specdyn.tasks.spectra.decomposition import require_finite
from specdyn.tasks.spectra.nulls import generator

Mask = dict[str, Tensor]
"""Parameter name -> bool tensor of its shape, True where the weight is kept."""


def magnitude(weights: Mapping[str, Tensor], density: float) -> Mask:
    """Keep what exceeds the int(density * N)-th largest magnitude of all N weights together; density 1 keeps all.

    As published, one fewer than int(density * N) is kept, or fewer with ties. ValueError if a layer is left
    without weights, NotFinite on NaN or infinity.
    """
    require(0 < density <= 1, "density", density, "a number above 0, at most 1")
    everything = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
    return everything if density == 1 else _largest(weights, everything, density)


def further(mask: Mapping[str, Tensor], weights: Mapping[str, Tensor], density: float) -> Mask:
    """The magnitude mask among the kept weights, at a density of all N below the mask's own; raises as `magnitude`."""
    _require_alike(mask, weights, "weights")
    own = _share(*_counts(mask))
    require(0 < density < own, "density", density, f"a number above 0, below the mask's own {own}")
    return _largest(weights, mask, density)


def random_like(mask: Mapping[str, Tensor], seed: int) -> Mask:
    """A mask that keeps as many weights per layer as the given one, drawn uniformly without replacement.

    The published random mask draws each weight independently, which keeps that number only on average.
    """
    orders = {name: _order("random mask", seed, name, kept) for name, kept in mask.items()}
    return {name: (orders[name] < kept.sum()).view(kept.shape) for name, kept in mask.items()}


def shuffled(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The weights permuted within each layer, whose magnitude mask is the control for the role of structure.

    Density and kept energy of each layer are those of the real weights; only the positions are random. Permuting just
    the mask would equal `random_like`.
    """
    return {name: w.flatten()[_order("shuffled", seed, name, w)].view(w.shape) for name, w in weights.items()}


def redrawn(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """New values for every layer (M, ...), uniform within 1 / sqrt(fan_in); the fan-in is the size of one row."""
    drawn = {name: torch.rand(w.shape, generator=generator(f"redrawn {seed} {name}")) for name, w in weights.items()}
    return {name: ((2 * drawn[name] - 1) / math.sqrt(math.prod(w.shape[1:]))).to(w) for name, w in weights.items()}


def apply(weights: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with exact zeros where masked; tensors not in the mask are shared."""
    _require_alike(mask, weights, "weights")
    kept = {name: torch.where(mask[name].to(weights[name].device), weights[name], 0.0) for name in mask}
    return {name: kept.get(name, w) for name, w in weights.items()}


def kept_energy(weights: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of each masked layer's sum of squares in the kept weights; NaN for a zero layer."""
    _require_alike(mask, weights, "weights")
    squares = {name: weights[name].double().square() for name in mask}
    return {name: _share(float(squares[name][kept].sum()), float(squares[name].sum())) for name, kept in mask.items()}


def overlap(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, float]:
    """Intersection over union of two masks of the same layers, by layer; NaN if both keep nothing."""
    require(set(a) == set(b), "layers", sorted(b), f"those of the other mask, {sorted(a)}")
    _require_alike(a, b, "other mask")
    return {name: _share(int((a[name] & b[name]).sum()), int((a[name] | b[name]).sum())) for name in a}


def densities(mask: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of the weights kept, by layer; NaN for a layer without any."""
    return {name: _share(int(kept.sum()), kept.numel()) for name, kept in mask.items()}


def pack(mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pack eight entries per byte, in C order from the highest bit on: (ceil(N / 8),) uint8 by layer."""
    return {name: torch.from_numpy(np.packbits(kept.flatten().cpu().numpy())) for name, kept in mask.items()}


def unpack(packed: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Mask:
    """The mask packed by `pack`, in these shapes; ValueError if names or numbers of bytes do not match them."""
    require(set(packed) == set(shapes), "packed layers", sorted(packed), f"{sorted(shapes)}")
    mask = {}
    for name, bits in packed.items():
        count = math.prod(shapes[name])
        require(len(bits) == -(-count // 8), f"bytes of {name}", len(bits), f"{-(-count // 8)} for {shapes[name]}")
        mask[name] = torch.from_numpy(np.unpackbits(bits.cpu().numpy(), count=count).astype(bool)).view(shapes[name])
    return mask


def mask_id(mask: Mapping[str, Tensor]) -> str:
    """First 12 hexadecimal digits of the sha256 of names, shapes and packed entries, in the order of the names."""
    digest = hashlib.sha256()
    for name, bits in sorted(pack(mask).items()):
        digest.update(json.dumps([name, *mask[name].shape]).encode() + bits.numpy().tobytes())
    return digest.hexdigest()[:12]


def _largest(weights: Mapping[str, Tensor], among: Mapping[str, Tensor], density: float) -> Mask:
    """Keep what exceeds the int(density * N)-th largest magnitude among the weights that `among` keeps."""
    for name in among:
        require_finite(weights[name], f"layer {name}")
    place, threshold = int(density * _counts(among)[1]), math.inf
    if place:
        magnitudes = torch.cat([weights[name].abs()[kept] for name, kept in among.items()])
        threshold = float(magnitudes.topk(place).values[-1])
    mask = {name: (weights[name].abs() > threshold) & kept for name, kept in among.items()}
    if bare := [name for name, kept in mask.items() if not bool(kept.any())]:
        kept, total = _counts(mask)
        raise ValueError(
            f"density={density!r} keeps {kept} of {total} weights and none of {', '.join(bare)}: "
            "raise the density, or leave such layers out of the mask"
        )
    return mask


def _order(use: str, seed: int, name: str, tensor: Tensor) -> Tensor:
    """A permutation of the entries, on their device."""
    return torch.randperm(tensor.numel(), generator=generator(f"{use} {seed} {name}")).to(tensor.device)


def _counts(mask: Mapping[str, Tensor]) -> tuple[int, int]:
    """The number of weights that the mask keeps, and of all."""
    return sum(int(kept.sum()) for kept in mask.values()), sum(kept.numel() for kept in mask.values())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _require_alike(mask: Mapping[str, Tensor], others: Mapping[str, Tensor], what: str) -> None:
    """Raise ValueError unless the others have every layer of the mask in its shape."""
    for name, kept in mask.items():
        found = tuple(others[name].shape) if name in others else "missing"
        require(found == tuple(kept.shape), f"shape of {name} in the {what}", found, f"{tuple(kept.shape)} of the mask")
