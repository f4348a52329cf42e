"""The empty database that servers begin with is kept only where it is empty, and used only where it is whole."""

import contextlib
import os
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from specdyn.flows.engine import engines, ready_database
from specdyn.flows.engine.ready_database import copy_ready, keep_ready


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """The database of a server that has just started."""
    path = tmp_path / "served.db"
    rows = {"alembic_version": "a3b9", "block_type": "secret", "flow_run": None, "configuration": None}
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        for table, row in rows.items():
            database.execute(f"CREATE TABLE {table} (name)")
            if row:
                database.execute(f"INSERT INTO {table} VALUES (?)", (row,))
        database.commit()
    return path


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def names_of(database: Path, table: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(database)) as found:
        return [name for (name,) in found.execute(f"SELECT name FROM {table}")]


def test_the_next_server_begins_with_a_copy_that_is_the_users_alone(cache: Path, served: Path, tmp_path: Path) -> None:
    assert not copy_ready(tmp_path / "first.db"), "nothing is kept yet"
    keep_ready(served)
    (file,) = kept(cache)
    assert file.name.startswith("prefect-3.")
    assert copy_ready(tmp_path / "second.db")
    assert names_of(tmp_path / "second.db", "block_type") == ["secret"]
    assert [path.stat().st_mode & 0o077 for path in (file, tmp_path / "second.db")] == [0, 0]
    assert not (tmp_path / "first.db").exists()


@pytest.mark.parametrize("table", ["flow_run", "configuration"])
def test_what_has_anything_of_a_run_or_a_key_in_it_is_not_kept(cache: Path, served: Path, table: str) -> None:
    with contextlib.closing(sqlite3.connect(served)) as database:
        database.execute(f"INSERT INTO {table} VALUES ('mine')")
        database.commit()
    keep_ready(served)
    assert kept(cache) == []


def test_what_is_no_database_of_a_server_is_not_kept(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database")
    sqlite3.connect(tmp_path / "empty.db").close()
    for name in ("text", "empty.db", "missing.db"):
        keep_ready(tmp_path / name)
    assert kept(cache) == []


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "flow_run"])
def test_a_damaged_or_foreign_file_is_passed_over_and_made_again(
    cache: Path, served: Path, tmp_path: Path, damage: str
) -> None:
    keep_ready(served)
    (file,) = kept(cache)
    whole = file.read_bytes()
    if damage == "flow_run":
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("INSERT INTO flow_run VALUES ('of another')")
            database.commit()
    else:
        file.write_bytes({"cut": whole[: len(whole) // 2], "text": b"no database", "empty": b""}[damage])
    assert not copy_ready(tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy.db*"))
    keep_ready(served)
    assert copy_ready(tmp_path / "copy.db")


def test_another_version_of_prefect_has_a_file_of_its_own(
    cache: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_ready(served)
    monkeypatch.setattr(ready_database, "version", lambda _: "4.0.0")
    assert not copy_ready(tmp_path / "copy.db")
    keep_ready(served)
    assert {path.name for path in kept(cache)} >= {"prefect-4.0.0.db"}
    assert copy_ready(tmp_path / "copy.db")


def test_the_file_of_another_user_is_passed_over(
    cache: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_ready(served)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert not copy_ready(tmp_path / "copy.db")


def test_a_cache_that_cannot_be_written_is_done_without(cache: Path, served: Path, tmp_path: Path) -> None:
    cache.write_text("a file where the folder should be")
    keep_ready(served)
    assert not copy_ready(tmp_path / "copy.db")
    assert cache.read_text() == "a file where the folder should be"


def test_a_user_without_a_home_does_without(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", homeless)
    keep_ready(served)
    assert not copy_ready(tmp_path / "copy.db")


def test_an_existing_database_is_left_alone(cache: Path, served: Path) -> None:
    keep_ready(served)
    before = served.read_bytes()
    assert not copy_ready(served)
    assert served.read_bytes() == before


def test_many_at_once_do_one_another_no_harm(cache: Path, served: Path, tmp_path: Path) -> None:
    def both(number: int) -> bool:
        keep_ready(served)
        return copy_ready(tmp_path / f"{number}.db")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(both, range(16)))
    assert len(kept(cache)) == 1, "no unfinished file is left"


SERVER = f"""#!{sys.executable}
import http.server, os, pathlib, sys

if pathlib.Path(os.environ["PREFECT_HOME"], "prefect.db").exists():
    sys.exit("this database has tables that I don't know")

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answer).serve_forever()
"""


def test_a_server_that_ends_on_the_copy_is_started_without(
    cache: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_ready(served)
    (tmp_path / "python").write_text(SERVER)
    (tmp_path / "python").chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    server = engines._TemporaryServer(tmp_path / "home")
    try:
        assert (tmp_path / "home" / "prefect.db").exists()
        assert server.answers().alive()
        assert not list((tmp_path / "home").glob("prefect.db*"))
    finally:
        server._process.kill()
        server._process.wait()
    assert "tables that I don't know" in (tmp_path / "home" / "server.log").read_text()
