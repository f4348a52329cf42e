"""Records of studies: what belongs to each, accumulated over all calls."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from specdyn.storage.access import objects
from specdyn.storage.access.codec import decode, encode
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import change_record, newest_place, read_record
from specdyn.storage.places import Store

StudyKind = Literal["sweep", "connectivity", "tickets", "series"]
KINDS: tuple[StudyKind, ...] = get_args(StudyKind)
COMMANDS = {"sweep": "run", "connectivity": "connect", "tickets": "tickets", "series": "analyse"}
"""The command that creates a study of each kind."""
DEFAULT_ANALYSES = "(default)"
"""Stands for the analyses that a call without names requests."""
READERS = 16
"""Studies read concurrently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRecord:
    """Two runs by id, and how the line between them is measured."""

    a: str
    b: str
    kind: str
    layerwise: bool
    curve_steps: int
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """The contents of a study; fields that its kind does not use keep their default."""

    name: str
    kind: StudyKind
    experiment: str
    preset: str = ""
    specs: tuple[str, ...] = ()
    """Canonical JSON of every run, in the order requested."""
    analyses: tuple[str, ...] = (DEFAULT_ANALYSES,)
    """Names of the analyses requested for the runs of a sweep."""
    splits: tuple[int, ...] = ()
    """Steps at which trunks keep their state."""
    trunks: tuple[str, ...] = ()
    """Run ids of branches and tickets."""
    branches: tuple[str, ...] = ()
    tickets: tuple[str, ...] = ()
    pairs: tuple[PairRecord, ...] = ()
    sources: tuple[str, ...] = ()
    """URLs of the checkpoints of a series."""
    labels: tuple[str, ...] = ()
    """The labels of each series, as JSON."""

    def extended(self, other: "StudyRecord") -> "StudyRecord":
        """The record with the additional content of another record of the same study appended."""
        joined: dict[str, Any] = {
            name: tuple(dict.fromkeys([*getattr(self, name), *getattr(other, name)])) for name in GROWING
        }
        return dataclasses.replace(other, **joined)


GROWING = ("specs", "analyses", "splits", "trunks", "branches", "tickets", "pairs")
"""Fields to which later calls for the same study append."""


def read_study(store: Store, name: str, kind: StudyKind) -> StudyRecord | None:
    """The record of that name and kind, or None; StoreError if something else is in its place."""
    url = store.study(name, kind)
    text = read_record(url)
    return None if text is None else _parsed(store, text, name, kind)


def records_of(store: Store, name: str) -> list[StudyRecord]:
    """The records of that name, one of a kind; StoreError where something else lies in the place of one."""
    return [record for kind in KINDS if (record := read_study(store, name, kind))]


def record_study(store: Store, record: StudyRecord) -> StudyRecord:
    """Add the record's runs, pairs and tickets to the stored study; a series is replaced.

    ValueError if a study of that name belongs to another experiment. Concurrent calls do not lose each other's changes.
    """
    url = store.study(record.name, record.kind)

    def changed(text: bytes | None) -> bytes:
        if record.kind == "series" or text is None:
            return encode(record)
        before = _parsed(store, text, record.name, record.kind)
        if before.experiment != record.experiment:
            raise ValueError(
                f"{record.kind}={record.name!r} is of {before.experiment!r} in {store}, "
                f"not of {record.experiment!r}: choose another name"
            )
        return encode(before.extended(record))

    stands = change_record(url, changed)
    assert stands is not None
    return _parsed(store, stands, record.name, record.kind)


def cube_of(store: Store, name: str, kind: StudyKind) -> str:
    """URL of the cube of a study of that kind; a sweep and series of the same name share it."""
    places = {"sweep": store.cube, "series": store.cube, "connectivity": store.connectivity, "tickets": store.tickets}
    return places[kind](name)


def no_results(
    study: str, store: Store, known: Iterable[str], there: str = "it has", what: str = "results"
) -> ValueError:
    """The error for missing results, listing those that the store has."""
    return ValueError(f"no {what} called {study!r} in {store}; {there}: {', '.join(sorted(set(known))) or 'none'}")


def study_names(store: Store, kinds: Sequence[StudyKind] = KINDS) -> list[tuple[str, StudyKind]]:
    """Name and kind of every study of these kinds; one listing, plus one per name."""
    found = objects.names(store.studies)
    with ThreadPoolExecutor(READERS) as pool:
        inside = pool.map(lambda name: objects.names(f"{store.studies}/{name}"), found)
        return [(name, kind) for name, there in zip(found, inside, strict=True) for kind in kinds if _has(there, kind)]


def kinds_of(store: Store, name: str) -> list[StudyKind]:
    """The kinds of the studies of that name; two listings. ValueError lists the known names."""
    there = objects.names(f"{store.studies}/{name}") if name in objects.names(store.studies) else []
    if not (kinds := [kind for kind in KINDS if _has(there, kind)]):
        raise no_results(name, store, (known for known, _ in study_names(store)), what="study")
    return kinds


def _has(there: Iterable[str], kind: StudyKind) -> bool:
    """Whether the names in a study's folder include a record of that kind."""
    return not {f"{kind}.json", f"{kind}.versions"}.isdisjoint(there)


@contextmanager
def legible(store: Store, name: str, kind: StudyKind) -> Iterator[None]:
    """StoreError, with what to do, in place of what reading a damaged record raises."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        place = newest_place(store.study(name, kind))
        raise StoreError(
            f"{place} is not the record of a study ({error}); delete it, and call `specdyn {COMMANDS[kind]}` as "
            "before to write it again"
        ) from None


def _parsed(store: Store, text: bytes, name: str, kind: StudyKind) -> StudyRecord:
    with legible(store, name, kind):
        record = decode(StudyRecord, store.study(name, kind), text)
        if (record.name, record.kind) != (name, kind):
            raise ValueError(f"it says {record.name!r}, {record.kind!r}")
    return record
