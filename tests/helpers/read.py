"""Layouts of other programs' networks, from tensors in memory."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from specdyn.models.nets.matrices import LayerPair
from specdyn.storage.foreign.weights import ForeignWeights
from specdyn.tasks.foreign.network.layout import Look, Tensors, foreign_layout
from specdyn.tasks.foreign.weights.resolved import ResolvedWeights
from specdyn.tasks.spectra.network_layout import NetworkLayout


class InMemory(ForeignWeights):
    """Tensors as a checkpoint has them."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.tensors = dict(tensors)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:  # type: ignore[override]
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def dtypes(self) -> dict[str, torch.dtype]:  # type: ignore[override]
        return {name: tensor.dtype for name, tensor in self.tensors.items()}

    def read(self, name: str) -> Tensor:
        """The tensor."""
        return self.tensors[name]


def resolved(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None, weights: str = ""
) -> ResolvedWeights:
    """The weights that a network computes with."""
    return ResolvedWeights(InMemory(tensors), config or {}, weights)


def laid_out(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None, **look: Any) -> NetworkLayout:
    """The layout of a network with these tensors."""
    return foreign_layout(resolved(tensors, config).tensors(), config, Look(**look))


def of_shapes(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any] | None = None, **look: Any
) -> NetworkLayout:
    """The layout of a network of which only shapes are known."""
    dtypes = dict.fromkeys(shapes, torch.float32)
    return foreign_layout(Tensors(shapes=shapes, dtypes=dtypes), config, Look(**look))


def matrices(layout: NetworkLayout, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every layer by its name."""
    return {layer.name: layer.of(weights) for layer in layout.layers}


def names(pairs: tuple[LayerPair, ...]) -> list[str]:
    """Pairs as they are labelled."""
    return [pair.name for pair in pairs]


def skipped(layout: NetworkLayout) -> dict[str, str]:
    """Tensors that are not layers, with the reason."""
    return {entry.parameter: entry.skipped for entry in layout.entries if entry.skipped}
