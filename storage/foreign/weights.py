"""Tensors of a checkpoint that another program wrote, read one at a time; nothing is ever unpickled but tensors."""

import contextlib
import itertools
import json
import math
import os
import pickle
import re
import tempfile
import threading
import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.schema import OutOfRange

FIRST_READ = 65_536
"""Bytes that the first request of a safetensors file asks for; most headers are shorter."""
HELD = 2
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
ARCHIVE, PICKLE = b"PK\x03\x04", b"\x80"
"""How files of torch.save begin: a zip archive, or in the older format a pickle."""
STATE_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params")
"""Where training programs keep the weights among other things, Lightning's first."""


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies."""

    url: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


class SafeWeights(ForeignWeights):
    """One or more safetensors files: one request for a header, one ranged request a tensor.

    The order is the one recorded by specdyn, else that of the names with their numbers compared as numbers.
    """

    def __init__(self, urls: tuple[str, ...]) -> None:
        super().__init__()
        self._urls = urls

    @cached_property
    def _places(self) -> dict[str, Place]:
        places: dict[str, Place] = {}
        order: list[str] = []
        for url in self._urls:
            header, start = read_header(url)
            metadata = header.pop("__metadata__", None) or {}
            order += _order(url, metadata, header)
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

    def read(self, name: str) -> Tensor:
        """The tensor, by one ranged request; DamagedCheckpoint where the file ends before it."""
        place = self._places[name]
        length = place.end - place.start
        if not length:
            return torch.empty(place.shape, dtype=place.dtype)
        data = objects.read_range(place.url, place.start, place.end)
        if len(data) != length:
            raise DamagedCheckpoint(
                f"{place.url}: tensor {name!r} has {len(data)} bytes, expected {length}; the file is cut short"
            )
        return torch.frombuffer(bytearray(data), dtype=place.dtype).view(place.shape)


def read_header(url: str) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its tensors start; a second request where it is long."""
    first = objects.read_range(url, 0, FIRST_READ)
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or not 2 <= length <= LONGEST_HEADER:
        raise DamagedCheckpoint(f"{url}: not a safetensors file: its header would have {length} bytes")
    text = first[8 : 8 + length]
    if len(text) < length and len(first) == FIRST_READ:
        text += objects.read_range(url, FIRST_READ, 8 + length)
    if len(text) < length:
        raise DamagedCheckpoint(f"{url}: the header has {len(text)} bytes, expected {length}; the file is cut short")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise DamagedCheckpoint(f"{url}: not a safetensors file: its header is not JSON")
    return header, 8 + length


def _place(url: str, name: str, item: Any, base: int) -> Place:
    """Where a tensor lies by its header entry; DamagedCheckpoint where type, shape and bytes do not agree."""
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
    """The names as recorded by specdyn, else with their numbers compared as numbers."""
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


def _require_apart(url: str, places: Mapping[str, Place]) -> None:
    held = sorted((place.start, place.end, name) for name, place in places.items() if place.end > place.start)
    for (_, end, before), (start, _, name) in itertools.pairwise(held):
        if start < end:
            raise DamagedCheckpoint(f"{url}: tensors {before!r} and {name!r} overlap by {end - start} bytes")


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


class PickledWeights(ForeignWeights):
    """A file of `torch.save`, loaded as tensors only; remote ones are fetched whole into a temporary file first."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        super().__init__()
        (self._url,) = urls

    @cached_property
    def _state(self) -> dict[str, Tensor]:
        if objects.is_local(self._url):
            return find_state(self._url, _load(self._url, self._url))
        handle, path = tempfile.mkstemp(prefix="specdyn-", suffix=".pt")
        try:
            os.close(handle)
            with objects.explained(self._url):
                objects.filesystem(self._url).get_file(self._url, path)
            return find_state(self._url, _load(path, self._url))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self._state.items()}

    @cached_property
    def dtypes(self) -> dict[str, torch.dtype]:
        return {name: tensor.dtype for name, tensor in self._state.items()}

    def read(self, name: str) -> Tensor:
        """The tensor, which is mapped from the file where it is a zip archive."""
        return self._state[name]


def _load(path: str, url: str) -> Any:
    begins = b""
    try:
        with open(path, "rb") as file:
            begins = file.read(16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which is told below if it matters
            # Mapped, so that one tensor at a time is in memory; the older format has to be read whole.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=begins.startswith(ARCHIVE))
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not asked and begins and not begins.startswith((ARCHIVE, PICKLE)):
            raise DamagedCheckpoint(f"{url}: not a file of torch.save: it begins with {begins!r}") from None
        what = f"it asks for {asked.group(1)}" if asked else "it holds more than tensors"
        raise StoreError(
            f"{url}: refused, {what}: a pickle can run any program; save the state dict alone, or as safetensors"
        ) from None
    except Exception as error:  # noqa: BLE001 - what is no pickle may fail in any way
        reason = " ".join(f"{type(error).__name__} {error}".split())[:100]
        raise DamagedCheckpoint(f"{url}: not a readable file of torch.save ({reason})") from None


def find_state(url: str, loaded: Any) -> dict[str, Tensor]:
    """The weights in what a file holds: the dict of tensors itself, or the one under a usual key."""
    keys: list[str] = []
    for _ in range(3):
        if not isinstance(loaded, Mapping):
            break
        tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
        if tensors and len(tensors) == len(loaded):
            return {name: tensor.detach() for name, tensor in tensors.items()}
        keys = [str(key) for key in loaded]
        inside = [key for key in STATE_KEYS if isinstance(loaded.get(key), Mapping)]
        loaded = loaded[inside[0]] if inside else None
    raise StoreError(
        f"{url}: no state dict found; expected a dict of tensors, or one under {', '.join(STATE_KEYS)}; "
        f"found {', '.join(keys[:10]) or type(loaded).__name__}"
    )


def same_content(a: ForeignWeights, b: ForeignWeights) -> bool:
    """Whether two checkpoints have the same tensors, to the bit; reads one of each at a time."""
    if a.shapes != b.shapes or a.dtypes != b.dtypes:
        return False
    return all(as_bytes(a.read(name)) == as_bytes(b.read(name)) for name in a.shapes)


def as_bytes(w: Tensor) -> memoryview:
    """The elements in order as they are stored, without a copy where they lie in order."""
    return w.contiguous().reshape(-1).view(torch.uint8).numpy().data


PREFIXES = re.compile(r"^((?:module|_orig_mod)\.)+")


def stripped(names: Collection[str]) -> dict[str, str]:
    """Each name without the prefixes of wrappers (`module.`, `_orig_mod.`); as it is where two would become one."""
    short = {name: PREFIXES.sub("", name) for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in names}
