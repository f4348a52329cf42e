"""Reading and writing objects by URL: a local folder or `s3://bucket/prefix`.

Credentials and endpoint of object storage come from the standard AWS environment and never from a URL.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from specdyn.storage.access import errors

if TYPE_CHECKING:
    from zarr.abc.store import Store as ZarrStore

S3_OPTIONS: dict[str, Any] = {
    # With more than one connection per file, s3fs asks for the size before every read.
    "max_concurrency": 1,
    "use_listings_cache": False,
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 60},
}

IMPATIENT: dict[str, Any] = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 10}}
"""The same for a check that should fail at once if the server does not answer."""

DELETED_AT_ONCE = 1000
"""The most keys that a server accepts in one delete request."""
HUB = "hf://"
"""Prefix of URLs on the Hugging Face Hub, which are read-only."""
PARTIAL = ".partial"
"""Suffix of a local file that is being written."""

StoreError = errors.StoreError
NoSpace = errors.NoSpace
explained = errors.explained


def normalise(url: str) -> str:
    """An absolute local path or an `s3://` URL, without a trailing slash; ValueError for anything else."""
    scheme, separator, rest = url.partition("://")
    if not url.strip() or (not separator and url.startswith("s3:")):
        raise ValueError(f"store={url!r} is not allowed: expected a local folder or s3://bucket/prefix")
    if not separator:
        return str(Path(os.path.expanduser(url)).resolve())
    if "@" in rest.split("/")[0]:
        raise ValueError("store: credentials do not belong in the URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if scheme == "file":
        return normalise("/" + rest.lstrip("/"))
    if scheme != "s3":
        raise ValueError(f"store: scheme {scheme!r} is not allowed: expected a local folder or s3://bucket/prefix")
    bucket, *prefix = rest.split("/")
    if not bucket:
        raise ValueError(f"store={url!r} has no bucket: expected a local folder or s3://bucket/prefix")
    return "/".join(["s3:/", bucket, *filter(None, prefix)])


def is_local(url: str) -> bool:
    """Whether the URL is a path on this machine."""
    return "://" not in url


def filesystem(url: str, **options: Any) -> Any:
    """The fsspec file system for a URL, created in each process from its own environment."""
    if is_local(url):
        return fsspec.filesystem("file", **options)
    if url.startswith(HUB):
        from specdyn.storage.access.reading import hub_filesystem

        return hub_filesystem(url, **options)
    from specdyn.storage.access.s3 import PatientS3

    return PatientS3(**S3_OPTIONS, **options)


def reach(url: str, make: bool = True) -> bool:
    """Raise StoreError unless the store can be listed; fails at the first refusal and within seconds.

    A missing local folder is created; with `make=False` it is not, and the result is False.
    """
    try:
        with explained(url):
            if not is_local(url):
                _list_once(url)
                return True
            if make:
                os.makedirs(url, exist_ok=True)
            os.listdir(url)
            return True
    except FileNotFoundError as error:
        if is_local(url) and not make:
            return False
        raise StoreError(f"{url}: no such place ({errors.short(error)}); check the path and the endpoint") from None


def _list_once(url: str) -> None:
    from specdyn.storage.access.s3 import HastyS3

    client = HastyS3(**{**S3_OPTIONS, **IMPATIENT})
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)


def zarr_store(url: str, read_only: bool = False) -> ZarrStore:
    """The URL as a Zarr store."""
    import zarr.storage

    if is_local(url):
        return zarr.storage.LocalStore(url, read_only=read_only)
    client = filesystem(url, asynchronous=True)
    return zarr.storage.FsspecStore(client, path=url.removeprefix("s3://"), read_only=read_only)


def read(url: str) -> bytes:
    """All bytes of an object; FileNotFoundError if there is none."""
    with explained(url):
        data: bytes = filesystem(url).cat_file(url)
        return data


def read_range(url: str, start: int, end: int) -> bytes:
    """The bytes [start, end) of an object, by one ranged request."""
    with explained(url):
        data: bytes = filesystem(url).cat_file(url, start=start, end=end)
        return data


def write(url: str, data: bytes) -> None:
    """Write an object atomically, replacing any that exists."""
    with explained(url):
        if not is_local(url):
            filesystem(url).pipe_file(url, data)
            return
        with _temporary(url, data) as partial:
            os.replace(partial, url)


def write_all(url: str, objects: Mapping[str, bytes]) -> None:
    """Write objects below a prefix, each atomically; many at a time on object storage."""
    if is_local(url):
        for name, data in objects.items():
            write(f"{url}/{name}", data)
        return
    try:
        with explained(url):
            filesystem(url).pipe({f"{url}/{name}": data for name, data in objects.items()})
    except StoreError as error:
        raise StoreError(f"{error}; some of the {len(objects)} objects may have been written, others not") from None


def put_file(path: str, url: str) -> None:
    """Move a local file to an object's URL atomically, without reading it into memory."""
    with explained(url):
        if not is_local(url):
            filesystem(url).put_file(path, url)
            os.unlink(path)
            return
        os.makedirs(os.path.dirname(url), exist_ok=True)
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(path, url)


def require_writable(url: str) -> None:
    """Raise StoreError unless objects can be written below a prefix; writes one and removes it."""
    with explained(url):
        if not is_local(url):
            trial = f"{url}/.{uuid.uuid4().hex}{PARTIAL}"
            filesystem(url).pipe_file(trial, b"trial")
            _delete_objects(trial)
            return
        try:
            with _temporary(f"{url}/trial", b"trial"):
                pass
        except FileNotFoundError as error:
            raise StoreError(
                f"{url}: no folder can be made there ({errors.short(error)}); choose another place"
            ) from None


