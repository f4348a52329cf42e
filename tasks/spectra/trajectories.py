"""Principal components of a path through weight space, from the Gram matrix of its points (CLAIMS 4, 5.11).

Shapes: T points, K components kept.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from specdyn.tasks.spectra.labels import COMPONENTS
from specdyn.tasks.spectra.nulls import generator

WIDEST = 2**14
"""Most numbers kept per layer and step."""
BOUND = 2**29
"""Most bytes of the numbers of all layers and steps."""


class Path(NamedTuple):
    """Principal components of T points."""

    explained: np.ndarray
    """Shares (K,) of the variance, descending."""
    coordinates: np.ndarray
    """(T, K), in the units of the points."""
    participation: float
    """(sum v)^2 / sum v^2 over all variances v."""


def kept_width(layers: int, steps: int) -> int:
    """Numbers kept per layer and step, so that all take at most 512 MiB in float64."""
    return max(1, min(WIDEST, BOUND // (8 * layers * steps)))


def sketch(w: Tensor, width: int, name: str) -> np.ndarray:
    """At most `width` numbers in float64 that preserve inner products: the entries themselves if they are that few.

    Else a count sketch: each entry is added to, or subtracted from, one of `width` sums, drawn by the layer's name.
    Inner products of two points are unbiased, with a standard deviation below sqrt(2 / width) times their norms.
    """
    entries = w.flatten().double()
    if len(entries) <= width:
        return np.asarray(entries)
    drawn = torch.randint(2 * width, entries.shape, generator=generator(f"sketch {name}"))
    signed = torch.where(drawn % 2 == 0, entries, -entries)
    return np.asarray(torch.bincount(drawn // 2, weights=signed, minlength=width))


def centred_gram(x_TD: np.ndarray) -> np.ndarray:
    """Inner products (T, T) of the points minus their mean."""
    centred = x_TD - x_TD.mean(axis=0)
    return np.asarray(centred @ centred.T)


def principal(gram_TT: np.ndarray) -> Path:
    """Components of the points with this centred Gram matrix, K = min(T, 10); NaN if they do not move.

    Coordinates have the units of weights; each component is oriented towards the last point.
    """
    kept = min(len(gram_TT), COMPONENTS)
    variances, vectors = np.linalg.eigh(gram_TT)
    variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
    total = float(np.trace(gram_TT))
    if total <= 0:
        return Path(np.full(kept, math.nan), np.full((len(gram_TT), kept), math.nan), math.nan)
    signs = np.where(vectors[-1] < 0, -1.0, 1.0)
    coordinates = vectors * signs * np.sqrt(variances)
    participation = float(variances.sum() ** 2 / (variances**2).sum())
    return Path(variances[:kept] / total, coordinates[:, :kept], participation)
