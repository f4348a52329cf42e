"""Tensors of a checkpoint that another program wrote, by name, each read when it is asked for."""

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
    """What is taken where a checkpoint holds several things; empty strings leave it to the usual rules."""

    key: str = ""
    """Where in a file of torch.save the weights are: keys joined by dots."""
    weights: str = ""
    """A part of the name of one of several sets, such as `ema`."""
    part: str = ""
    """The folder of a model that consists of several."""


class ForeignWeights(Mapping[str, Tensor]):
    """Tensors by name in order, floating ones as float32; the two read last are held, one being read ahead.

    OutOfRange where a tensor of float64 is asked for whose numbers float32 cannot hold.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    @cached_property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by name, without reading them where the format allows."""

    @cached_property
    @abstractmethod
    def dtypes(self) -> dict[str, torch.dtype]:
        """The type that every tensor is stored in."""

    @property
    def passed_over(self) -> dict[str, str]:
        """What lies among the tensors and is not read, with the reason."""
        return {}

    @property
    def files(self) -> dict[str, str]:
        """The file that holds each tensor, by the tensor's name."""
        return {}

    @property
    def shared(self) -> dict[str, str]:
        """Names of tensors that are another one in the file, as tied weights are, each with the name of that one."""
        return {}

    @property
    def sets(self) -> dict[str, bool]:
        """The sets of weights that the checkpoint holds by name, and whether they are read; empty where it has one."""
        return {}

    @abstractmethod
    def read(self, name: str) -> Tensor:
        """A tensor as it is stored."""

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
    """The tensor in float32; OutOfRange where its largest finite entry leaves the range of normal numbers there."""
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
    """Whether two checkpoints have the same tensors, to the bit; reads one of each at a time."""
    if a.shapes != b.shapes or a.dtypes != b.dtypes:
        return False
    return all(as_bytes(a.read(name)) == as_bytes(b.read(name)) for name in a.shapes)


def as_bytes(w: Tensor) -> memoryview:
    """The elements in order as they are stored, without a copy where they lie in order."""
    return w.contiguous().reshape(-1).view(torch.uint8).numpy().data
