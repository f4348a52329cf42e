"""Results of units of work: immutable objects, each written once, with their inputs' digests and their own.

An object is its own marker: its name says which checkpoints and analyses it covers, so that missing results are
found by listing names.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from specdyn.storage.access import objects
from specdyn.storage.access.codec import require_schema
from specdyn.storage.access.objects import StoreError
from specdyn.storage.identity import short_digest
from specdyn.storage.schema import SCHEMA_VERSION, Variable

Values = dict[str, np.ndarray]
Version = int | str
"""Version of an analysis; a text if a digest of the source is part of it."""
SUFFIX = ".safetensors"
LARGEST_BLOCK = 16
PART = re.compile(r"(\d{8,})-(\d{8,})-([0-9a-f]{12})(?:-([0-9a-f]{12}))?" + re.escape(SUFFIX))
HEADER = 8
"""Bytes at the start of a safetensors file that hold the length of its header."""


class DamagedResult(StoreError):
    """A result is damaged; the message says which object, and what to do."""

    def __init__(self, url: str, why: str) -> None:
        self.url = url
        super().__init__(f"{url}: {' '.join(why.split())[:200]}; it was damaged after it was written")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLayout:
    """The variables of a run's results, and the labels of every dimension."""

    labels: Mapping[str, Sequence[Any]]
    variables: Mapping[str, Variable]
    attributes: Mapping[str, Any]
    extras: Mapping[str, tuple[str, Sequence[Any]]]
    """Further coordinates: name -> (dimension, values); schema.COORDINATES says what they are."""

    @property
    def sizes(self) -> dict[str, int]:
        """Length of every dimension."""
        return {dim: len(labels) for dim, labels in self.labels.items()}

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints, ascending."""
        return tuple(self.labels["step"])

    def blocks(self) -> list[tuple[int, ...]]:
        """The steps in blocks; each is one unit of work and one object."""
        return blocks_of(self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A block of a run's checkpoints with some analyses, parsed from the name of its object."""

    name: str
    first: int
    last: int
    analyses: str
    """Digest of the analyses and their versions."""
    content: str = ""
    """Digest of its checkpoints, if the folder's name does not contain it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The content of a result: arrays, and everything that determines them."""

    values: Values
    metadata: Mapping[str, Any]

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints in a block."""
        return tuple(self.metadata["steps"])


def block_length(checkpoints: int) -> int:
    """Checkpoints in a block: about an eighth of the run, 1 to 16."""
    return max(1, min(LARGEST_BLOCK, -(-checkpoints // 8)))


def blocks_of(steps: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The steps of a run's checkpoints cut into blocks."""
    length = block_length(len(steps))
    return [steps[i : i + length] for i in range(0, len(steps), length)]


def part_name(steps: Sequence[int], analyses: Mapping[str, Version], content: str = "") -> str:
    """The name of the object of a block with these analyses (name -> version)."""
    ends = "-".join([f"{steps[0]:08d}", f"{steps[-1]:08d}", short_digest(dict(analyses)), *filter(None, [content])])
    return f"{ends}{SUFFIX}"


def write_block(
    folder: str,
    layout: RunLayout,
    steps: tuple[int, ...],
    analyses: Mapping[str, Version],
    values: Mapping[str, np.ndarray],
    of_run: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
    content: str = "",
) -> bool:
    """Write the results of some analyses on a block as one object; False if it existed already.

    With `content`, a digest of the checkpoints, any steps may form a block.

    `values` have their declared shapes, with `step` cut to the block except for those `of_run`. ValueError for steps
    that are not a block of the run, and for a wrong shape.
    """
    if not content and steps not in layout.blocks():
        raise ValueError(f"steps={steps} of {folder} are not one of the run's blocks: {layout.blocks()}")
    stored: Values = {}
    of_run = of_run or {}
    for name, array in {**values, **of_run}.items():
        dims, sizes = layout.variables[name].dims, layout.sizes
        if name not in of_run:
            sizes["step"] = len(steps)
        if array.shape != (expected := tuple(sizes[dim] for dim in dims)):
            raise ValueError(f"variable {name!r} of {folder}: expected {dims} = {expected}, got {array.shape}")
        stored[name] = layout.variables[name].stored(array)
    used = {"step", *(dim for name in stored for dim in layout.variables[name].dims)}
    decides = {
        **(metadata or {}),
        "steps": list(steps),
        "analyses": dict(analyses),
        "labels": {dim: list(labels) for dim, labels in layout.labels.items() if dim in used}
        | ({"step": list(steps)} if content and not of_run else {}),
        "dims": {name: list(layout.variables[name].dims) for name in stored},
        "of_run": sorted(of_run),
    }
    return write_values(f"{folder}/{part_name(steps, analyses, content)}", stored, decides)


