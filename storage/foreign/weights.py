"""Lazy access by name to the tensors of another program's checkpoint."""

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from specdyn.storage.schema import OutOfRange

HELD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which weights to use if a checkpoint holds several sets; empty strings mean the usual rules."""

    key: str = ""
    """Path of the weights in a file of torch.save: keys joined by dots."""
    weights: str = ""
    """A part of the name of one of several sets, such as `ema`."""
    part: str = ""
    """The subfolder of a model that consists of several."""


class ForeignWeights(Mapping[str, Tensor]):
    """Tensors by name in order, floating-point ones as float32; caches the last two, one of them read ahead.

    OutOfRange when reading a float64 tensor whose values float32 cannot hold.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    @cached_property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by name, without reading the tensors if the format allows it."""

    @cached_property
    @abstractmethod
    def dtypes(self) -> dict[str, torch.dtype]:
        """The stored type of every tensor."""

    @property
    def passed_over(self) -> dict[str, str]:
        """Entries that are skipped, with the reason."""
        return {}

    @property
    def files(self) -> dict[str, str]:
        """The file that holds each tensor, by the tensor's name."""
        return {}

    @property
    def shared(self) -> dict[str, str]:
        """Names of tensors that alias another one in the file, such as tied weights, with that one's name."""
        return {}

    @property
    def sets(self) -> dict[str, bool]:
        """The checkpoint's sets of weights by name, and whether each is read; empty if it has only one."""
        return {}

    @abstractmethod
    def read(self, name: str) -> Tensor:
        """A tensor in its stored type."""

    def __getitem__(self, name: str) -> Tensor:
        with self._lock:
            if name not in self._held:
                if name not in self.shapes:
                    raise KeyError(name)
                tensor = self.read(name)
                self._held[name] = as_float32(name, tensor) if tensor.is_floating_point() else tensor
                while len(self._held) > HELD:
                    self._held.pop(next(iter(self._held)))
            return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def as_float32(name: str, w: Tensor) -> Tensor:
    """The tensor in float32; OutOfRange if its largest finite entry is outside float32's normal range."""
    if w.dtype != torch.float64 or not w.numel():
        return w.float()
    finite = torch.where(w.isfinite(), w, 0.0)
    largest = max(float(finite.max()), -float(finite.min()))
    low, high = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
    if largest and not low <= largest <= high:
        raise OutOfRange(
            f"tensor {name!r} is out of range: its largest entry is {largest:.3g}, expected {low:.2g} to {high:.2g}, "
            "as it is analysed in float32; scale the weights, or leave the checkpoint out"
        )
    return w.float()


def same_content(a: ForeignWeights, b: ForeignWeights) -> bool:
    """Whether two checkpoints hold bitwise equal tensors; reads one of each at a time."""
    if a.shapes != b.shapes or a.dtypes != b.dtypes:
        return False
    return all(as_bytes(a.read(name)) == as_bytes(b.read(name)) for name in a.shapes)


def as_bytes(w: Tensor) -> memoryview:
    """The elements as stored, in row-major order; without a copy if they are contiguous."""
    return w.contiguous().reshape(-1).view(torch.uint8).numpy().data
