"""Prepared arrays come back as they were, and nothing counts before its manifest."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from specdyn.storage import datasets
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.datasets import DamagedData, DataManifest
from specdyn.storage.places import Store

KEY = "0123456789abcdef"
ARRAYS = {
    "image": np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2),
    "train/frames": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3),
    "train/text": np.array([3, 1, 2], np.int32),
    "val/text": np.zeros(5, np.int64),
    "validation": np.array([True, False]),
}


def manifest_of(store: Store, arrays: dict[str, np.ndarray] | None = None, title: str = "by hand") -> DataManifest:
    place, entries = datasets.write_arrays(store, KEY, arrays or ARRAYS)
    return DataManifest(
        key=KEY, name="hand", variant="full", title=title, arrays=entries, place=place, params={"shape": (2, 3)}
    )


def folder_of(store: Store) -> Path:
    return Path(store.dataset(KEY))


def test_arrays_and_manifest_come_back(local_store: Store) -> None:
    published = datasets.publish(local_store, manifest_of(local_store))
    found = datasets.read_data_manifest(local_store, KEY)
    assert found == published
    arrays = datasets.read_arrays(local_store, found)
    assert list(arrays) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_the_hash_is_of_the_plain_little_endian_values(local_store: Store) -> None:
    entry = datasets.entry_of(np.array([[1, 2], [3, 4]], ">i4").T)
    plain = b"".join(value.to_bytes(4, "little") for value in (1, 3, 2, 4))
    assert (entry.shape, entry.sha256) == ((2, 2), hashlib.sha256(plain).hexdigest())


def test_any_zarr_reader_can_open_the_arrays(local_store: Store) -> None:
    manifest = manifest_of(local_store)
    group = zarr.open_group(str(folder_of(local_store) / manifest.place), mode="r")
    np.testing.assert_array_equal(group["train/frames"], ARRAYS["train/frames"])


def test_large_arrays_are_cut_into_whole_rows(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "CHUNK_BYTES", 25)
    manifest = manifest_of(local_store)
    group = zarr.open_group(str(folder_of(local_store) / manifest.place), mode="r")
    array = group["train/frames"]
    assert isinstance(array, zarr.Array)
    assert array.chunks == (2, 3)
    np.testing.assert_array_equal(datasets.read_arrays(local_store, manifest)["train/frames"], ARRAYS["train/frames"])


def test_arrays_without_a_manifest_are_not_prepared(local_store: Store) -> None:
    manifest_of(local_store)
    assert datasets.read_data_manifest(local_store, KEY) is None


def test_the_same_arrays_are_the_same_objects(local_store: Store) -> None:
    first = manifest_of(local_store)
    files = {path: path.read_bytes() for path in folder_of(local_store).rglob("*") if path.is_file()}
    assert manifest_of(local_store) == first
    assert {path: path.read_bytes() for path in folder_of(local_store).rglob("*") if path.is_file()} == files


def test_a_late_writer_of_other_arrays_gets_the_first_ones_and_leaves_nothing(local_store: Store) -> None:
    others = {**ARRAYS, "image": ARRAYS["image"] + np.uint8(1)}
    first, late = manifest_of(local_store), manifest_of(local_store, others)
    assert first.place != late.place
    published = datasets.publish(local_store, first)
    assert datasets.publish(local_store, late) == published
    assert objects.names(str(folder_of(local_store))) == sorted([first.place, "manifest.json"])
    np.testing.assert_array_equal(datasets.read_arrays(local_store, published)["image"], ARRAYS["image"])


def test_a_late_writer_of_the_same_arrays_leaves_them(local_store: Store) -> None:
    first = datasets.publish(local_store, manifest_of(local_store))
    assert datasets.publish(local_store, manifest_of(local_store, title="late")).title == "by hand"
    assert set(datasets.read_arrays(local_store, first)) == set(ARRAYS)


def chunk_of(store: Store, manifest: DataManifest, name: str) -> Path:
    (path,) = (path for path in (folder_of(store) / manifest.place / name / "c").rglob("*") if path.is_file())
    return path


def test_an_array_that_was_altered_or_lost_is_named(local_store: Store) -> None:
    manifest = datasets.publish(local_store, manifest_of(local_store))
    where = f"hand/full: array 'train/text' at .*; delete {folder_of(local_store)} and prepare"
    chunk = chunk_of(local_store, manifest, "train/text")
    data = chunk.read_bytes()
    zarr.open_array(str(folder_of(local_store) / manifest.place / "train/text"), mode="r+")[0] = 9
    with pytest.raises(DamagedData, match=where):
        datasets.read_arrays(local_store, manifest)
    chunk.write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedData, match=where):
        datasets.read_arrays(local_store, manifest)
    chunk.unlink()
    with pytest.raises(DamagedData, match=where):
        datasets.read_arrays(local_store, manifest)
    chunk.write_bytes(data)
    datasets.read_arrays(local_store, manifest)
    (chunk.parents[1] / "zarr.json").unlink()
    with pytest.raises(DamagedData, match=r"'train/text'.*is missing"):
        datasets.read_arrays(local_store, manifest)


def test_an_array_of_another_shape_is_refused(local_store: Store) -> None:
    manifest = manifest_of(local_store)
    entry = dataclasses.replace(manifest.arrays["image"], shape=(2, 12))
    with pytest.raises(DamagedData, match=r"uint8 \(2, 3, 2, 2\) with sha256 .*expected uint8 \(2, 12\)"):
        datasets.read_arrays(local_store, dataclasses.replace(manifest, arrays={"image": entry}))


def test_a_manifest_that_is_none_and_a_newer_one_are_refused(local_store: Store) -> None:
    datasets.publish(local_store, manifest_of(local_store))
    url = local_store.data_manifest(KEY)
    plain = json.loads(objects.read(url))
    for text in ("{", "[]", "{}", json.dumps({**plain, "more": 1}), json.dumps({**plain, "arrays": []})):
        objects.write(url, text.encode())
        with pytest.raises(DamagedData, match="is not a manifest"):
            datasets.read_data_manifest(local_store, KEY)
    objects.write(url, json.dumps({**plain, "schema_version": 99}).encode())
    with pytest.raises(StoreError, match="install a newer specdyn"):
        datasets.read_data_manifest(local_store, KEY)
