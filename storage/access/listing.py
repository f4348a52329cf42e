"""Lists the objects below a prefix with size, time and tag, without reading them."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from specdyn.storage.access.objects import HUB, PARTIAL, explained, files_below, filesystem, is_local

PAGE = 1000
"""The most objects that object storage lists in one request."""


class TooMany(Exception):
    """A prefix has more objects than were to be listed."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of a listing: an object or a folder."""

    folder: bool
    bytes: int
    written: float
    """Seconds since 1970; NaN if the store does not report it."""
    tag: str
    """An ETag, or the file's times and inode: a different tag means that the content may have changed.

    The modification time of a file can be set back, its change time cannot.
    """


def listing(url: str) -> dict[str, Listed]:
    """Entries directly under a prefix, by name, sorted; empty if there are none. One request on object storage."""
    with explained(url):
        try:
            found = filesystem(url).ls(url, detail=True)
        except NotADirectoryError:
            return {}
        except FileNotFoundError as error:
            if "bucket does not exist" in str(error).lower():
                raise
            return {}
    own = url.removeprefix("s3://").removeprefix(HUB).rstrip("/")
    entries = {
        entry["name"].rstrip("/").rsplit("/", 1)[-1]: _listed(entry)
        for entry in found
        if entry["name"].rstrip("/") != own and not entry["name"].endswith(PARTIAL)
    }
    return dict(sorted(entries.items()))


def listing_below(url: str, most: int | None = None) -> dict[str, Listed]:
    """Every object below a prefix by its key, sorted; one request for 1,000 on object storage.

    With `most`, up to a PAGE, takes one request; TooMany if there are more objects.
    """
    own = f"{url.removeprefix('s3://').rstrip('/')}/"
    with explained(url):
        if is_local(url):
            there = dict(itertools.islice(_local(url), None if most is None else most + 1))
        else:
            found = filesystem(url).find(url, detail=True) if most is None else filesystem(url).first_below(url, most)
            there = {path.removeprefix(own): _listed(found[path]) for path in found if not path.endswith(PARTIAL)}
    if most is not None and len(there) > most:
        raise TooMany(url)
    return dict(sorted(there.items()))


def _local(folder: str) -> Iterator[tuple[str, Listed]]:
    for key, entry in files_below(folder):
        with contextlib.suppress(FileNotFoundError):  # deleted since
            found = entry.stat()
            times = {"mtime": found.st_mtime, "created": found.st_ctime, "ino": found.st_ino}
            yield key, _listed({**times, "size": found.st_size, "type": "file"})


def _listed(entry: Mapping[str, Any]) -> Listed:
    modified = entry.get("mtime", entry.get("LastModified"))
    written = modified.timestamp() if isinstance(modified, datetime) else float(modified or "nan")
    tag = (
        str(entry.get("ETag", "")).strip('"')
        or str(entry.get("blob_id") or "")
        or f"{written!r}/{entry.get('created')!r}/{entry.get('ino')}"
    )
    return Listed(folder=entry["type"] == "directory", bytes=int(entry["size"] or 0), written=written, tag=tag)
