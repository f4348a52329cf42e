"""Views of given weights, as an engine would hand them to an analysis."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.tasks.spectra.analysis import Decomposed, LayerView, PairView, RunView, get_analysis
from specdyn.tasks.spectra.decomposition import decompose


def matrix(entries: Sequence[Sequence[float]] | np.ndarray) -> Tensor:
    """A float32 matrix."""
    return torch.tensor(np.asarray(entries), dtype=torch.float32)


def decomposed(weights: Mapping[str, Tensor], step: int = 0, pairs: Sequence[LayerPair] = ()) -> Decomposed:
    """A checkpoint whose parameters are all layers, with the factors of what the pairs need."""
    needed = {Matrix(parameter=name) for name in weights}
    needed |= {m for pair in pairs for m in (pair.writer, pair.reader)}
    return Decomposed(step=step, weights=weights, factors={m.name: decompose(m.of(weights)) for m in needed})


def of_layer(
    name: str,
    now: Tensor,
    initial: Tensor | None = None,
    previous: Tensor | None = None,
    final: Tensor | None = None,
) -> dict[str, Any]:
    """What an analysis of layers computes of one; the first and last checkpoint are the same as now unless given."""
    view = LayerView(
        layer=Matrix(parameter="w"),
        now=decomposed({"w": now}),
        initial=decomposed({"w": now if initial is None else initial}),
        previous=None if previous is None else decomposed({"w": previous}),
        final=decomposed({"w": now if final is None else final}),
    )
    return dict(get_analysis(name).compute(view))


def of_pair(name: str, pair: LayerPair, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What an analysis of pairs computes of one."""
    view = PairView(pair=pair, now=decomposed(weights, pairs=[pair]))
    return dict(get_analysis(name).compute(view))


def run_view(history: Sequence[Mapping[str, Tensor]], pairs: Sequence[LayerPair] = ()) -> RunView:
    """A run with these weights at steps 0, 10, 20, ..."""
    steps = tuple(range(0, 10 * len(history), 10))
    return RunView(
        steps=steps,
        layers=tuple(Matrix(parameter=name) for name in history[0]),
        pairs=tuple(pairs),
        initial=decomposed(history[0], steps[0], pairs),
        final=decomposed(history[-1], steps[-1], pairs),
        read=lambda step: history[steps.index(step)],
    )
