"""Spectral edge of windows of ten updates, and of the gradient's and weight decay's parts of them (CLAIMS 5.11).

Spectral Edge Dynamics (arXiv 2603.15678): the rows of X are the updates W_t - W_{t-1} of ten neighbouring checkpoints,
flattened; its singular values are roots of the eigenvalues of X X'. The split follows arXiv 2604.07380. The effect of
decay between two checkpoints is known only for runs with `record_decay`, as it depends on every weight in between; for
others only the total update is analysed. A window's value is stored at its last checkpoint, so it never looks ahead.

Once per run: every checkpoint is read once. Large layers are represented by a sketch as in `trajectory`, half as wide.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from specdyn.models.nets.decay_sums import SINCE, SUM
from specdyn.storage.schema import COUNT, Variable
from specdyn.tasks.spectra.analysis import Analysis, RunView, Values
from specdyn.tasks.spectra.spectral import spectral_edge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from specdyn.models.nets.matrices import Matrix

LENGTH = 10
"""Updates in a window."""
PORTIONS = ("total", "gradient", "decay")


class Grams(NamedTuple):
    """Inner products of the T - 1 updates of a layer, (T - 1, T - 1) each; NaN if decay is unknown."""

    total: np.ndarray
    decay: np.ndarray
    mixed: np.ndarray
    """Decay's part (rows) with the total."""

    def plus(self, other: Grams) -> Grams:
        """The inner products for both layers as one vector."""
        return Grams(self.total + other.total, self.decay + other.decay, self.mixed + other.mixed)

    def of(self, portion: str) -> np.ndarray:
        """One of the PORTIONS with itself; the gradient's part is the total minus decay's."""
        if portion == "gradient":
            return self.total - self.mixed - self.mixed.T + self.decay
        return self.total if portion == "total" else self.decay


def grams(total: np.ndarray, decay: np.ndarray) -> Grams:
    """The Grams of updates (T - 1, D) and decay's part of them, with NaN rows if unknown."""
    return Grams(total @ total.T, decay @ decay.T, decay @ total.T)


def windows(of: Grams, steps: int) -> dict[str, np.ndarray]:
    """All numbers of each window of a run with `steps` checkpoints, NaN where fewer than LENGTH updates precede."""
    found = {
        "singular_value": np.full((steps, len(PORTIONS), LENGTH), math.nan),
        "edge": np.full((steps, len(PORTIONS)), math.nan),
        "edge_ratio": np.full((steps, len(PORTIONS)), math.nan),
        "decay_share": np.full(steps, math.nan),
        "decay_alignment": np.full(steps, math.nan),
    }
    for step in range(LENGTH, steps):
        place = slice(step - LENGTH, step)
        for i, portion in enumerate(PORTIONS):
            gram_LL = of.of(portion)[place, place]
            if np.isfinite(gram_LL).all():
                s_L = np.sqrt(np.maximum(np.linalg.eigvalsh(gram_LL)[::-1], 0))
                found["singular_value"][step, i] = s_L
                found["edge"][step, i], found["edge_ratio"][step, i] = spectral_edge(s_L)
        found["decay_share"][step], found["decay_alignment"][step] = along_the_first(of, place)
    return found


def along_the_first(of: Grams, place: slice) -> tuple[float, float]:
    """Decay's share of the energy along the first right singular vector v of a window, and its cosine there.

    With d = decay's part and g = the gradient's part of each update along v: sum d^2 / sum (d^2 + g^2), and
    sum d g / sqrt(sum d^2 sum g^2), 1 if both push the same way. NaN if decay is unknown or nothing moves.
    """
    gram_LL, mixed_LL = of.total[place, place], of.mixed[place, place]
    if not np.isfinite(mixed_LL).all():
        return math.nan, math.nan
    energies, vectors = np.linalg.eigh(gram_LL)
    if energies[-1] <= 0:
        return math.nan, math.nan
    first_L = vectors[:, -1] / math.sqrt(energies[-1])
    whole_L, decay_L = gram_LL @ first_L, mixed_LL @ first_L
    gradient_L = whole_L - decay_L
    of_decay, of_gradient = float(decay_L @ decay_L), float(gradient_L @ gradient_L)
    both = math.sqrt(of_decay * of_gradient)
    cosine = float(decay_L @ gradient_L) / both if both > 0 else math.nan
    total = of_decay + of_gradient
    return of_decay / total if total > 0 else math.nan, cosine


