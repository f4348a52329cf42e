"""A Zarr put together in memory, to be stored with one request an object and nothing read back."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
import zarr.storage
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer

CHECKED = (ZstdCodec(), Crc32cCodec())
"""Compressed, with a checksum: a chunk that is not as it was written raises when it is read."""


class ZarrTree:
    """Groups, coordinates and the metadata of arrays, held in memory until `objects` are stored."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._content: dict[str, Buffer] = {}
        self._store = zarr.storage.MemoryStore(self._content)
        self.root = zarr.create_group(self._store, zarr_format=3, attributes=dict(attributes))

    def consolidate(self) -> None:
        """Repeat all metadata in the root's and in each group's, so that a reader of either asks once."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            zarr.consolidate_metadata(self._store, zarr_format=3)
            for name, _ in self.root.groups():
                zarr.consolidate_metadata(self._store, path=name, zarr_format=3)

    def objects(self) -> dict[str, bytes]:
        """Everything by key, ready to be put below the tree's URL."""
        return {key: content.to_bytes() for key, content in self._content.items()}


def add_coordinate(
    group: zarr.Group,
    name: str,
    dims: tuple[str, ...],
    values: Sequence[Any],
    attributes: Mapping[str, Any],
    rows: int | None = None,
) -> None:
    """Put a coordinate, whole in one chunk or in chunks of `rows`; strings become variable-length strings."""
    data = np.asarray(values)
    if data.dtype.kind == "U":
        data = data.astype(np.dtypes.StringDType())
    group.create_array(
        name,
        data=data,
        chunks=(rows or data.shape[0], *data.shape[1:]),
        dimension_names=dims,
        attributes=dict(attributes),
        compressors=CHECKED,
        config={"write_empty_chunks": True},
    )


def add_auxiliary(
    group: zarr.Group,
    name: str,
    dims: tuple[str, ...],
    values: Sequence[Any],
    attributes: Mapping[str, Any],
    rows: int | None = None,
) -> None:
    """Put a coordinate that is not the index of its dimension; the group's attribute says so, as CF has it."""
    add_coordinate(group, name, dims, values, attributes, rows)
    group.attrs["coordinates"] = " ".join(dict.fromkeys([*auxiliary_coordinates(group), name]))


def auxiliary_coordinates(group: zarr.Group) -> list[str]:
    """Names of the coordinates that are not the index of their dimension."""
    return str(group.attrs.get("coordinates", "")).split()
