"""Lazy tensors in files: shape and type are known, bytes are read on demand."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from specdyn.storage.checkpoints import DamagedCheckpoint

EXPANDED = 2**24
"""Up to this many elements, a tensor may be larger than its storage (an expanded one, say)."""
DENSE_BYTES = 2**31
"""Largest sparse tensor that is made dense, in bytes."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """The elements of a storage: `count` of them, starting at `first`, in the bytes that `read(start, end)` returns."""

    read: Callable[[int, int], bytes]
    dtype: torch.dtype
    count: int
    first: int = 0

    def part(self, start: int, count: int) -> "Bytes":
        """A slice of the elements; DamagedCheckpoint if it is out of range."""
        if start < 0 or count < 0 or start + count > self.count:
            raise DamagedCheckpoint(f"a view of elements {start} to {start + count} of a storage of {self.count}")
        return Bytes(self.read, self.dtype, count, self.first + start)


class Stored:
    """A tensor in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        """The tensor; DamagedCheckpoint if the file's data do not match its description."""
        raise NotImplementedError

    def why_not(self) -> str:
        """Why the tensor is skipped; empty if it is not."""
        return ""


@dataclass(frozen=True, slots=True)
class Strided(Stored):
    """A tensor in a storage."""

    storage: Bytes
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        """The tensor, read by one request."""
        storage, width = self.storage, self.dtype.itemsize
        extent = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True)) if self.numel else 0
        held = storage.count * storage.dtype.itemsize // width
        if self.offset < 0 or min(self.stride, default=0) < 0 or self.offset + extent > held:
            raise DamagedCheckpoint(f"elements {self.offset} to {self.offset + extent} of a storage of {held}")
        if self.numel > max(held, EXPANDED):
            raise DamagedCheckpoint(f"shape {self.shape} has more elements than its storage of {held}")
        if not self.numel:
            return torch.empty(self.shape, dtype=self.dtype)
        start = storage.first * storage.dtype.itemsize + self.offset * width
        data = storage.read(start, start + extent * width)
        if len(data) != extent * width:
            raise DamagedCheckpoint(f"{len(data)} bytes, expected {extent * width}; the file is cut short")
        return torch.frombuffer(bytearray(data), dtype=self.dtype).as_strided(self.shape, self.stride)

    @property
    def numel(self) -> int:
        """Its number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Array(Stored):
    """A tensor embedded in the pickle itself, like a numpy array."""

    value: Tensor

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Its type."""
        return self.value.dtype

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Its shape."""
        return tuple(self.value.shape)

    def read(self) -> Tensor:
        """The tensor."""
        return self.value


class Sparse(Stored):
    """A sparse tensor, which is made dense."""

    values: Any

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """The dtype of its values."""
        return self.values.dtype if isinstance(self.values, Stored) else torch.float32

    def why_not(self) -> str:
        """Says if the dense tensor would take too much memory."""
        size = math.prod(self.shape) * self.dtype.itemsize
        return f"sparse, and {size:,} bytes if made dense" if size > DENSE_BYTES else ""

    def read(self) -> Tensor:
        """The dense tensor."""
        values = self.values.read()
        try:
            return torch.zeros(self.shape, dtype=values.dtype).index_put_(self.places(), values, accumulate=True)
        except (IndexError, RuntimeError) as error:
            raise DamagedCheckpoint(f"a sparse tensor of shape {self.shape} with wrong places: {error!s:.80}") from None

    def places(self) -> tuple[Tensor, ...]:
        """Indices of the values, one tensor per dimension."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Coordinates(Sparse):
    """A sparse tensor in COO format."""

    indices: Stored
    values: Stored
    shape: tuple[int, ...]

    def places(self) -> tuple[Tensor, ...]:
        """The columns of its indices."""
        return tuple(self.indices.read())


@dataclass(frozen=True, slots=True)
class Compressed(Sparse):
    """A sparse tensor in CSR or CSC format."""

    compressed: Stored
    plain: Stored
    values: Stored
    shape: tuple[int, ...]
    by_rows: bool

    def places(self) -> tuple[Tensor, ...]:
        """Rows and columns of the values."""
        counts = self.compressed.read().diff()
        if bool((counts < 0).any()):
            raise DamagedCheckpoint("a sparse tensor whose rows end before they begin")
        major = torch.arange(len(counts)).repeat_interleave(counts)
        minor = self.plain.read()
        return (major, minor) if self.by_rows else (minor, major)
