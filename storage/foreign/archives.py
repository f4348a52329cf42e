"""Reads files of torch.save, old and new, and plain pickles; tensors are loaded lazily."""

import functools
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import IO, Any

import torch

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.reading import opened
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.inert import DEEPEST, InertUnpickler
from specdyn.storage.foreign.stored import Bytes

Read = Callable[[int, int], bytes]
"""The bytes [start, end) of a file."""

ARCHIVE, PICKLE = b"PK\x03\x04", b"\x80"
"""Magic bytes of torch.save: a zip archive, or in the older format a pickle."""
MAGIC = 0x1950A86A20F9469CFC6C
"""The number at the start of the older format."""
LOCAL_HEADER = 30
"""Length of a zip entry's header up to the file name."""
BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
    b"<!DOCTYPE": "a web page: the download went wrong",
    b"<html": "a web page: the download went wrong",
    b"\x89HDF": "an HDF5 file, as written by Keras: save the weights as safetensors",
    b"GGUF": "a GGUF file: use the checkpoint from which it was converted",
}
"""Magic bytes of other files."""
TAR = 257, b"ustar"
"""Where a tar archive has its magic bytes."""


def read_archive(url: str) -> Any:
    """Read a file's content: containers and plain values unchanged, tensors as `Stored`, the rest as stand-ins.

    Imports and calls nothing that the file names. DamagedCheckpoint or StoreError says what other files are.
    """
    try:
        with objects.explained(url), opened(url) as file:
            return _structure(file, functools.partial(objects.read_range, url), url)
    except FileNotFoundError:
        raise StoreError(f"{url}: the file no longer exists") from None


def _structure(file: IO[bytes], read: Read, url: str, depth: int = 0) -> Any:
    begins = file.read(TAR[0] + len(TAR[1]))
    file.seek(0)
    if not begins:
        raise DamagedCheckpoint(f"{url}: the file is empty")
    if depth > DEEPEST:
        raise DamagedCheckpoint(f"{url}: files nested {depth} deep")
    if begins[TAR[0] :] == TAR[1]:
        raise StoreError(
            f"{url}: a tar archive; if torch before 0.1.10 wrote it, load it with torch.load and save it again, "
            "otherwise unpack it"
        )
    try:
        if begins.startswith(ARCHIVE):
            return _zipped(file, read, url, depth)
        if begins.startswith(PICKLE):
            return _pickled(file, read, url, depth)
    except (DamagedCheckpoint, StoreError):
        raise
    except Exception as error:  # noqa: BLE001 - a damaged pickle may fail in any way
        reason = " ".join(f"{type(error).__name__} {error}".split())[:100]
        raise DamagedCheckpoint(f"{url}: not a readable file of torch.save, or cut short ({reason})") from None
    other = next((what for start, what in BEGINNINGS.items() if begins.startswith(start)), "")
    if not other and begins[8:9] == b"{":
        other = "a safetensors file: name it .safetensors"
    raise DamagedCheckpoint(f"{url}: not a file of torch.save: {other or f'it begins with {begins[:16]!r}'}")


def _zipped(file: IO[bytes], read: Read, url: str, depth: int) -> Any:
    """The format since torch 1.6: a zip of a pickle and one uncompressed file per storage."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, struct.error, OSError):
        raise DamagedCheckpoint(
            f"{url}: the archive has no directory at its end: the file is truncated or still being written"
        ) from None
    names = {name: archive.getinfo(name) for name in archive.namelist()}
    inside = min((name for name in names if PurePosixPath(name).name == "data.pkl"), key=len, default=None)
    if inside is None:
        raise DamagedCheckpoint(f"{url}: a zip archive without data.pkl, so not written by torch.save")
    folder = inside.removesuffix("data.pkl")
    order = names.get(f"{folder}byteorder")
    if order is not None and archive.read(order).strip() != b"little":
        raise StoreError(f"{url}: its numbers are big-endian, which is not read: save it again on this machine")

    @functools.cache
    def storage(key: str, dtype: torch.dtype, count: int) -> Bytes:
        info = names.get(f"{folder}data/{key}")
        if info is None or info.file_size < count * dtype.itemsize:
            held = "is missing" if info is None else f"has {info.file_size} bytes"
            raise DamagedCheckpoint(f"{url}: storage {key} {held}, expected {count * dtype.itemsize}")
        if info.compress_type != zipfile.ZIP_STORED:
            data = archive.read(info)
            return Bytes(lambda start, end: data[start:end], dtype, count)
        return Bytes(_at(read, functools.cache(functools.partial(_start, read, info))), dtype, count)

    pickled = io.BytesIO(archive.read(names[inside]))
    return InertUnpickler(pickled, storage, functools.partial(_within, url, depth)).load()


def _start(read: Read, info: zipfile.ZipInfo) -> int:
    """Offset of a zip entry's data; the length of the header before it is stored only in that header."""
    header = read(info.header_offset, info.header_offset + LOCAL_HEADER)
    name, extra = struct.unpack("<HH", header[26:30])
    return info.header_offset + LOCAL_HEADER + int(name) + int(extra)


def _at(read: Read, begin: Callable[[], int]) -> Read:
    def part(start: int, end: int) -> bytes:
        return read(begin() + start, begin() + end)

    return part


def _pickled(file: IO[bytes], read: Read, url: str, depth: int) -> Any:
    """The older format of torch.save, with the storages after the pickles; or a plain pickle."""
    asked: dict[str, tuple[torch.dtype, int]] = {}
    starts: dict[str, int] = {}

    @functools.cache
    def storage(key: str, dtype: torch.dtype, count: int) -> Bytes:
        asked[key] = dtype, count
        return Bytes(_at(read, lambda: _known(starts, key)), dtype, count)

    def load() -> Any:
        return InertUnpickler(file, storage, functools.partial(_within, url, depth)).load()

    first = load()
    if first != MAGIC:
        return first
    _, system, structure, keys = (load() for _ in range(4))
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise StoreError(f"{url}: its numbers are big-endian, which is not read: save it again on this machine")
    place = file.tell()
    for key in map(str, keys):
        dtype, count = asked[key]
        starts[key] = place + 8
        place += 8 + count * dtype.itemsize
    if place > file.seek(0, io.SEEK_END):
        raise DamagedCheckpoint(f"{url}: {file.tell()} bytes, expected {place}; the file is cut short")
    return structure


def _known(starts: dict[str, int], key: str) -> int:
    if key not in starts:
        raise DamagedCheckpoint(f"storage {key} is not in the file")
    return starts[key]


def _within(url: str, depth: int, data: bytes) -> Any:
    return _structure(io.BytesIO(data), lambda start, end: data[start:end], url, depth + 1)


def unpickled(data: bytes, url: str) -> Any:
    """The content of bytes written by torch.save, or of a plain pickle."""
    return _within(url, -1, data)
