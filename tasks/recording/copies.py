"""Copies of a network's tensors in the host's memory, by the names that they have without wrappers.

The network is only read: no random number is drawn, no mode is changed, nothing is hooked or compiled.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from specdyn.models.spec.checks import require
from specdyn.tasks.foreign.weights.wrappers import INSIDE

WATCHED = 8
"""Tensors whose version counters stand for all."""


@dataclass(slots=True)
class Copies:
    """Tensors as they were at a step; those that came from a GPU are there once `wait` returns."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    """Names of tensors that are another one, each with the name of that one, which is among the copies."""
    events: list[Any] = field(default_factory=list)

    def wait(self) -> None:
        """Wait until the copies are made; not for the thread that trains."""
        for event in self.events:
            event.synchronize()


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DataParallel and DistributedDataParallel."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and buffers in registration order, by their names without what compilers and wrappers add."""
    for name, value in unwrapped(model).state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and value.layout == torch.strided:
            yield INSIDE.sub("", name), value


def is_spread(model: nn.Module) -> bool:
    """Whether tensors of the network lie in pieces on several processes, which all have to take part in a copy."""
    return any(_whole_of(parameter) is not None for parameter in model.parameters())


def copied(model: nn.Module, kept: bool = True) -> Copies:
    """Copies of all tensors, each once; on a GPU they are only begun, in the order of its stream.

    Tensors in pieces are put together one after another, by all processes alike; without `kept` the others only take
    part in that.
    """
    copies = Copies()
    names: dict[int, str] = {}
    devices: set[torch.device] = set()
    for name, value in tensors_of(model):
        first = names.setdefault(id(value), name)
        if first != name:
            copies.tied[name] = first
            continue
        if (copy := _copy(value, kept)) is not None:
            copies.tensors[name] = copy
            if value.is_cuda:
                devices.add(value.device)
    for device in devices:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(device))
        copies.events.append(event)
    return copies


def require_copyable(model: nn.Module) -> None:
    """ValueError where one process cannot copy the weights, or would wait for others that do not know of it."""
    kinds = {type(module).__name__ for module in model.modules()}
    advice = "a network that torch.distributed.fsdp.fully_shard spreads, or none that is spread"
    require("FullyShardedDataParallel" not in kinds, "model", "FullyShardedDataParallel", advice)
    require(not any(hasattr(p, "ds_id") for p in model.parameters()), "model", "DeepSpeed's ZeRO stage 3", advice)


def watched(model: nn.Module) -> list[Tensor]:
    """A few tensors spread over the network, whose version counters grow as values are changed in place.

    Not where fused optimizers change them.
    """
    every = [*model.parameters(), *model.buffers()]
    return every[:: max(1, len(every) // WATCHED)]


def whole(tensor: Tensor) -> Tensor:
    """The tensor, put together where it is in pieces on several processes, which all have to ask for it."""
    join = _whole_of(tensor)
    return tensor.detach() if join is None else join().detach()


def _copy(value: Tensor, kept: bool) -> Tensor | None:
    """A copy in the host's memory, where it is kept; a tensor that was put together for it is gone by then."""
    tensor = whole(value)
    return _to_host(tensor) if kept else None


def _to_host(tensor: Tensor) -> Tensor:
    return _pinned(tensor).copy_(tensor, non_blocking=True) if tensor.is_cuda else tensor.to("cpu", copy=True)


def _pinned(tensor: Tensor) -> Tensor:
    """Memory of the host that a GPU can copy a tensor to by itself."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)


def _whole_of(tensor: Tensor) -> Callable[[], Tensor] | None:
    """What puts a tensor in pieces together; None for others."""
    return getattr(tensor, "full_tensor", None)
