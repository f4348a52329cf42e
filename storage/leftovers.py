"""What processes that were killed in the middle of a write leave in a local store; readers pass over it."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from storage.locations import PARTIAL, explained, is_local

CUT_OFF = re.compile(rf".*\.[0-9a-f]{{32}}{re.escape(PARTIAL)}")
"""Names that zarr and this package write under; other files that end so are somebody's own."""
HOUR = 3600.0
"""No write takes so long: what is older belongs to nobody."""


def remove_leftovers(store: str, older_than: float = HOUR) -> tuple[int, int]:
    """Remove files of writes that were cut off `older_than` seconds ago or earlier; gives their number and bytes.

    Object storage has none: there an object is there whole or not at all.
    """
    count, size = 0, 0
    if is_local(store):
        with explained(store):
            for path, entry in _cut_off(store, time.time() - older_than):
                path.unlink(missing_ok=True)
                count, size = count + 1, size + entry.st_size
    return count, size


def _cut_off(store: str, before: float) -> Iterator[tuple[Path, os.stat_result]]:
    for path in Path(store).rglob(f"*{PARTIAL}"):
        with contextlib.suppress(FileNotFoundError):  # its writer ended meanwhile
            entry = path.stat()
            if CUT_OFF.fullmatch(path.name) and path.is_file() and entry.st_mtime <= before:
                yield path, entry
