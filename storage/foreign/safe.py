"""Reads tensors from safetensors files, each by one ranged request."""

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint, tensor_digest
from specdyn.storage.foreign.weights import ForeignWeights

FIRST_READ = 65_536
"""Size of the first request for a safetensors file, in bytes; most headers are shorter."""
LONGEST_HEADER = 100_000_000
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "C64": torch.complex64,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a tensor in a file."""

    url: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


class SafeWeights(ForeignWeights):
    """One or more safetensors files: one request for a header, one ranged request a tensor.

    The order is the one recorded by specdyn, else the natural order of the names.
    """

    def __init__(self, urls: tuple[str, ...]) -> None:
        super().__init__()
        self._urls = urls
        self._digests: dict[str, str] = {}

    @cached_property
    def _places(self) -> dict[str, Place]:
        places: dict[str, Place] = {}
        order: list[str] = []
        for url in self._urls:
            header, start = read_header(url)
            metadata = header.pop("__metadata__", None) or {}
            order += _order(url, metadata, header)
            self._digests |= _digests(metadata)
            of_file = {name: _place(url, name, item, start) for name, item in header.items()}
            _require_apart(url, of_file)
            places |= of_file
        return {name: places[name] for name in (order if len(self._urls) == 1 else sorted(order, key=_natural))}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: place.shape for name, place in self._places.items()}

    @cached_property
    def dtypes(self) -> dict[str, torch.dtype]:
        return {name: place.dtype for name, place in self._places.items()}

    @property
    def files(self) -> dict[str, str]:
        """The file that holds each tensor."""
        return {name: place.url.rpartition("/")[2] for name, place in self._places.items()}

    def read(self, name: str) -> Tensor:
        """The tensor, by one ranged request; DamagedCheckpoint if it is truncated, or differs from specdyn's digest."""
        tensor = self._read(self._places[name], name)
        if name in self._digests and tensor_digest(tensor) != self._digests[name]:
            raise DamagedCheckpoint(f"{self._places[name].url}: tensor {name!r} is not as it was recorded")
        return tensor

    def _read(self, place: Place, name: str) -> Tensor:
        length = place.end - place.start
        if not length:
            return torch.empty(place.shape, dtype=place.dtype)
        data = _part(place.url, place.start, place.end)
        if len(data) != length:
            raise DamagedCheckpoint(
                f"{place.url}: tensor {name!r} has {len(data)} bytes, expected {length}; the file is cut short"
            )
        return torch.frombuffer(bytearray(data), dtype=place.dtype).view(place.shape)


def read_header(url: str) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file and the offset of its tensors; a long header takes a second request."""
    first = _part(url, 0, FIRST_READ)
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or not 2 <= length <= LONGEST_HEADER:
        raise DamagedCheckpoint(f"{url}: not a safetensors file: its header would have {length} bytes")
    text = first[8 : 8 + length]
    if len(text) < length and len(first) == FIRST_READ:
        text += _part(url, FIRST_READ, 8 + length)
    if len(text) < length:
        raise DamagedCheckpoint(f"{url}: the header has {len(text)} bytes, expected {length}; the file is cut short")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise DamagedCheckpoint(f"{url}: not a safetensors file: its header is not JSON")
    return header, 8 + length


def _part(url: str, start: int, end: int) -> bytes:
    try:
        return objects.read_range(url, start, end)
    except FileNotFoundError:
        raise StoreError(f"{url}: the file no longer exists") from None


def _place(url: str, name: str, item: Any, base: int) -> Place:
    """The position of a tensor by its header entry; DamagedCheckpoint if type, shape and bytes do not agree."""
    try:
        dtype, shape = DTYPES[item["dtype"]], tuple(int(size) for size in item["shape"])
        start, end = (int(offset) for offset in item["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise DamagedCheckpoint(f"{url}: tensor {name!r} is described by {item!r}, which is not understood") from None
    expected = math.prod(shape) * dtype.itemsize
    if start < 0 or end - start != expected or min(shape, default=0) < 0:
        raise DamagedCheckpoint(
            f"{url}: tensor {name!r} of shape {shape} takes {end - start} bytes, expected {expected}"
        )
    return Place(url, dtype, shape, base + start, base + end)


def _order(url: str, metadata: Mapping[str, Any], header: Mapping[str, Any]) -> list[str]:
    """The names in the order recorded by specdyn, else in natural order."""
    natural = sorted(header, key=_natural)
    if "specdyn" not in metadata:
        return natural
    try:
        recorded = [str(name) for name in json.loads(metadata["specdyn"])["order"]]
    except (ValueError, KeyError, TypeError):
        recorded = []
    if sorted(recorded) != sorted(natural):
        raise DamagedCheckpoint(
            f"{url}: the recorded order does not name the tensors of the header: expected {len(natural)}, "
            f"found {len(set(recorded) & set(natural))} of them"
        )
    return recorded


def _digests(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The digests of a recording's tensors, by name."""
    noted = json.loads(metadata["specdyn"]).get("sha256", {}) if "specdyn" in metadata else {}
    return {str(name): str(digest) for name, digest in noted.items()} if isinstance(noted, dict) else {}


def _require_apart(url: str, places: Mapping[str, Place]) -> None:
    held = sorted((place.start, place.end, name) for name, place in places.items() if place.end > place.start)
    for (_, end, before), (start, _, name) in itertools.pairwise(held):
        if start < end:
            raise DamagedCheckpoint(f"{url}: tensors {before!r} and {name!r} overlap by {end - start} bytes")


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
