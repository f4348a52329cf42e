"""Caches an empty database of Prefect's server with all its tables, since creating them takes most of the server's
start-up time."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from importlib.metadata import version
from pathlib import Path

OF_EVERY_SERVER = {"alembic_version", "block_schema", "block_schema_reference", "block_type"}
"""Tables that Prefect's server fills as it starts."""


def copy_ready(database: Path) -> bool:
    """Create the database, which must not exist yet, as a copy of the cached one; False if there is no suitable one.

    A copy that is damaged, not this user's, or not empty is removed.
    """
    with contextlib.suppress(OSError, RuntimeError), _kept().open("rb") as source:
        if os.fstat(source.fileno()).st_uid == os.getuid():
            database.touch(mode=0o600, exist_ok=False)
            with database.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            if _is_ready(database):
                return True
            database.unlink()
    return False


def keep_ready(database: Path) -> None:
    """Cache a copy of a running server's database if it is empty; does nothing on failure."""
    with contextlib.suppress(OSError, RuntimeError, sqlite3.Error), contextlib.ExitStack() as stack:
        kept = _kept()
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file, name = tempfile.mkstemp(prefix=f"{kept.stem}-", suffix=".part", dir=kept.parent)
        os.close(file)
        part = Path(name)
        stack.callback(part.unlink, missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True)) as source,
            contextlib.closing(sqlite3.connect(part)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        if _is_ready(part):
            part.replace(kept)


def _kept() -> Path:
    """The path of the cached database; RuntimeError if the user has no home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return cache / "specdyn" / f"prefect-{version('prefect')}.db"


def _is_ready(database: Path) -> bool:
    """Whether it is intact, has tables, and has rows only in those that every server fills."""
    try:
        with contextlib.closing(sqlite3.connect(database)) as found:
            whole = found.execute("PRAGMA quick_check").fetchone() == ("ok",)
            tables = [name for (name,) in found.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            filled = {name for name in tables if found.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()}
    except sqlite3.Error:
        return False
    return whole and "alembic_version" in filled <= OF_EVERY_SERVER
