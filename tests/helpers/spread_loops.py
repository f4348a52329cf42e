"""Training loops on several processes, started by `together`."""

import weakref
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from specdyn.tasks.recording.recorder import Recorder


class Chain(nn.Module):
    """The network as one module, which wrappers can take."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(12, 24, bias=False)
        self.second = nn.Linear(24, 12)
        self.last = nn.Linear(12, 1)
        self.tied = nn.Linear(12, 24, bias=False)
        self.tied.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One number for each row."""
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))))


def trained(kind: str, store: str, **options: Any) -> tuple[list[str], list[int], bool]:
    """Train 25 updates of a chain sharded in this way; returns errors, skipped steps, whether tensors are sharded."""
    net: nn.Module = Chain()
    if kind == "fsdp":
        net = fully_shard(net)  # type: ignore[assignment]
    elif kind == "ddp":
        net = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Recorder(store, "run", every=10, **options) as recorder:
        recorder.step(0, net)
        for step in range(1, 26):
            x = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
            loss = net(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.step(step, net, train_loss=loss)
    return recorder.errors, recorder.skipped, any(isinstance(p, DTensor) for p in net.parameters())


def refused(store: str) -> str:
    """The error in every process if the first one is refused."""
    try:
        Recorder(store, "run", settings={"seed": 1})
    except ValueError as error:
        return f"{dist.get_rank()}: {error}"
    return "not refused"


def cut_short(store: str) -> list[str]:
    """Only one process raises midway: it must not wait for the others to take part in a last copy."""
    net = fully_shard(Chain())
    try:
        with Recorder(store, "run", every=10) as recorder:
            recorder.step(0, net)
            recorder.step(1, net)
            if dist.get_rank() == 0:
                raise RuntimeError("out of memory")
            return recorder.errors
    except RuntimeError:
        return recorder.errors


def most_at_a_time(store: str, keep: str) -> int:
    """The most gathered tensors that a process holds while recording a sharded network."""
    net, alive, most = fully_shard(Chain()), [], [0]
    real = DTensor.full_tensor

    def counted(tensor: DTensor, **options: Any) -> torch.Tensor:
        alive[:] = [other for other in alive if other() is not None]
        made = real(tensor, **options)
        alive.append(weakref.ref(made))
        most[0] = max(most[0], len(alive))
        return made

    DTensor.full_tensor = counted  # type: ignore[method-assign]
    with Recorder(store, keep, keep=keep) as recorder:  # type: ignore[arg-type]
        recorder.step(0, net)
    assert recorder.errors == []
    return most[0]
