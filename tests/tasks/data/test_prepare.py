"""Files are fetched once and verified, data sets prepared once and loaded whole (DATA 5.2, 5.4, 5.5)."""

import dataclasses
import gzip
import hashlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specdyn.models.datasets.base import Dataset, Decoded, File, PackagedFile, RemoteFile, dataset_names, get_dataset
from specdyn.models.datasets.samples import FOLDER
from specdyn.storage import datasets as stored
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.tasks.data import prepare as datasets
from specdyn.tasks.data.prepare import FetchError, NotPrepared, fetch, load, prepare, require_data

CONTENT = bytes(range(256)) * 20_000
"""5 MB, several pieces."""
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Server:
    """Answers every GET with the next of the bodies, the last one for ever, and counts."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=lambda: [CONTENT])
    promised: int | None = None
    """Length in the header; None for the body's own."""
    headers: bool = True
    seconds: float = 0.0
    """Before an answer."""
    requests: int = 0


@pytest.fixture
def server() -> Iterator[Server]:
    state, lock = Server(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                state.requests += 1
                body = state.bodies.pop(0) if len(state.bodies) > 1 else state.bodies[0]
            time.sleep(state.seconds)
            self.send_response(200)
            if state.headers:
                self.send_header("Content-Length", str(len(body) if state.promised is None else state.promised))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_port}/folder/data.bin"
        yield state
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(datasets.CACHE_VARIABLE, str(folder))
    return folder


