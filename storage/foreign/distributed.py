"""Reads folders of torch.distributed.checkpoint on one machine, without a process group."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.archives import unpickled
from specdyn.storage.foreign.inert import TORCH_DTYPES, Named, StandIn
from specdyn.storage.foreign.states import OPTIMIZER, STATE_KEYS
from specdyn.storage.foreign.stored import Stored
from specdyn.storage.foreign.weights import ForeignWeights

METADATA = ".metadata"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A block of a tensor: its position in the tensor and in a file."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Sharded:
    """A tensor and its blocks."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


class DistributedWeights(ForeignWeights):
    """The tensors of a folder with `.metadata` and `.distcp` files, without those of optimizers."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    @cached_property
    def _every(self) -> tuple[dict[str, Sharded], dict[str, str]]:
        url = f"{self._folder}/{METADATA}"
        try:
            found = unpickled(objects.read(url), url)
            return _plan(found)
        except FileNotFoundError:
            raise StoreError(f"{url}: the file no longer exists") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DamagedCheckpoint(
                f"{url}: not the metadata of torch.distributed.checkpoint: {type(error).__name__} {error!s:.80}"
            ) from None

    @cached_property
    def _tensors(self) -> dict[str, Sharded]:
        """The tensors of the network, without their common prefix."""
        kept = {name: tensor for name, tensor in self._every[0].items() if not OPTIMIZER.search(name)}
        prefixes = {name.partition(".")[0] for name in kept}
        if len(prefixes) == 1 and (prefix := prefixes.pop()) in STATE_KEYS:
            return {name.removeprefix(f"{prefix}."): tensor for name, tensor in kept.items()}
        return kept

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        if not self._tensors:
            raise StoreError(f"{self._folder}: its {METADATA} lists only tensors of an optimizer, none of a network")
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    @cached_property
    def dtypes(self) -> dict[str, torch.dtype]:
        return {name: tensor.dtype for name, tensor in self._tensors.items()}

    @property
    def passed_over(self) -> dict[str, str]:
        """Everything but tensors, and the tensors of optimizers."""
        tensors, others = self._every
        return others | dict.fromkeys((n for n in tensors if OPTIMIZER.search(n)), "of an optimizer")

    def read(self, name: str) -> Tensor:
        """The tensor, assembled from its blocks; DamagedCheckpoint if they do not cover it."""
        sharded = self._tensors[name]
        whole = torch.empty(sharded.shape, dtype=sharded.dtype)
        if (covered := sum(math.prod(chunk.sizes) for chunk in sharded.chunks)) != whole.numel():
            raise DamagedCheckpoint(
                f"{self._folder}: tensor {name!r} of shape {sharded.shape} has blocks of {covered} elements"
            )
        for chunk in sharded.chunks:
            part = whole
            for dim, (offset, size) in enumerate(zip(chunk.offsets, chunk.sizes, strict=True)):
                part = part.narrow(dim, offset, size)
            part.copy_(self._block(name, chunk))
        return whole

    def _block(self, name: str, chunk: Chunk) -> Tensor:
        url = f"{self._folder}/{chunk.file}"
        try:
            data = objects.read_range(url, chunk.start, chunk.start + chunk.length)
        except FileNotFoundError:
            raise DamagedCheckpoint(f"{url}: the file is missing, expected a block of tensor {name!r}") from None
        if len(data) != chunk.length:
            raise DamagedCheckpoint(
                f"{url}: tensor {name!r} has {len(data)} bytes, expected {chunk.length}; the file is cut short"
            )
        stored = unpickled(data, url)
        if not isinstance(stored, Stored) or stored.shape != chunk.sizes:
            raise DamagedCheckpoint(f"{url}: tensor {name!r}: expected a block of shape {chunk.sizes} at {chunk.start}")
        return stored.read()


def _plan(found: Any) -> tuple[dict[str, Sharded], dict[str, str]]:
    """Every tensor with its blocks, and all other entries."""
    places: dict[tuple[str, tuple[int, ...]], StandIn] = {}
    for index, info in found.field("storage_data").items():
        places[index.field("fqn"), tuple(index.field("offset") or ())] = info
    tensors: dict[str, Sharded] = {}
    others: dict[str, str] = {}
    for name, stored in found.field("state_dict_metadata").items():
        if not isinstance(stored.field("chunks"), list):
            others[name] = "no tensor"
            continue
        blocks = [(tuple(c.field("offsets")), tuple(c.field("sizes"))) for c in stored.field("chunks")]
        chunks = tuple(map(functools.partial(_chunk, places, name), blocks))
        tensors[name] = Sharded(_dtype(stored.field("properties")), tuple(stored.field("size")), chunks)
    return tensors, others


def _chunk(
    places: Mapping[tuple[str, tuple[int, ...]], StandIn], name: str, block: tuple[tuple[int, ...], tuple[int, ...]]
) -> Chunk:
    offsets, sizes = block
    info = places[name, offsets]
    file, start, length = (info.field(field) for field in ("relative_path", "offset", "length"))
    if "/" in file or file.startswith("."):
        raise ValueError(f"the file {file!r}")
    return Chunk(offsets, sizes, file, int(start), int(length))


def _dtype(properties: StandIn) -> torch.dtype:
    state = properties.state
    named = state[0] if isinstance(state, tuple) else properties.field("dtype")
    if not isinstance(named, Named):
        raise TypeError("no dtype")
    return TORCH_DTYPES[named.name]
