"""URLs, atomic writes, exclusive creation and listing on a local folder."""

import errno
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from specdyn.storage.access import objects
from specdyn.storage.access.objects import NoSpace, StoreError, normalise
from specdyn.storage.places import Store


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/data/store/", "/data/store"),
        ("/data/../data/store", "/data/store"),
        ("file:///data/store", "/data/store"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket//a///b", "s3://bucket/a/b"),
    ],
)
def test_normalised_urls_have_one_form(given: str, expected: str) -> None:
    assert normalise(given) == expected
    assert normalise(expected) == expected


def test_relative_paths_and_home_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert normalise("results") == f"{tmp_path}/results"
    assert normalise("~/results") == "/home/someone/results"


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://bucket/x", "s3://", "s3:///x", "s3:bucket/x", "", " "])
def test_other_places_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected.*s3://bucket/prefix"):
        normalise(url)


@pytest.mark.parametrize("scheme", ["s3", "https", "file"])
def test_credentials_in_a_url_are_refused_and_not_repeated(scheme: str) -> None:
    with pytest.raises(ValueError, match="AWS_ACCESS_KEY_ID") as caught:
        normalise(f"{scheme}://AKIAEXAMPLE:verysecret@bucket/x")
    assert "verysecret" not in str(caught.value)
    assert "AKIAEXAMPLE" not in str(caught.value)


def test_a_presigned_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="scheme 'https'") as caught:
        normalise("https://host/bucket?X-Amz-Signature=verysecret")
    assert "verysecret" not in str(caught.value)


def test_everything_of_a_store_lies_below_it() -> None:
    layout = Store("s3://b/p")
    assert layout.run("e", "r").checkpoint(200) == "s3://b/p/checkpoints/e/r/step=00000200.safetensors"
    assert layout.run("e", "r").manifest == "s3://b/p/runs/e/r.json"
    assert layout.run("e", "r").states == "s3://b/p/checkpoints/e/r/state"
    assert layout.run_results("e", "r") == "s3://b/p/results/runs/e/r"
    assert layout.cube("n") == "s3://b/p/studies/n/results.zarr"
    assert layout.study("s", "sweep") == "s3://b/p/studies/s/sweep.json"
    assert layout.schema == "s3://b/p/specdyn.json"
    assert layout.report("s") == "s3://b/p/reports/s"


def test_what_is_written_is_read(local_store: Store) -> None:
    url = f"{local_store}/a/b"
    objects.write(url, b"first")
    objects.write(url, b"0123456789")
    assert objects.read(url) == b"0123456789"
    assert objects.read_range(url, 2, 5) == b"234"
    assert objects.exists(url)


def test_many_objects_are_put_at_once(local_store: Store) -> None:
    objects.write_all(local_store.url, {"a/x": b"1", "a/y": b"2", "z": b"3"})
    assert objects.names(local_store.url) == ["a", "z"]
    assert objects.read(f"{local_store}/a/y") == b"2"


def test_files_have_the_rights_that_the_user_chose(local_store: Store) -> None:
    before = os.umask(0o027)
    try:
        objects.write(f"{local_store}/a", b"")
        objects.create(f"{local_store}/b", b"")
    finally:
        os.umask(before)
    assert {Path(f"{local_store}/{name}").stat().st_mode & 0o777 for name in "ab"} == {0o640}


def test_a_failed_write_leaves_the_old_object_and_nothing_else(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{local_store}/object"
    objects.write(url, b"old")

    def fail(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="No space left"):
        objects.write(url, b"new")
    with pytest.raises(StoreError, match="No space left"):
        objects.create(f"{local_store}/other", b"new")
    assert objects.read(url) == b"old"
    assert os.listdir(local_store.url) == ["object"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space is left on the disk (123,456 bytes are needed, 7,890 are free)"),
        (errno.EDQUOT, "the disk quota is used up (123,456 bytes are needed)"),
        (errno.EFBIG, "files may not be so large (123,456 bytes are needed, see `ulimit -f`)"),
    ],
)
def test_a_disk_that_takes_no_more_is_said_with_the_bytes_that_are_needed(
    number: int, said: str, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    def usage(folder: Path) -> Any:
        assert not list(folder.rglob("*.partial")), "what is free is looked at once nothing is left of the write"
        return SimpleNamespace(free=7890)

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(shutil, "disk_usage", usage)
    for put in (objects.write, objects.create):
        with pytest.raises(NoSpace) as error:
            put(f"{local_store}/a/object", bytes(123456))
        assert str(error.value) == (
            f"{local_store}/a/object: {said}; free some space, then call again: finished work is kept"
        )


def test_readers_see_whole_objects_while_they_are_replaced(local_store: Store) -> None:
    url, size = f"{local_store}/object", 1 << 16
    objects.write(url, b"0" * size)
    seen: set[bytes] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(objects.read(url))

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(30):
        objects.write(url, f"{i % 10}".encode() * size)
    stop.set()
    reader.join()
    assert all(len(data) == size and len(set(data)) == 1 for data in seen)


def test_one_of_many_threads_creates(local_store: Store) -> None:
    url, won = f"{local_store}/marker", []

    def create(i: int) -> None:
        if objects.create(url, f"{i}".encode()):
            won.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert objects.read(url) == f"{won[0]}".encode()
    assert objects.names(local_store.url) == ["marker"]


def test_what_is_missing(local_store: Store) -> None:
    assert objects.names(f"{local_store}/nothing") == []
    assert not objects.exists(f"{local_store}/nothing")
    objects.delete(f"{local_store}/nothing")
    with pytest.raises(FileNotFoundError):
        objects.read(f"{local_store}/nothing")


def test_an_object_has_no_names_below_it(local_store: Store) -> None:
    objects.write(f"{local_store}/object", b"")
    assert objects.names(f"{local_store}/object") == []


def test_delete_takes_an_object_or_all_below(local_store: Store) -> None:
    for name in ("a/x", "a/y", "ab", "b"):
        objects.write(f"{local_store}/{name}", b"")
    objects.delete(f"{local_store}/b")
    objects.delete(f"{local_store}/a")
    assert objects.names(local_store.url) == ["ab"]


def test_files_being_written_are_not_named(local_store: Store) -> None:
    objects.write(f"{local_store}/step=00000000.safetensors", b"")
    Path(f"{local_store}/.0123{objects.PARTIAL}").write_bytes(b"half")
    Path(f"{local_store}/step=00000100.safetensors{objects.PARTIAL}").write_bytes(b"half")
    assert objects.names(local_store.url) == ["step=00000000.safetensors"]


def test_below_a_file_there_is_no_store(local_store: Store) -> None:
    objects.write(f"{local_store}/object", b"")
    for attempt in (
        lambda: objects.write(f"{local_store}/object/x", b""),
        lambda: objects.create(f"{local_store}/object/x/y", b""),
        lambda: objects.read(f"{local_store}/object/x"),
    ):
        with pytest.raises(StoreError, match="a part of this path is a file, expected a folder"):
            attempt()


def test_user_and_password_of_an_address_are_left_out_of_messages() -> None:
    with pytest.raises(StoreError) as caught, objects.explained("s3://b/x"):
        raise OSError('Could not connect to "http://user:verysecret@host:9000/b"')
    assert "http://host:9000/b" in str(caught.value)
    assert "verysecret" not in str(caught.value)


def test_errors_that_are_not_the_stores_pass() -> None:
    with pytest.raises(ZeroDivisionError), objects.explained("/x"):
        raise ZeroDivisionError