def create(url: str, data: bytes) -> bool:
    """Create an object unless it exists; returns True to exactly one of several callers.

    Uses `If-None-Match: *` on object storage; a server that ignores it replaces the object. If the answer to a put
    is lost, the retry is refused because of the object that the first attempt created. A token of the call, in the
    object's metadata, tells it from another caller's object, even one with equal bytes; this takes one more request,
    only in this case. Also returns False if our object has been replaced or deleted by then.
    """
    with explained(url):
        if not is_local(url):
            return _create_object(url, data)
        with _temporary(url, data) as partial:
            try:
                os.link(partial, url)
            except FileExistsError:
                return False
            return True


def _create_object(url: str, data: bytes) -> bool:
    try:
        filesystem(url).pipe_file(url, data, mode="create")
    except FileExistsError:
        return False
    except NotImplementedError:
        filesystem(url).pipe_file(url, data)
    except OSError as error:
        if "PreconditionFailed" in str(error) or "ConditionalRequestConflict" in str(error):
            return False
        raise
    return True


def empty(url: str) -> None:
    """Empty an object that others may try to create; a `create` whose answer was lost still recognises its own."""
    with explained(url):
        if is_local(url):
            write(url, b"")
        else:
            filesystem(url).empty(url)


def delete(url: str) -> None:
    """Delete an object or everything under a prefix; it is no error if there is nothing."""
    with explained(url):
        if not is_local(url):
            _delete_objects(url)
            return
        with contextlib.suppress(FileNotFoundError):
            filesystem(url).rm(url, recursive=True)


def find(url: str) -> list[str]:
    """The keys of all objects under a prefix, relative to it, sorted; empty if there are none."""
    return sorted(find_sizes(url))


def find_sizes(url: str) -> dict[str, int]:
    """The keys of all objects under a prefix with their sizes in bytes."""
    with explained(url):
        own, found = f"{url.removeprefix('s3://')}/", filesystem(url).find(url, detail=True)
        return {p.removeprefix(own): int(entry["size"]) for p, entry in found.items() if not p.endswith(PARTIAL)}


def delete_all(url: str, keys: Sequence[str]) -> None:
    """Delete objects under a prefix by key, and local folders left empty; missing objects are no error."""
    with explained(url):
        if not is_local(url):
            _delete_keys(url, [f"{url}/{key}" for key in keys])
            return
        for key in keys:
            Path(url, key).unlink(missing_ok=True)
        for folder in sorted({parent for key in keys for parent in Path(key).parents[:-1]}, reverse=True):
            with contextlib.suppress(OSError):
                Path(url, folder).rmdir()


def _delete_objects(url: str) -> None:
    """Delete by key, since `rm` of s3fs treats names with brackets as patterns and ignores refusals."""
    _delete_keys(url, [f"s3://{path}" for path in filesystem(url).find(url)])


def _delete_keys(url: str, urls: Sequence[str]) -> None:
    client = filesystem(url)
    bucket = url.removeprefix("s3://").split("/")[0]
    keys = [path.removeprefix(f"s3://{bucket}/") for path in urls]
    for start in range(0, len(keys), DELETED_AT_ONCE):
        objects = [{"Key": key} for key in keys[start : start + DELETED_AT_ONCE]]
        answer = client.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        for error in answer.get("Errors", []):
            raise PermissionError(f"deleting {error.get('Key')}: {error.get('Message') or error.get('Code')}")


def names(url: str) -> list[str]:
    """Names directly under a prefix, sorted; empty if there are none. One request on object storage."""
    with explained(url):
        try:
            found = filesystem(url).ls(url, detail=False)
        except NotADirectoryError:
            return []
        except FileNotFoundError as error:
            if errors.reason_of(error):
                raise
            return []
        own = url.removeprefix("s3://")
        below = (path.rstrip("/") for path in found if not path.endswith(PARTIAL))
        return sorted(path.rsplit("/", 1)[-1] for path in below if path != own)


def names_below(url: str) -> list[str]:
    """Names of all objects below a prefix, with their folders; one request for 1,000 on object storage."""
    with explained(url):
        own = url.removeprefix("s3://")
        if is_local(url):
            return sorted(key for key, _ in files_below(url))
        found = filesystem(url).find(url)
        return sorted(path.removeprefix(f"{own}/") for path in found if path != own and not path.endswith(PARTIAL))


def files_below(folder: str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every whole file below a local folder by its key; fsspec takes ten times as long, as it looks at each."""
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(entry.path, f"{prefix}{entry.name}/")
        elif not entry.name.endswith(PARTIAL):
            yield f"{prefix}{entry.name}", entry


def exists(url: str) -> bool:
    """Whether an object exists at the URL, or anything under it as a prefix."""
    with explained(url):
        return bool(filesystem(url).exists(url))


@contextlib.contextmanager
def _temporary(url: str, data: bytes) -> Iterator[str]:
    """Write the data to a temporary file in the target folder of `url`; yields its path."""
    folder = os.path.dirname(url)
    os.makedirs(folder, exist_ok=True)
    partial = f"{folder}/.{uuid.uuid4().hex}{PARTIAL}"
    with errors.space_needed(url, len(data)):
        try:
            with open(partial, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield partial
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