def decay_of(layer: Matrix, weights: Mapping[str, Tensor], before: int) -> Tensor | None:
    """The effect of decay on a layer since the checkpoint of step `before`; None if not recorded."""
    name = layer.parameter + SUM
    if name not in weights or int(weights[SINCE]) != before:
        return None
    return dataclasses.replace(layer, parameter=name).of(weights)


def compute(view: RunView) -> Values:
    """All numbers by layer, and for all layers as one vector; layers missing from some checkpoints do not move."""
    from specdyn.tasks.spectra.trajectories import kept_width, sketch

    steps, layers = len(view.steps), [layer for layer in view.layers if layer.parameter not in view.absent]
    width = kept_width(2 * max(1, len(layers)), steps)
    points: list[list[np.ndarray]] = [[] for _ in layers]
    decays: list[list[np.ndarray]] = [[] for _ in layers]
    for i, step in enumerate(view.steps):
        weights = view.read(step)
        for kept, kept_decay, layer in zip(points, decays, layers, strict=True):
            kept.append(sketch(layer.of(weights), width, layer.name))
            if i:
                d_MN = decay_of(layer, weights, view.steps[i - 1])
                kept_decay.append(np.full(len(kept[-1]), math.nan) if d_MN is None else sketch(d_MN, width, layer.name))
    found = {
        layer.name: grams(np.diff(np.stack(kept), axis=0), np.stack(of_decay))
        for layer, kept, of_decay in zip(layers, points, decays, strict=True)
        if of_decay
    }
    nothing = Grams(*(np.zeros((steps - 1, steps - 1)) for _ in Grams._fields))
    together = functools.reduce(Grams.plus, found.values(), nothing)
    of_layers = [windows(found.get(layer.name, nothing), steps) for layer in view.layers]
    return {
        **{f"window_{name}": np.stack([of[name] for of in of_layers]) for name in of_layers[0]},
        **{f"network_window_{name}": array for name, array in windows(together, steps).items()},
    }


def _declared(prefix: str, dims: tuple[str, ...], whose: str) -> dict[str, Variable]:
    return {
        f"{prefix}singular_value": Variable(
            dims=(*dims, "portion", "window_rank"),
            long_name=f"singular value of ten updates{whose}",
            about="s_k of X, whose rows are the updates between eleven neighbouring checkpoints, or the gradient's or "
            "decay's part of them; arXiv 2603.15678",
        ),
        f"{prefix}edge": Variable(
            dims=(*dims, "portion"),
            long_name=f"spectral edge of ten updates{whose}",
            dtype=COUNT,
            about="k* = argmax s_k / s_{k+1} over k up to 5; values below 1e-5 s_1 count as that; arXiv 2603.15678",
        ),
        f"{prefix}edge_ratio": Variable(
            dims=(*dims, "portion"),
            long_name=f"ratio at the spectral edge of ten updates{whose}",
            about="max s_k / s_{k+1} over k up to 5; 1 without any structure; arXiv 2603.15678",
        ),
        f"{prefix}decay_share": Variable(
            dims=dims,
            long_name=f"weight decay's share of ten updates{whose}",
            about="sum d^2 / sum (d^2 + g^2), d and g the coordinates of decay's and the gradient's part of each "
            "update along the first right singular vector of X; arXiv 2604.07380",
        ),
        f"{prefix}decay_alignment": Variable(
            dims=dims,
            long_name=f"alignment of decay with gradient in ten updates{whose}",
            about="sum d g / sqrt(sum d^2 sum g^2): 1 where both push the same way, -1 against one another; "
            "arXiv 2604.07380",
        ),
    }


ANALYSIS = Analysis(
    name="update_windows",
    version=1,
    of="run",
    needs_vectors=False,
    default=False,
    variables={
        **_declared("window_", ("layer", "step"), ""),
        **_declared("network_window_", ("step",), ", network"),
    },
    compute=compute,
    labels={"portion": PORTIONS, "window_rank": tuple(range(1, LENGTH + 1))},
)
