"""Summaries that an audit keeps of each tensor, enough to compare checkpoints without holding them."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specdyn.storage.foreign.weights import as_bytes

SAMPLED = 4096
"""Number of evenly spaced entries of a tensor by which directions are compared between checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Summary of one tensor of one checkpoint."""

    shape: tuple[int, ...]
    digest: str
    """Digest of its type and elements."""
    norm: float
    """Frobenius norm; NaN if the tensor is not numeric."""
    sample: np.ndarray
    """Some of its entries, divided by its norm."""
    constant: bool
    """Whether all entries are equal, as in biases before training."""


def reading(w: Tensor) -> Reading:
    """The summary of a tensor in its analysed form."""
    digest = hashlib.sha256(f"{w.dtype} {tuple(w.shape)} ".encode())
    digest.update(as_bytes(w))
    norm, sample = math.nan, np.empty(0, np.float32)
    flat = w.reshape(-1)
    if w.is_floating_point() and w.numel():
        norm = float(torch.linalg.vector_norm(flat, dtype=torch.float64))
        picked = flat[:: max(1, -(-len(flat) // SAMPLED))].double()
        sample = (picked / norm if 0 < norm < math.inf else picked * 0).float().numpy()
    return Reading(
        shape=tuple(w.shape),
        digest=digest.hexdigest(),
        norm=norm,
        sample=sample,
        constant=not len(flat) or bool((flat == flat[0]).all()),
    )


def angle(a: Reading, b: Reading) -> float:
    """The angle between two tensors of equal shape, by their samples, in radians; NaN if undefined."""
    if a.shape != b.shape or len(a.sample) < 2:
        return math.nan
    lengths = float(np.linalg.norm(a.sample)) * float(np.linalg.norm(b.sample))
    if not 0 < lengths < math.inf:
        return math.nan
    return math.acos(max(-1.0, min(1.0, float(a.sample @ b.sample) / lengths)))
