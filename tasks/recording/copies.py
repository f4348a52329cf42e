"""Copies a network's tensors to host memory, under their names without wrappers.

Only reads the network: draws no random numbers, changes no mode, hooks and compiles nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from specdyn.models.spec.checks import require
from specdyn.tasks.foreign.weights.wrappers import INSIDE

WATCHED = 8
"""Number of tensors whose version counters represent all."""


@dataclass(slots=True)
class Copies:
    """Tensors at a step; those copied from a GPU are complete once `wait` returns."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    """Names of tensors that alias another one, with the name of that one, which is copied."""
    events: list[Any] = field(default_factory=list)

    def wait(self) -> None:
        """Wait until the copies are complete; do not call it from the training thread."""
        for event in self.events:
            event.synchronize()


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DataParallel and DistributedDataParallel."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and buffers in registration order, under their names without compilers' and wrappers' prefixes."""
    for name, value in unwrapped(model).state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and value.layout == torch.strided:
            yield INSIDE.sub("", name), value


def is_spread(model: nn.Module) -> bool:
    """Whether tensors of the network are sharded over several processes, which must all take part in a copy."""
    return any(_whole_of(parameter) is not None for parameter in model.parameters())


def copied(model: nn.Module, kept: bool = True) -> Copies:
    """Copy all tensors, each once; copies from a GPU are only queued on its stream.

    Sharded tensors are gathered one after another by all processes; without `kept` a process only takes
    part in gathering.
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
    """ValueError if one process cannot copy the weights, or would wait for others that are unaware of it."""
    kinds = {type(module).__name__ for module in model.modules()}
    advice = "a network sharded by torch.distributed.fsdp.fully_shard, or not sharded"
    require("FullyShardedDataParallel" not in kinds, "model", "FullyShardedDataParallel", advice)
    require(not any(hasattr(p, "ds_id") for p in model.parameters()), "model", "DeepSpeed's ZeRO stage 3", advice)


def watched(model: nn.Module) -> list[Tensor]:
    """A few tensors across the network, whose version counters increase with in-place changes.

    Fused optimizers do not increase them.
    """
    every = [*model.parameters(), *model.buffers()]
    return every[:: max(1, len(every) // WATCHED)]


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered if it is sharded; all processes must call this."""
    join = _whole_of(tensor)
    return tensor.detach() if join is None else join().detach()


def _copy(value: Tensor, kept: bool) -> Tensor | None:
    """A copy in host memory, if kept; frees the gathered tensor."""
    tensor = whole(value)
    return _to_host(tensor) if kept else None


def _to_host(tensor: Tensor) -> Tensor:
    return _pinned(tensor).copy_(tensor, non_blocking=True) if tensor.is_cuda else tensor.to("cpu", copy=True)


def _pinned(tensor: Tensor) -> Tensor:
    """Pinned host memory, to which a GPU can copy asynchronously."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)


def _whole_of(tensor: Tensor) -> Callable[[], Tensor] | None:
    """The function that gathers a sharded tensor; None for other tensors."""
    return getattr(tensor, "full_tensor", None)
