"""Tensors as files hold them: their shape and type are known, their bytes are read when they are asked for."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from specdyn.storage.checkpoints import DamagedCheckpoint

EXPANDED = 2**24
"""Elements up to which a tensor may have more of them than its storage, as one that was expanded."""
DENSE_BYTES = 2**31
"""Bytes up to which a sparse tensor is made dense."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """The elements of a storage: `count` of them from `first` on in what `read(start, end)` gives bytes of."""

    read: Callable[[int, int], bytes]
    dtype: torch.dtype
    count: int
    first: int = 0

    def part(self, start: int, count: int) -> "Bytes":
        """Some of the elements; DamagedCheckpoint for those that it does not have."""
        if start < 0 or count < 0 or start + count > self.count:
            raise DamagedCheckpoint(f"a view of elements {start} to {start + count} of a storage of {self.count}")
        return Bytes(self.read, self.dtype, count, self.first + start)


class Stored:
    """A tensor in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        """The tensor; DamagedCheckpoint where the file does not hold what it says."""
        raise NotImplementedError

    def why_not(self) -> str:
        """Why it is not read; empty where it is."""
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
        """The tensor, whose bytes are read by one request."""
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
    """A tensor that lies in the pickle itself, as numpy's arrays do."""

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
        """That of its values."""
        return self.values.dtype if isinstance(self.values, Stored) else torch.float32

    def why_not(self) -> str:
        """That it would take too much memory."""
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
        """Where the values belong, an index a dimension."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Coordinates(Sparse):
    """Places of values, one for each."""

    indices: Stored
    values: Stored
    shape: tuple[int, ...]

    def places(self) -> tuple[Tensor, ...]:
        """The columns of its indices."""
        return tuple(self.indices.read())


@dataclass(frozen=True, slots=True)
class Compressed(Sparse):
    """Values row by row, or column by column."""

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
