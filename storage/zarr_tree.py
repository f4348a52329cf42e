"""Builds a Zarr in memory, to be stored with one request per object and no reads."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
import zarr.storage
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer

CHECKED = (ZstdCodec(), Crc32cCodec())
"""Compressed, with a checksum: reading an altered chunk raises."""
COLUMN_BYTES = 64 * 1024
"""What a chunk of a coordinate along the runs should hold: growing by a run writes one."""


class ZarrTree:
    """Groups, coordinates and the metadata of arrays, held in memory until `objects` are stored."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._content: dict[str, Buffer] = {}
        self._store = zarr.storage.MemoryStore(self._content)
        self.root = zarr.create_group(self._store, zarr_format=3, attributes=dict(attributes))

    def consolidate(self) -> None:
        """Consolidate metadata into the root and each group, so that opening either takes one request."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            zarr.consolidate_metadata(self._store, zarr_format=3)
            for name, _ in self.root.groups():
                zarr.consolidate_metadata(self._store, path=name, zarr_format=3)

    def objects(self) -> dict[str, bytes]:
        """All objects by key, relative to the tree's URL."""
        return {key: content.to_bytes() for key, content in self._content.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelArray:
    """A coordinate of a group, or a column of the group that describes its rows, with its values."""

    name: str
    dims: tuple[str, ...]
    values: Sequence[Any]
    attributes: Mapping[str, Any]
    rows: int | None = None
    """Rows in a chunk; without it the array is one chunk."""
    auxiliary: bool = False
    """Whether it is a coordinate without being the index of its dimension."""

    @property
    def data(self) -> "np.ndarray[Any, Any]":
        """The values as they are stored: strings have variable length."""
        data = np.asarray(self.values)
        return data.astype(np.dtypes.StringDType()) if data.dtype.kind == "U" else data


def add_label_arrays(group: zarr.Group, arrays: Sequence[LabelArray]) -> None:
    """Put arrays into a group, whose attribute `coordinates` names the auxiliary ones, as CF has it."""
    for array in arrays:
        data = array.data
        group.create_array(
            array.name,
            data=data,
            chunks=(array.rows or data.shape[0], *data.shape[1:]),
            dimension_names=array.dims,
            attributes=dict(array.attributes),
            compressors=CHECKED,
            config={"write_empty_chunks": True},
        )
    if auxiliary := [array.name for array in arrays if array.auxiliary]:
        group.attrs["coordinates"] = " ".join(dict.fromkeys(auxiliary))


def rows_of_chunk(values: Sequence[Any]) -> int:
    """Rows in a chunk of a column: fixed by what one of its rows holds, whatever their number."""
    first = values[0] if len(values) else 0
    width = len(first) if isinstance(first, list) else 1
    return max(1, COLUMN_BYTES // (8 * width))
