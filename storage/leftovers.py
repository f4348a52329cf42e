"""What processes that were killed in the middle of a write leave in a local store; readers pass over it."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import held
from specdyn.storage.access.listing import listing
from specdyn.storage.access.objects import PARTIAL, explained, is_local
from specdyn.storage.places import Layout

CUT_OFF = re.compile(rf".*\.[0-9a-f]{{32}}{re.escape(PARTIAL)}")
"""Names that zarr and this package write under; other files that end so are somebody's own."""
HOUR = 3600.0
"""No write takes so long: what is older belongs to nobody."""


def remove_leftovers(store: str, older_than: float = HOUR) -> tuple[int, int]:
    """Remove what was cut off or replaced `older_than` seconds ago or earlier; gives the number of objects and bytes.

    These are files of unfinished writes, which object storage does not have, and chunks of cubes that were built anew
    since; a cube that is worked on is left alone.
    """
    count, size, before = 0, 0, time.time() - older_than
    if is_local(store):
        with explained(store):
            for path, entry in _cut_off(store, before):
                path.unlink(missing_ok=True)
                count, size = count + 1, size + entry.st_size
    layout = Layout(store)
    for name, listed in listing(layout.sweeps()).items():
        cube = f"{layout.sweeps()}/{name}"
        if name.endswith(".zarr") and listed.folder and not held(layout.lease(cube)):
            sizes = generations.superseded(cube, before)
            objects.delete_all(cube, list(sizes))
            count, size = count + len(sizes), size + sum(sizes.values())
    return count, size


def _cut_off(store: str, before: float) -> Iterator[tuple[Path, os.stat_result]]:
    for path in Path(store).rglob(f"*{PARTIAL}"):
        with contextlib.suppress(FileNotFoundError):  # its writer ended meanwhile
            entry = path.stat()
            if CUT_OFF.fullmatch(path.name) and path.is_file() and entry.st_mtime <= before:
                yield path, entry
