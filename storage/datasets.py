"""Prepared data sets: arrays in a content-addressed Zarr, and a manifest that is written last and once."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from specdyn.storage.access import objects
from specdyn.storage.access.codec import decode, encode
from specdyn.storage.places import Store
from specdyn.storage.schema import SCHEMA_VERSION

CHUNK_BYTES = 16 * 2**20


class DamagedData(Exception):
    """A prepared data set is incomplete or altered; the message says which, where and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayEntry:
    """An array's entry in the manifest."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str
    """Hash of the values in C order, little-endian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataManifest:
    """Written last: its existence means that the data set is prepared."""

    key: str
    name: str
    variant: str
    title: str
    arrays: Mapping[str, ArrayEntry]
    place: str
    """Name of the Zarr next to the manifest."""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Source, bytes and sha256 of every file that it was made from."""
    params: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    attribution: str = ""
    schema_version: int = SCHEMA_VERSION


def entry_of(array: np.ndarray) -> ArrayEntry:
    """Type, shape and hash of an array."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(plain.reshape(-1).view(np.uint8).data).hexdigest()
    return ArrayEntry(dtype=str(array.dtype), shape=array.shape, sha256=digest)


def write_arrays(store: Store, key: str, arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, ArrayEntry]]:
    """Write arrays, whose names may have one group before a slash; returns the Zarr's name and the manifest entries.

    The Zarr's name contains the content's hash, so concurrent writers either write the same files or do not collide.
    """
    from specdyn.storage.zarr_tree import ZarrTree

    entries = {name: entry_of(array) for name, array in arrays.items()}
    place = f"arrays-{_content_hash(entries)}.zarr"
    url = f"{store.dataset(key)}/{place}"
    for name, array in arrays.items():
        *groups, last = name.split("/")
        tree = ZarrTree({"schema_version": SCHEMA_VERSION})
        group = tree.root.require_group(groups[0]) if groups else tree.root
        group.create_array(last, data=array, chunks=_chunks(array))
        objects.write_all(url, tree.objects())
    return place, entries


def _content_hash(entries: Mapping[str, ArrayEntry]) -> str:
    plain = {name: dataclasses.asdict(entry) for name, entry in entries.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _chunks(array: np.ndarray) -> tuple[int, ...]:
    """The chunk shape: whole rows, about CHUNK_BYTES of them."""
    row = max(1, array[:1].nbytes)
    return (max(1, min(len(array), CHUNK_BYTES // row)), *array.shape[1:])


def publish(store: Store, manifest: DataManifest) -> DataManifest:
    """Write the manifest unless one exists; returns the stored one, ours or another writer's."""
    url, text = store.data_manifest(manifest.key), encode(manifest)
    if objects.create(url, text):
        return decode(DataManifest, url, text)
    there = read_data_manifest(store, manifest.key)
    if there is None:
        raise objects.StoreError(f"{url} was there and is gone: somebody deletes it; prepare it again")
    if there.place != manifest.place:
        objects.delete(f"{store.dataset(manifest.key)}/{manifest.place}")
    return there


def read_data_manifest(store: Store, key: str) -> DataManifest | None:
    """The manifest, or None if the data set is not prepared; StoreError for a newer schema."""
    url = store.data_manifest(key)
    try:
        return decode(DataManifest, url, objects.read(url))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedData(f"{url} is not a manifest ({error}); {_repair(store, key)}") from None


def read_arrays(store: Store, manifest: DataManifest, only: str = "") -> dict[str, np.ndarray]:
    """All arrays, or `only` one of them; DamagedData unless each has the recorded type, shape and hash."""
    url = f"{store.dataset(manifest.key)}/{manifest.place}"
    arrays = {}
    for name in [only] if only else manifest.arrays:
        expected = manifest.arrays[name]
        what = f"{manifest.name}/{manifest.variant}: array {name!r} at {url}"
        arrays[name] = _read_array(url, name, what, _repair(store, manifest.key))
        if (entry := entry_of(arrays[name])) != expected:
            raise DamagedData(
                f"{what} is {entry.dtype} {entry.shape} with sha256 {entry.sha256[:12]}…, expected {expected.dtype} "
                f"{expected.shape} with {expected.sha256[:12]}…; {_repair(store, manifest.key)}"
            )
    return arrays


def _read_array(url: str, name: str, what: str, repair: str) -> np.ndarray:
    try:
        with objects.explained(url):
            import zarr

            store = objects.zarr_store(url, read_only=True)
            return np.asarray(zarr.open_array(store, path=name, mode="r", zarr_format=3)[...])
    except FileNotFoundError:
        raise DamagedData(f"{what} is missing; {repair}") from None
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DamagedData(f"{what} cannot be read ({error}); {repair}") from None


def _repair(store: Store, key: str) -> str:
    return f"delete {store.dataset(key)} and prepare the data set again"
