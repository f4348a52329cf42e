"""Prepares data sets: files are downloaded to a cache once, arrays stored once, and loaded by every worker."""

import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from humanize import naturalsize

from specdyn.models.datasets.base import Dataset, File, PackagedFile, RemoteFile
from specdyn.models.datasets.decoders.idx import decompressed_sha256
from specdyn.models.datasets.samples import FOLDER
from specdyn.storage import datasets
from specdyn.storage.access import objects
from specdyn.storage.datasets import DataManifest
from specdyn.storage.places import Store

CACHE_VARIABLE = "SPECDYN_DATA"
PIECE = 2**20
TIMEOUT = 60.0
"""Seconds to wait for a server's next byte."""
ATTEMPTS = 2
PREPARE_COMMAND = "specdyn data prepare {name} --variant {variant} --store {store}"

_held: dict[tuple[Store, str], Mapping[str, np.ndarray]] = {}
"""Arrays of samples held only in this process, by the store that lacks them and the key."""

OnProgress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes so far, and the total bytes if known."""


class FetchError(Exception):
    """A file cannot be obtained; the message says which, from where, how large, and what else to do."""


class NotPrepared(Exception):
    """A data set is not in the store; the message says which, where, and how to prepare it."""


class _Wrong(Exception):
    """Downloaded or cached bytes differ from the declared ones; a retry may succeed."""


def cache_folder() -> Path:
    """The folder for downloads: SPECDYN_DATA, else a folder in the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE) or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "specdyn"
    )
    return Path(chosen).expanduser().resolve()


def fetch(file: File, progress: OnProgress | None = None) -> Path:
    """The path of a verified file; downloaded at most once, however many processes ask.

    A packaged file, or one of a system package, is used in place. A damaged file in the cache is downloaded again.
    FetchError if it cannot be obtained, or if the bytes differ from the declaration twice.
    """
    if isinstance(file, PackagedFile):
        path = FOLDER / file.path
        if not path.is_file():
            raise FetchError(f"{path}: this file of specdyn's installation is missing; reinstall specdyn")
        if (digest := _digest(path, "sha256")) != file.sha256:
            raise FetchError(f"{path}: sha256 is {digest}, expected {file.sha256}; reinstall specdyn")
        return path
    if file.system and (path := Path(file.system)).is_file():
        try:
            _check_hashes(file, path)
        except _Wrong as error:
            remedy = f"reinstall its package, or remove it to fetch {file.url}"
            raise FetchError(f"{path}: {error}; {remedy}") from None
        return path
    path = cache_folder() / file.place
    with _only_one(path):
        advice = f"use variant=sample if there is one, or put the file at {path} by hand"
        if path.is_file():
            try:
                _accept(file, path, path)
                return path
            except _Wrong as error:
                advice += f", where now there is another one: {error}"
        _download(file, path, progress, advice)
    return path


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Lock the file against other processes; FetchError if the cache is not writable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire()
    except OSError as error:
        raise FetchError(f"{path}: cannot be written ({error}); set {CACHE_VARIABLE} to another folder") from error
    try:
        yield
    finally:
        lock.release()


