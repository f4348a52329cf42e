"""What processes that were killed leave in a store; readers pass over it."""

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
"""Names that zarr and this package write under; other files that end so are somebody's own."""
HOUR = 3600.0
"""No write takes so long: what is older belongs to nobody."""


def remove_leftovers(store: Store, older_than: float = HOUR) -> tuple[int, int]:
    """Remove what was cut off or replaced `older_than` seconds ago or earlier; returns the number of objects and bytes.

    These are files of unfinished writes, which object storage does not have, trials of the store, chunks of cubes that
    were built again since, and what units of a killed call shared; a cube that is worked on is left alone, and so is
    what is shared while any call is at work.
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
        # Folders hold the factors that a series keeps for its next checkpoint.
        files = {name: one for name, one in listing(folder).items() if not one.folder}
        old = {name: one.bytes for name, one in files.items() if one.written <= before}
        objects.delete_all(folder, list(old))
        count, size = count + len(old), size + sum(old.values())
    return count, size


def unfinished_writes(store: Store) -> list[tuple[str, int, float]]:
    """Files of a local store that writes were cut off in: path below it, bytes, time of writing."""
    found = []
    with explained(store.url):
        for path in Path(store.url).rglob(f"*{PARTIAL}") if is_local(store.url) else ():
            with contextlib.suppress(FileNotFoundError):  # its writer ended meanwhile
                entry = path.stat()
                if CUT_OFF.fullmatch(path.name) and path.is_file():
                    found.append((str(path.relative_to(store.url)), entry.st_size, entry.st_mtime))
    return found