def parts_in(names: Iterable[str]) -> list[Part]:
    """The blocks among the names of objects."""
    matches = (PART.fullmatch(name) for name in names)
    return [Part(name=m[0], first=int(m[1]), last=int(m[2]), analyses=m[3], content=m[4] or "") for m in matches if m]


def analyses_of(folder: str, part: Part) -> Mapping[str, Version]:
    """The analyses of a block, with their versions; empty if its header cannot be read.

    Each process reads one header for all blocks with the same analyses.
    """
    if part.analyses not in _KNOWN:
        try:
            remember(read_metadata(f"{folder}/{part.name}")["analyses"])
        except (FileNotFoundError, KeyError, DamagedResult):
            return {}
    return _KNOWN.get(part.analyses, {})


_KNOWN: dict[str, Mapping[str, Version]] = {}
"""Analyses with their versions, by the digest in object names."""


def remember(analyses: Mapping[str, Version]) -> None:
    """Cache these analyses by the digest in block names."""
    _KNOWN[short_digest(dict(analyses))] = dict(analyses)


def write_values(url: str, values: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> bool:
    """Write arrays as one object with its own digest; False if it existed already."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(value, order="C") for name, value in values.items()}
    # One key, as safetensors writes several in no fixed order, and equal results must have equal bytes.
    plain = {"schema_version": SCHEMA_VERSION, "order": list(arrays), **metadata}
    text = json.dumps({**plain, "sha256": _digest(arrays, plain)}, sort_keys=True)
    return objects.create(url, save(arrays, metadata={"specdyn": text}))


def read_values(url: str) -> Measured | None:
    """The arrays of an object and what determines them, or None if there is no object.

    DamagedResult if the bytes were altered, StoreError if a newer specdyn wrote them.
    """
    try:
        return values_in(url, objects.read(url))
    except FileNotFoundError:
        return None


def values_in(url: str, data: bytes) -> Measured:
    """The same from the bytes of the object at the URL."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        metadata = json.loads(_header(data[HEADER : HEADER + int.from_bytes(data[:HEADER], "little")]))
        arrays = load(data)
        values = {name: arrays[name] for name in metadata["order"]}
        expected, version = metadata.pop("sha256"), int(metadata["schema_version"])
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DamagedResult(url, f"{type(error).__name__}: {error}") from None
    require_schema(url, version)
    if len(values) != len(arrays) or expected != _digest(values, metadata):
        raise DamagedResult(url, "its digest does not match")
    return Measured(values=values, metadata=metadata)


def read_metadata(url: str) -> dict[str, Any]:
    """The metadata of an object, without its arrays: two ranged requests. DamagedResult if the header is invalid."""
    length = int.from_bytes(objects.read_range(url, 0, HEADER), "little")
    try:
        found: dict[str, Any] = json.loads(_header(objects.read_range(url, HEADER, HEADER + length)))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DamagedResult(url, f"{type(error).__name__}: {error}") from None
    return found


def _header(data: bytes) -> str:
    return str(json.loads(data)["__metadata__"]["specdyn"])


def _digest(values: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """Digest of the metadata and of every byte of the values."""
    described = [[name, array.dtype.str, list(array.shape)] for name, array in values.items()]
    digest = hashlib.sha256(json.dumps([described, metadata], sort_keys=True).encode())
    for array in values.values():
        digest.update(array.tobytes())
    return digest.hexdigest()


def present(url: str) -> bool:
    """Whether an intact object exists; a damaged one is removed, so that it is measured again."""
    try:
        return read_values(url) is not None
    except DamagedResult:
        objects.delete(url)
        return False


def ids_in(folder: str) -> set[str]:
    """Ids of all results of a kind (ends, pairs or tickets); one listing."""
    return {name.removesuffix(SUFFIX) for name in objects.names(folder)}
