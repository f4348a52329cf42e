"""Removes what killed processes leave in a store; readers ignore it."""

import contextlib
import re
import time
from pathlib import Path

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import held
from specdyn.storage.access.listing import listing, listing_below
from specdyn.storage.access.objects import PARTIAL, explained, is_local
from specdyn.storage.places import PROBE, Store

CUT_OFF = re.compile(rf".*\.[0-9a-f]{{32}}{re.escape(PARTIAL)}")
"""Temporary names used by zarr and this package; other files with this suffix belong to somebody else."""
HOUR = 3600.0
"""Seconds; no write takes this long, so anything older is abandoned."""


def remove_leftovers(store: Store, older_than: float = HOUR) -> tuple[int, int]:
    """Remove leftovers at least `older_than` seconds old; returns the number of objects and bytes.

    These are unfinished writes (local stores only), trial objects of `storage check`, chunks of cubes that
    have been rebuilt, and factors shared by units of a killed call. A cube in use is left alone, and so are
    shared factors while any call is running.
    """
    count, size, before = 0, 0, time.time() - older_than
    if is_local(store.url):
        for path, length, written in unfinished_writes(store):
            if written <= before:
                with explained(store.url):
                    Path(store.url, path).unlink(missing_ok=True)
                count, size = count + 1, size + length
    for name, found in listing(store.url).items():
        if name.startswith(PROBE):
            inside = listing_below(f"{store}/{name}")
            if max((each.written for each in inside.values()), default=found.written) <= before:
                objects.delete(f"{store}/{name}")
                count, size = count + len(inside), size + sum(each.bytes for each in inside.values())
    studies = (f"{store.studies}/{name}" for name in objects.names(store.studies))
    for cube in (f"{study}/{name}" for study in studies for name in objects.names(study) if name.endswith(".zarr")):
        if not held(store.lease(cube)):
            sizes = generations.superseded(cube, before)
            objects.delete_all(cube, list(sizes))
            count, size = count + len(sizes), size + sum(sizes.values())
    if not any(held(f"{store.leases}/{name}") for name in objects.names(store.leases)):
        folder = store.scratch
        # Subfolders hold the factors that a series keeps for its next checkpoint.
        files = {name: one for name, one in listing(folder).items() if not one.folder}
        old = {name: one.bytes for name, one in files.items() if one.written <= before}
        objects.delete_all(folder, list(old))
        count, size = count + len(old), size + sum(old.values())
    return count, size


def unfinished_writes(store: Store) -> list[tuple[str, int, float]]:
    """Files of interrupted writes in a local store: relative path, bytes, time of writing."""
    found = []
    with explained(store.url):
        for path in Path(store.url).rglob(f"*{PARTIAL}") if is_local(store.url) else ():
            with contextlib.suppress(FileNotFoundError):  # its writer has finished
                entry = path.stat()
                if CUT_OFF.fullmatch(path.name) and path.is_file():
                    found.append((str(path.relative_to(store.url)), entry.st_size, entry.st_mtime))
    return found