def kept(cache: Path) -> list[str]:
    """Names of the files in the cache, without locks."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


# --- Fetching ---


def test_the_cache_is_the_users_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(datasets.CACHE_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.cache_folder() == tmp_path / ".cache/specdyn"
    monkeypatch.setenv(datasets.CACHE_VARIABLE, "~/here")
    assert datasets.cache_folder() == tmp_path / "here"


def test_a_file_is_fetched_once(server: Server, cache: Path) -> None:
    file = RemoteFile(url=server.url, bytes=len(CONTENT), md5=MD5, sha256=SHA256)
    told: list[tuple[str, int, int | None]] = []
    path = fetch(file, lambda *progress: told.append(progress))
    assert path == cache / file.place
    assert path.read_bytes() == CONTENT
    assert fetch(file) == path
    assert server.requests == 1
    done = [so_far for _, so_far, _ in told]
    assert {(name, total) for name, _, total in told} == {("data.bin", len(CONTENT))}
    assert len(done) >= 4 and done == sorted(done) and done[-1] == len(CONTENT)
    assert kept(cache) == ["data.bin"]


def meet(barrier: Barrier) -> None:
    barrier.wait(120)


def test_six_processes_make_one_request(server: Server) -> None:
    file = RemoteFile(url=server.url, sha256=SHA256)
    server.seconds = 0.5
    with SPAWN.Pool(6, meet, (SPAWN.Barrier(6),)) as pool:
        paths = pool.map(fetch, [file] * 6, chunksize=1)
    assert len(set(paths)) == 1 and paths[0].read_bytes() == CONTENT
    assert server.requests == 1


def test_six_threads_make_one_request(server: Server) -> None:
    file = RemoteFile(url=server.url, sha256=SHA256)
    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(fetch, [file] * 6))) == 1
    assert server.requests == 1


@pytest.mark.parametrize(
    ("hashes", "message"),
    [
        ({"sha256": "0" * 64}, f"sha256 is {SHA256}, expected {'0' * 64}"),
        ({"md5": "0" * 32}, f"md5 is {MD5}, expected {'0' * 32}"),
        ({"sha256": SHA256, "md5": "0" * 32}, f"md5 is {MD5}"),
        ({"bytes": 7}, f"{len(CONTENT)} bytes, expected 7"),
    ],
)
def test_wrong_bytes_are_asked_for_once_more_and_refused(
    server: Server, cache: Path, hashes: dict[str, Any], message: str
) -> None:
    with pytest.raises(FetchError, match=f"data.bin: wrong content in 2 attempts: {message}"):
        fetch(RemoteFile(url=server.url, **hashes))
    assert server.requests == 2
    assert kept(cache) == []


def test_one_wrong_answer_is_forgiven(server: Server) -> None:
    server.bodies = [CONTENT[:-1], CONTENT]
    assert fetch(RemoteFile(url=server.url, sha256=SHA256)).read_bytes() == CONTENT
    assert server.requests == 2


def test_a_body_that_is_cut_short_is_refused_without_any_hash(server: Server, cache: Path) -> None:
    server.promised = len(CONTENT) + 10
    with pytest.raises(
        FetchError, match=f"received {len(CONTENT)} bytes, the server promised {server.promised}|broke off"
    ):
        fetch(RemoteFile(url=server.url))
    assert server.requests == 2
    assert kept(cache) == []


def test_a_body_of_unknown_length_is_taken(server: Server) -> None:
    server.headers = False
    totals: set[int | None] = set()
    path = fetch(RemoteFile(url=server.url), lambda name, done, total: totals.add(total))
    assert path.read_bytes() == CONTENT
    assert totals == {None}


@pytest.mark.parametrize("damaged", [CONTENT[:-1], CONTENT[:-1] + b"\0", b""])
@pytest.mark.parametrize("hashes", [{"sha256": SHA256}, {"md5": MD5}, {}])
def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, damaged: bytes, hashes: dict[str, str]) -> None:
    file = RemoteFile(url=server.url, **hashes)
    path = fetch(file)
    path.write_bytes(damaged)
    assert fetch(file).read_bytes() == CONTENT
    assert server.requests == 2


def test_the_first_hash_seen_is_enforced_where_none_is_published(server: Server, cache: Path) -> None:
    file = RemoteFile(url=server.url)
    path = fetch(file)
    noted = path.with_name("data.bin.sha256")
    assert noted.read_text() == f"{SHA256}\n"
    path.unlink()
    server.bodies = [b"other"]
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(
        FetchError, match=f"sha256 is {other}, expected {SHA256} as at the first fetch .*delete {noted}"
    ):
        fetch(file)
    noted.unlink()
    assert fetch(file).read_bytes() == b"other"


def test_a_file_put_there_by_hand_is_taken(server: Server, cache: Path) -> None:
    for file in (RemoteFile(url=server.url, sha256=SHA256), RemoteFile(url=f"{server.url}.gz")):
        path = cache / file.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
        assert fetch(file) == path
    assert server.requests == 0


def test_a_partial_file_of_a_killed_process_is_no_hindrance(server: Server, cache: Path) -> None:
    file = RemoteFile(url=server.url, sha256=SHA256)
    partial = cache / f"{file.place}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT * 2)
    assert fetch(file).read_bytes() == CONTENT
    assert not partial.exists()


def test_without_a_network_the_error_says_what_to_do(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        file = RemoteFile(url=f"http://127.0.0.1:{free.getsockname()[1]}/data.bin", bytes=1234)
        with pytest.raises(FetchError) as caught:
            fetch(file)
    message = str(caught.value)
    assert message.startswith(f"{file.url} (1,234 bytes) cannot be fetched: ")
    assert "refused" in message
    assert message.endswith(f"; use variant=sample if there is one, or put the file at {cache / file.place} by hand")
    assert kept(cache) == []


def test_a_wrong_file_put_there_by_hand_is_named_and_kept(tmp_path: Path, cache: Path) -> None:
    file = RemoteFile(url=f"file://{tmp_path}/absent.bin", sha256=SHA256)
    path = cache / file.place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(
        FetchError, match=f"{path} by hand, where now there is another one: sha256 is {other}, expected"
    ):
        fetch(file)
    assert path.read_bytes() == b"other"


def test_local_files_and_their_absence(tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    assert fetch(RemoteFile(url=f"file://{source}", sha256=SHA256)).read_bytes() == CONTENT
    with pytest.raises(FetchError, match=r"absent.bin \(of unknown size\) cannot be fetched: .*No such file"):
        fetch(RemoteFile(url=f"file://{tmp_path}/absent.bin"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, cache: Path) -> None:
    cache.write_bytes(b"a file")
    with pytest.raises(FetchError, match=f"{cache}/.*cannot be written .*; set SPECDYN_DATA"):
        fetch(RemoteFile(url="https://example.org/a"))


def test_hashes_may_be_of_what_is_compressed(server: Server, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"text").hexdigest()
    for n, level in enumerate((1, 9)):
        server.bodies = [gzip.compress(b"text", level)]
        file = RemoteFile(url=f"{server.url}{n}.gz", sha256=sha256, of="decompressed")
        assert gzip.decompress(fetch(file).read_bytes()) == b"text"
    for wrong, message in ((gzip.compress(b"test"), f"expected {sha256}"), (gzip.compress(b"text")[:-3], "cut short")):
        server.bodies = [wrong]
        with pytest.raises(FetchError, match=message):
            fetch(RemoteFile(url=f"{server.url}3.gz", sha256=sha256, of="decompressed"))


def test_a_system_package_goes_first(server: Server, tmp_path: Path, cache: Path) -> None:
    system = tmp_path / "system.bin"
    file = RemoteFile(url=server.url, sha256=SHA256, system=str(system))
    assert fetch(file) == cache / file.place
    system.write_bytes(CONTENT)
    assert fetch(file) == system
    system.write_bytes(b"other")
    with pytest.raises(FetchError, match=f"{system}: sha256 is .*expected {SHA256}; reinstall its package"):
        fetch(file)
    assert server.requests == 1


def test_packaged_files_are_verified_where_they_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (file, *_) = get_dataset("mnist", "sample").files
    assert isinstance(file, PackagedFile)
    assert fetch(file) == FOLDER / file.path
    with pytest.raises(FetchError, match="expected 0; reinstall specdyn"):
        fetch(dataclasses.replace(file, sha256="0"))
    with pytest.raises(FetchError, match="missing; reinstall specdyn"):
        fetch(dataclasses.replace(file, path="mnist/absent"))


# --- Preparing and loading ---


def decode(paths: Mapping[str, Path]) -> Decoded:
    chunk = np.frombuffer(paths["data.bin"].read_bytes(), np.uint8).astype(np.uint16).reshape(-1, 10)
    return {"train/chunk": chunk[:1000], "val/chunk": chunk[1000:1100]}, {"left_out": len(chunk) - 1100}


def hand(*files: File, decoder: Callable[[Mapping[str, Path]], Decoded] = decode, vocabulary: int = 256) -> Dataset:
    return Dataset(
        name="hand",
        variant="full",
        kind="tokens",
        title="made by hand",
        files=files,
        decode=decoder,
        licence="none",
        attribution="nobody",
        params={"length": 9, "vocabulary": vocabulary},
    )


@pytest.fixture
def by_hand(server: Server) -> Dataset:
    return hand(RemoteFile(url=server.url, bytes=len(CONTENT), sha256=SHA256))


def expected_chunks() -> np.ndarray:
    return (np.arange(11_000) % 256).reshape(-1, 10)


def test_a_data_set_is_prepared_once_and_loaded(local_store: Store, server: Server, by_hand: Dataset) -> None:
    manifest = prepare(local_store, by_hand)
    refusing = dataclasses.replace(by_hand, decode=lambda paths: pytest.fail("decoded again"))
    assert prepare(local_store, refusing) == manifest
    arrays = load(local_store, refusing)
    np.testing.assert_array_equal(np.concatenate([arrays["train/chunk"], arrays["val/chunk"]]), expected_chunks())
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint16)}
    assert require_data(local_store, by_hand) == manifest
    assert manifest.key == by_hand.key
    assert manifest.files == {"data.bin": {"source": server.url, "bytes": len(CONTENT), "sha256": SHA256}}
    assert (manifest.report, manifest.licence) == ({"left_out": len(CONTENT) // 10 - 1100}, "none")
    assert server.requests == 1


def test_what_breaks_a_rule_is_not_written(local_store: Store, by_hand: Dataset) -> None:
    dataset = dataclasses.replace(by_hand, params={"length": 9, "vocabulary": 255})
    with pytest.raises(ValueError, match="hand/full, train/chunk: expected ids outside the vocabulary 0"):
        prepare(local_store, dataset)
    assert not Path(local_store.url).exists()


def test_what_is_not_prepared_is_refused_with_the_way_to_it(
    local_store: Store, server: Server, by_hand: Dataset
) -> None:
    for call in (load, require_data):
        with pytest.raises(NotPrepared) as caught:
            call(local_store, by_hand)
        assert str(caught.value) == (
            f"data set hand/full ({by_hand.key}) is not at {local_store}/data/{by_hand.key}; run `specdyn data prepare "
            f"hand --variant full --store {local_store}`, or use variant=sample if there is one. It needs "
            f"{server.url} ({len(CONTENT):,} bytes)"
        )
    assert server.requests == 0


@pytest.mark.parametrize("name", ["devils_dictionary", "librispeech", "mnist", "photos"])
def test_samples_are_prepared_at_once_and_are_what_they_decode_to(local_store: Store, cache: Path, name: str) -> None:
    dataset = get_dataset(name, "sample")
    manifest = require_data(local_store, dataset)
    assert manifest.title == dataset.title
    arrays = load(local_store, dataset)
    expected, _ = dataset.decode({file.name: fetch(file) for file in dataset.files})
    assert arrays.keys() == expected.keys()
    for array_name, array in expected.items():
        np.testing.assert_array_equal(arrays[array_name], array)
        assert arrays[array_name].dtype == array.dtype
    assert not cache.exists()


@pytest.mark.parametrize("name", [name for name in dataset_names() if name not in {"devils_dictionary", "photos"}])
def test_a_sample_never_replaces_the_full_set(local_store: Store, name: str) -> None:
    for sample in ("mnist", "librispeech", "photos"):
        require_data(local_store, get_dataset(sample, "sample"))
    for call in (load, require_data):
        with pytest.raises(NotPrepared, match=f"data set {name}/full"):
            call(local_store, get_dataset(name, "full"))


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prepare_and_die(store: Store, dataset: Dataset, at: str) -> None:
    """Killed right before the manifest, or as the second array is written."""
    if at == "publish":
        stored.publish = die
    else:
        calls = iter([objects.write_all, die])

        def write_all(url: str, files: Mapping[str, bytes]) -> None:
            next(calls)(url, files)

        objects.write_all = write_all
    prepare(store, dataset)


@pytest.mark.parametrize("at", ["publish", "second array"])
def test_a_set_whose_preparer_was_killed_is_missing_and_can_be_prepared(
    local_store: Store, by_hand: Dataset, at: str
) -> None:
    process = SPAWN.Process(target=prepare_and_die, args=(local_store, by_hand, at))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = objects.names(local_store.dataset(by_hand.key))
    assert len(left) == 1 and left[0].startswith("arrays-")
    with pytest.raises(NotPrepared):
        load(local_store, by_hand)
    manifest = prepare(local_store, by_hand)
    assert objects.names(local_store.dataset(by_hand.key)) == [manifest.place, "manifest.json"]
    np.testing.assert_array_equal(load(local_store, by_hand)["train/chunk"], expected_chunks()[:1000])


def test_processes_that_race_agree(local_store: Store, server: Server, by_hand: Dataset) -> None:
    with SPAWN.Pool(3) as pool:
        manifests = pool.starmap(prepare, [(local_store, by_hand)] * 3)
    assert manifests[0] == manifests[1] == manifests[2]
    assert server.requests == 1
    np.testing.assert_array_equal(load(local_store, by_hand)["train/chunk"], expected_chunks()[:1000])


def test_preparers_with_other_arrays_agree_on_the_first(local_store: Store, by_hand: Dataset) -> None:
    """As decoders do that round differently on another machine."""
    barrier = threading.Barrier(2)

    def decoder(change: int) -> Callable[[Mapping[str, Path]], Decoded]:
        def changed(paths: Mapping[str, Path]) -> Decoded:
            arrays, report = decode(paths)
            arrays["train/chunk"][0, 0] = change
            barrier.wait(30)
            return arrays, report

        return changed

    with ThreadPoolExecutor(2) as pool:
        racers = [dataclasses.replace(by_hand, decode=decoder(change)) for change in (7, 8)]
        manifests = list(pool.map(lambda dataset: prepare(local_store, dataset), racers))
    assert manifests[0] == manifests[1]
    assert objects.names(local_store.dataset(by_hand.key)) == [manifests[0].place, "manifest.json"]
    assert load(local_store, by_hand)["train/chunk"][0, 0] in {7, 8}
