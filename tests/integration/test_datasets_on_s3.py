"""Data sets prepared on a real S3 server, and files fetched from it; every request is counted by the server."""

import dataclasses
import hashlib
import multiprocessing
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from helpers.servers import S3Server
from specdyn.models.datasets.base import RemoteFile, get_dataset
from specdyn.storage import datasets as stored
from specdyn.storage.access import objects
from specdyn.storage.datasets import DamagedData
from specdyn.storage.places import Store
from specdyn.tasks.data import prepare as datasets
from specdyn.tasks.data.prepare import FetchError, NotPrepared, fetch, load, prepare, require_data

pytestmark = pytest.mark.integration

CONTENT = b"of the bucket" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(datasets.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["devils_dictionary", "librispeech", "mnist", "photos"])
def test_a_sample_is_the_same_on_s3_as_on_a_local_folder(s3_store: Store, local_store: Store, name: str) -> None:
    dataset = get_dataset(name, "sample")
    assert require_data(s3_store, dataset) == require_data(local_store, dataset)
    remote, local = load(s3_store, dataset), load(local_store, dataset)
    assert remote.keys() == local.keys()
    for array in local:
        np.testing.assert_array_equal(remote[array], local[array])


def test_the_manifest_is_put_last_and_once(s3_store: Store, s3_server: S3Server) -> None:
    dataset = get_dataset("mnist", "sample")
    with s3_server.counted() as requests:
        prepare(s3_store, dataset)
    puts = [request.split()[1].split("?")[0] for request in requests if request.startswith("PUT")]
    assert puts[-1] == f"/{s3_store.data_manifest(dataset.key).removeprefix('s3://')}"
    assert sum(put.endswith("manifest.json") for put in puts) == 1
    with s3_server.counted() as requests:
        prepare(s3_store, dataset)
    assert [request.split()[0] for request in requests] == ["GET"]


def test_loading_asks_for_each_object_once(s3_store: Store, s3_server: S3Server) -> None:
    dataset = get_dataset("mnist", "sample")
    prepare(s3_store, dataset)
    with s3_server.counted() as requests:
        load(s3_store, dataset)
    asked = Counter(requests)
    manifest, metadata_and_chunk_of_image_and_label = 1, 2 * 2
    assert {request.split()[0] for request in asked} == {"GET"}
    assert sum(asked.values()) == manifest + metadata_and_chunk_of_image_and_label


def test_threads_that_race_agree(s3_store: Store) -> None:
    dataset = get_dataset("photos", "sample")
    with ThreadPoolExecutor(4) as pool:
        manifests = list(pool.map(lambda _: prepare(s3_store, dataset), range(4)))
    assert all(manifest == manifests[0] for manifest in manifests)
    assert objects.names(s3_store.dataset(dataset.key)) == [manifests[0].place, "manifest.json"]
    assert load(s3_store, dataset)["validation"].sum() == 500


def test_a_late_writer_of_other_arrays_keeps_the_first_ones(s3_store: Store) -> None:
    dataset = get_dataset("mnist", "sample")
    first = prepare(s3_store, dataset)
    place, entries = stored.write_arrays(s3_store, dataset.key, {"image": np.ones(3, np.uint8)})
    assert stored.publish(s3_store, dataclasses.replace(first, place=place, arrays=entries)) == first
    assert objects.names(s3_store.dataset(dataset.key)) == [first.place, "manifest.json"]


def test_arrays_without_a_manifest_are_not_prepared(s3_store: Store) -> None:
    dataset = get_dataset("mnist", "sample")
    arrays, _ = dataset.decode({file.name: fetch(file) for file in dataset.files})
    stored.write_arrays(s3_store, dataset.key, arrays)
    with pytest.raises(NotPrepared, match=f"is not at {s3_store}/data/{dataset.key}"):
        load(s3_store, dataset)
    prepare(s3_store, dataset)
    np.testing.assert_array_equal(load(s3_store, dataset)["label"], arrays["label"])


def test_altered_and_lost_arrays_are_named(s3_store: Store) -> None:
    dataset = get_dataset("mnist", "sample")
    manifest = prepare(s3_store, dataset)
    url = f"{s3_store.dataset(dataset.key)}/{manifest.place}"
    array = zarr.open_array(objects.zarr_store(url), path="label", mode="r+")
    array[5] = 1 - int(array[5] == 1)
    with pytest.raises(DamagedData, match=f"mnist/sample: array 'label' at {url} is int64"):
        load(s3_store, dataset)
    objects.delete(f"{url}/label")
    with pytest.raises(DamagedData, match=r"array 'label' .* is missing; delete"):
        load(s3_store, dataset)
    objects.delete(s3_store.dataset(dataset.key))
    prepare(s3_store, dataset)
    assert len(load(s3_store, dataset)["label"]) == 3000


def test_a_worker_needs_the_url_and_the_name(s3_store: Store) -> None:
    prepare(s3_store, get_dataset("mnist", "sample"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(count, (s3_store, "mnist", "sample")) == 3000


def count(store: Store, name: str, variant: str) -> int:
    return len(load(store, get_dataset(name, variant))["label"])


def test_files_are_fetched_from_a_bucket(s3_store: Store, s3_server: S3Server) -> None:
    file = RemoteFile(url=f"{s3_store}/mirror/data.bin", bytes=len(CONTENT), sha256=SHA256)
    with pytest.raises(FetchError, match="cannot be fetched"):
        fetch(file)
    objects.write(file.url, CONTENT)
    assert fetch(file).read_bytes() == CONTENT
    with s3_server.counted() as requests:
        fetch(file)
    assert requests == []
