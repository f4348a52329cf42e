"""Checks a store before use: whether it works at all, and what it supports."""

import contextlib
import itertools
import json
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from specdyn.storage.access import objects
from specdyn.storage.access.codec import require_schema
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import PROBE, Store
from specdyn.storage.schema import SCHEMA_VERSION

RACERS = 8
ONE_WRITER = "the last of several concurrent writers wins: run only one sweep at a time on this store"
BODY = bytes(range(256))


@dataclass(frozen=True, slots=True)
class Check:
    """The check of one capability of a store. `ok` with advice is a warning: usable, with care."""

    name: str
    ok: bool
    detail: str
    advice: str = ""

    @property
    def level(self) -> str:
        """`ok`, `warning` or `error`."""
        if not self.ok:
            return "error"
        return "warning" if self.advice else "ok"


OURS = {"checkpoints", "results", "runs", "studies"}
"""Folders that identify a store without a version, as created by calling functions directly."""

Trial = Callable[[str], tuple[str, str]]
"""Tries something below a folder; returns detail and advice, raises StoreError on failure."""


def require_store(url: str) -> Store:
    """The store at that URL; StoreError unless it is readable and writable and its layout is not newer than ours.

    Writes the layout version if there is none; takes seconds at most, even if nothing answers.
    """
    store = _normalised(url)
    objects.reach(store.url)
    version = store.schema
    _require_version(version)
    folder = _temporary(store)
    try:
        _write(folder)
        _read_back(folder)
    finally:
        objects.delete(folder)
    objects.create(version, json.dumps({"schema_version": SCHEMA_VERSION}).encode())
    return store


def existing_store(url: str) -> Store:
    """A store for reading only: nothing is written, so read permission suffices.

    StoreError if there is no store, it cannot be read, or its layout is newer than ours.
    """
    store, known = _asked(url)
    if not known and not OURS & set(objects.names(store.url)):
        raise StoreError(f"No store at {store}. Check --store (or SPECDYN_STORE); `specdyn run` creates a store")
    return store


def planned_store(url: str) -> Store:
    """A store that may not exist yet; nothing is written.

    StoreError if it could not be created or read, or its layout is newer than ours.
    """
    return _asked(url)[0]


def _asked(url: str) -> tuple[Store, bool]:
    """The store at that URL, and whether it has a layout version."""
    store = _normalised(url)
    return store, objects.reach(store.url, make=False) and _require_version(store.schema)


def probe(url: str) -> list[Check]:
    """Try everything we need on the real store, below a temporary prefix; stops when nothing further can work.

    Removes everything it wrote, including a local folder that it created.
    """
    try:
        store = _normalised(url)
    except StoreError as error:
        return [Check("reachable", False, str(error), "nothing else was tried")]
    made = _missing_folders(store.url) if objects.is_local(store.url) else []
    try:
        return _probe(store)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _missing_folders(path: str) -> list[str]:
    """The folder and its parents that do not exist, innermost first."""
    above = [path, *map(str, Path(path).parents)]
    return list(itertools.takewhile(lambda folder: not os.path.lexists(folder), above))


def _probe(store: Store) -> list[Check]:
    try:
        objects.reach(store.url)
    except StoreError as error:
        return [Check("reachable", False, str(error), "nothing else was tried")]
    checks = [Check("reachable", True, store.url)]
    folder = _temporary(store)
    try:
        checks.append(_tried("write", _write, folder))
        if checks[-1].ok:
            checks += [_tried(name, trial, folder) for name, trial in TRIALS.items()]
    finally:
        checks.append(_tried("delete", _delete, folder))
    return checks


def _normalised(url: str) -> Store:
    try:
        return Store(objects.normalise(url))
    except ValueError as error:
        raise StoreError(str(error)) from None


def _temporary(store: Store) -> str:
    return f"{store}/{PROBE}{uuid.uuid4().hex}"


def _require_version(url: str) -> bool:
    """Whether there is a layout version; StoreError if we cannot read it."""
    try:
        version = json.loads(objects.read(url))["schema_version"]
        require_schema(url, int(version))
        return True
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{url}: expected the layout version of a store, got something else; is this another program's folder?"
        ) from None


def _tried(name: str, trial: Trial, folder: str) -> Check:
    try:
        detail, advice = trial(folder)
    except FileNotFoundError:
        return Check(name, False, "an object just written is missing", "this store cannot be used")
    except StoreError as error:
        return Check(name, False, str(error), "this store cannot be used")
    return Check(name, True, detail, advice)


def _expect(what: str, expected: object, got: object) -> None:
    if expected != got:
        raise StoreError(f"{what}: expected {expected!r}, got {got!r}")


def _write(folder: str) -> tuple[str, str]:
    objects.write(f"{folder}/object", BODY)
    return f"{len(BODY)} bytes", ""


def _read_back(folder: str) -> tuple[str, str]:
    _expect("reading what was written", BODY, objects.read(f"{folder}/object"))
    return "the same bytes", ""


def _read_range(folder: str) -> tuple[str, str]:
    _expect("reading bytes 16 to 31", BODY[16:32], objects.read_range(f"{folder}/object", 16, 32))
    return "16 of them", ""


def _list(folder: str) -> tuple[str, str]:
    _expect("listing right after writing", ["object"], objects.names(folder))
    return "a fresh object is listed", ""


def _create_twice(folder: str) -> tuple[str, str]:
    won = [objects.create(f"{folder}/once", f"{i}".encode()) for i in range(2)]
    if won == [True, True]:
        return "the second create replaced the object: If-None-Match is ignored", ONE_WRITER
    _expect("creating an object twice", [True, False], won)
    _expect("reading what was created", b"0", objects.read(f"{folder}/once"))
    return "the second create was refused", ""


def _race(folder: str) -> tuple[str, str]:
    def create(racer: int) -> bool:
        return objects.create(f"{folder}/race", f"{racer}".encode())

    with ThreadPoolExecutor(RACERS) as pool:
        won = [racer for racer, first in enumerate(pool.map(create, range(RACERS))) if first]
    if len(won) != 1:
        return f"{len(won)} of {RACERS} concurrent creates won", ONE_WRITER
    _expect("reading what the winner wrote", f"{won[0]}".encode(), objects.read(f"{folder}/race"))
    return f"1 of {RACERS} won", ""


def _delete(folder: str) -> tuple[str, str]:
    objects.delete(folder)
    _expect("listing after deleting", [], objects.names(folder))
    return "the temporary objects are gone", ""


TRIALS: dict[str, Trial] = {
    "read": _read_back,
    "ranged read": _read_range,
    "listing": _list,
    "conditional create": _create_twice,
    "concurrent create": _race,
}
