"""A model in memory as a series of one checkpoint, like those of other programs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from specdyn.storage.foreign.weights import ForeignWeights
from specdyn.tasks.foreign.network.convolutions import Module
from specdyn.tasks.foreign.network.layout import Look, Tensors, foreign_layout
from specdyn.tasks.foreign.weights.resolved import ResolvedWeights
from specdyn.tasks.spectra.analysis import Evaluate
from specdyn.tasks.spectra.network_layout import NetworkLayout

BUFFER = "a buffer, which is not trained"


class MemoryWeights(ForeignWeights):
    """The tensors of a state dict; a tensor sharded over processes is gathered when read."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._tensors = tensors

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    @cached_property
    def dtypes(self) -> dict[str, torch.dtype]:
        return {name: tensor.dtype for name, tensor in self._tensors.items()}

    @cached_property
    def shared(self) -> dict[str, str]:
        """Names of tensors that share memory with another one, such as tied weights."""
        first: dict[Any, str] = {}
        return {
            name: kept
            for name, tensor in self._tensors.items()
            if tensor.numel()
            and not tensor.is_meta
            and (kept := first.setdefault((tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride()), name))
            != name
        }

    def read(self, name: str) -> Tensor:
        """A copy on the CPU, so that training may continue; ValueError if the model has no values (meta device)."""
        tensor = self._tensors[name].detach()
        if tensor.is_meta:
            raise ValueError(f"tensor {name!r} is on the meta device and has no values: load the model's weights first")
        full = getattr(tensor, "full_tensor", None)
        return (full() if full else tensor).to("cpu", copy=True)


@dataclass(frozen=True, kw_only=True)
class ModelSeries:
    """The one checkpoint of a model in memory, as step 0."""

    name: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    buffers: frozenset[str] = frozenset()
    """Tensors that the model does not train."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Step 0."""
        return (0,)

    @cached_property
    def _weights(self) -> ResolvedWeights:
        return ResolvedWeights(MemoryWeights(self.tensors), self.config)

    def weights(self, step: int) -> ResolvedWeights:
        """The weights with which the model computes."""
        return self._weights

    def absent(self, step: int, layout: NetworkLayout) -> frozenset[str]:
        """Empty: there is only one checkpoint."""
        return frozenset()

    def evaluator(self) -> Evaluate | None:
        """None: there is no data to evaluate the model on."""
        return None

    def layout(self, look: Look) -> NetworkLayout:
        """The layers and pairs from the tensors and the model's config; buffers are not layers."""
        tensors = self._weights.tensors()
        untrained = self.buffers & tensors.shapes.keys()
        known = Tensors(
            shapes={name: shape for name, shape in tensors.shapes.items() if name not in untrained},
            dtypes=tensors.dtypes,
            made=tensors.made,
            left_out={**tensors.left_out, **{name: (tensors.shapes[name], BUFFER) for name in untrained}},
            tied=tensors.tied,
        )
        return replace(foreign_layout(known, self.config, look), told=self._weights.told)


def series_of_module(model: nn.Module, name: str) -> ModelSeries:
    """A network as a series, with its config if it is a Hugging Face model."""
    config = getattr(model, "config", None)
    as_dict = getattr(config, "to_dict", None)
    return ModelSeries(
        name=name,
        tensors=model.state_dict(keep_vars=True),
        config=as_dict() if as_dict else {},
        buffers=frozenset(name for name, _ in model.named_buffers()),
    )


def look_of_module(model: nn.Module, look: Look) -> Look:
    """Complete the look from the modules: convolutions, and the number of attention heads if all agree."""
    convolutions = {
        f"{name}.weight" if name else "weight": Module(
            transposed=isinstance(module, nn.modules.conv._ConvTransposeNd), groups=module.groups
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd)
    }
    heads = {module.num_heads for module in model.modules() if isinstance(module, nn.MultiheadAttention)}
    return replace(look, modules=convolutions, heads=look.heads or (heads.pop() if len(heads) == 1 else 0))