def _download(file: RemoteFile, path: Path, progress: OnProgress | None, advice: str) -> None:
    """Download the file to its path, complete and verified; retries once if the bytes are wrong."""
    partial = path.with_name(f"{path.name}{objects.PARTIAL}")
    wrong: list[str] = []
    try:
        while len(wrong) < ATTEMPTS:
            try:
                _copy(file, partial, progress)
                _accept(file, partial, path)
                os.replace(partial, path)
                return
            except _Wrong as error:
                wrong.append(str(error))
    except (OSError, objects.StoreError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise FetchError(f"{file.url} ({_size(file)}) cannot be fetched: {reason}; {advice}") from error
    finally:
        partial.unlink(missing_ok=True)
    raise FetchError(f"{file.url}: wrong content in {ATTEMPTS} attempts: {wrong[-1]}; {advice}")


def _size(file: File) -> str:
    if isinstance(file, RemoteFile) and file.bytes is not None:
        return f"{file.bytes:,} bytes"
    roughly = isinstance(file, RemoteFile) and file.roughly
    return f"about {naturalsize(roughly, format='%.3g')}" if roughly else "of unknown size"


def _copy(file: RemoteFile, partial: Path, progress: OnProgress | None) -> None:
    """Write all bytes to the partial file; _Wrong if fewer arrive than promised."""
    done = 0
    try:
        with _opened(file.url) as (stream, promised), partial.open("wb") as target:
            while piece := stream.read(PIECE):
                target.write(piece)
                done += len(piece)
                if progress:
                    progress(file.name, done, file.bytes if file.bytes is not None else promised)
            # Sync, so that a file under its final name is complete even after a power failure.
            target.flush()
            os.fsync(target.fileno())
    except http.client.HTTPException as error:
        raise _Wrong(f"the answer broke off after {done} bytes ({type(error).__name__})") from error
    # Python's HTTP client treats a connection that closes early as the end of the response.
    if promised is not None and done != promised:
        raise _Wrong(f"received {done} bytes, the server promised {promised}")


@contextmanager
def _opened(url: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """A stream of the URL's bytes, and their promised number."""
    if url.startswith("s3://"):
        with objects.explained(url), objects.filesystem(url).open(url, "rb") as stream:
            yield stream, stream.size
        return
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        length = answer.headers.get("Content-Length")
        yield answer, None if length is None else int(length)


def _accept(file: RemoteFile, content: Path, path: Path) -> None:
    """Raise _Wrong unless the content, which is or becomes the file at `path`, matches the declaration.

    If no sha256 is declared, the first one is saved next to `path` and enforced afterwards.
    """
    size = content.stat().st_size
    if file.bytes is not None and file.of == "file" and size != file.bytes:
        raise _Wrong(f"{size} bytes, expected {file.bytes}")
    _check_hashes(file, content)
    if file.sha256:
        return
    noted, digest = path.with_name(f"{path.name}.sha256"), _digest(content, "sha256")
    if not noted.is_file():
        objects.write(str(noted), f"{digest}\n".encode())
    elif (first := noted.read_text().strip()) != digest:
        raise _Wrong(f"sha256 is {digest}, expected {first} as at the first fetch (delete {noted} to accept a change)")


def _check_hashes(file: RemoteFile, path: Path) -> None:
    for name, expected in (("sha256", file.sha256), ("md5", file.md5)):
        if not expected:
            continue
        try:
            digest = _digest(path, name) if file.of == "file" else decompressed_sha256(path)
        except ValueError as error:
            raise _Wrong(str(error)) from None
        if digest != expected:
            raise _Wrong(f"{name} is {digest}, expected {expected}")


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest()


def prepare(store: Store, dataset: Dataset, progress: OnProgress | None = None) -> DataManifest:
    """Fetch, decode, validate and write a data set, unless it is prepared; the manifest comes last.

    Safe to call concurrently, and again after being killed at any point. FetchError, or ValueError if the
    content violates DATA 5.5, in which case nothing is written.
    """
    if (prepared := datasets.read_data_manifest(store, dataset.key)) is not None:
        return prepared
    paths, arrays, report = _decoded(dataset, progress)
    place, entries = datasets.write_arrays(store, dataset.key, arrays)
    files = {}
    for file in dataset.files:
        source, path = f"package:{file.path}" if isinstance(file, PackagedFile) else file.url, paths[file.name]
        files[file.name] = {"source": source, "bytes": path.stat().st_size, "sha256": _digest(path, "sha256")}
    manifest = DataManifest(
        key=dataset.key,
        name=dataset.name,
        variant=dataset.variant,
        title=dataset.title,
        arrays=entries,
        place=place,
        files=files,
        params=dict(dataset.params),
        report=report,
        licence=dataset.licence,
        attribution=dataset.attribution,
    )
    return datasets.publish(store, manifest)


def _decoded(
    dataset: Dataset, progress: OnProgress | None = None
) -> tuple[dict[str, Path], Mapping[str, np.ndarray], Mapping[str, Any]]:
    """The files of a data set, its validated arrays, and the decoder's report."""
    paths = {file.name: fetch(file, progress) for file in dataset.files}
    arrays, report = dataset.decode(paths)
    dataset.validate(arrays)
    return paths, arrays, report


def load(store: Store, dataset: Dataset, only: str = "") -> dict[str, np.ndarray]:
    """All arrays of a prepared data set or `only` one of them, verified.

    NotPrepared if the data set is neither in the store nor held.
    """
    manifest = datasets.read_data_manifest(store, dataset.key)
    if manifest is None:
        held = _held_or_refused(store, dataset)
        return {only: held[only]} if only else dict(held)
    return datasets.read_arrays(store, manifest, only)


def shapes(store: Store, dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a prepared data set, without reading any; NotPrepared as `load`."""
    manifest = datasets.read_data_manifest(store, dataset.key)
    if manifest is None:
        return {name: array.shape for name, array in _held_or_refused(store, dataset).items()}
    return {name: entry.shape for name, entry in manifest.arrays.items()}


def _held_or_refused(store: Store, dataset: Dataset) -> Mapping[str, np.ndarray]:
    if (store, dataset.key) not in _held:
        raise _not_prepared(store, dataset)
    return _held[store, dataset.key]


def require_data(store: Store, dataset: Dataset) -> DataManifest:
    """The manifest of a data set that workers can load; prepares samples immediately, as they are small and packaged.

    NotPrepared for any other set that is not in the store: nothing large is downloaded without request.
    """
    manifest = datasets.read_data_manifest(store, dataset.key)
    if manifest is not None:
        return manifest
    if _packaged_whole(dataset):
        return prepare(store, dataset)
    raise _not_prepared(store, dataset)


def hold_data(store: Store, dataset: Dataset) -> None:
    """Hold a sample that the store lacks in this process, for read-only commands.

    NotPrepared for any other set that is not in the store.
    """
    if datasets.read_data_manifest(store, dataset.key) is not None or (store, dataset.key) in _held:
        return
    if not _packaged_whole(dataset):
        raise _not_prepared(store, dataset)
    _held[store, dataset.key] = _decoded(dataset)[1]


def _packaged_whole(dataset: Dataset) -> bool:
    return all(isinstance(file, PackagedFile) for file in dataset.files)


def _not_prepared(store: Store, dataset: Dataset) -> NotPrepared:
    needs = ", ".join(f"{file.url} ({_size(file)})" for file in dataset.files if isinstance(file, RemoteFile))
    command = PREPARE_COMMAND.format(name=dataset.name, variant=dataset.variant, store=store)
    return NotPrepared(
        f"data set {dataset.label} ({dataset.key}) is not at {store.dataset(dataset.key)}; "
        f"run `{command}`, or use variant=sample if there is one. It needs {needs or 'only packaged files'}"
    )
