"""Removes a study and everything that no other study needs."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold, holder_of
from specdyn.storage.access.listing import listing_below
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import delete_record, end_record
from specdyn.storage.care.verify import CUBES
from specdyn.storage.places import Store
from specdyn.storage.studies import StudyRecord, study_names
from specdyn.tasks.care.garbage import Thing, thing_of, unreferenced
from specdyn.tasks.care.references import RunKey, all_records, references

RECORD = re.compile(r"studies/[^/]+/[^/]+\.(json$|versions/)")
"""Keys of the versions of records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What is removed with a study, and what is kept."""

    study: str
    things: tuple[Thing, ...]
    shared: Mapping[RunKey, tuple[str, ...]]
    """Runs that are kept, with the names of the studies that need them."""


def plan_removal(store: Store, name: str) -> Removal:
    """Plan what is removed and what is kept; writes nothing.

    ValueError if there is no such study, StoreError if a call works on it.
    """
    for cube in cubes_of_study(store, name):
        if holder := holder_of(store.lease(cube)):
            raise StoreError(f"{name}: {holder} works on {cube.rsplit('/', 1)[-1]}; call again once it has ended")
    return _plan(store, name)


def remove(store: Store, name: str) -> Removal:
    """Remove a study and everything that no other one needs; returns what was removed.

    Its records are ended first and deleted last: if this is killed at any point, the study is not mistaken for one
    that has lost its runs, and another call or a garbage collection removes the rest.
    """
    plan_removal(store, name)
    with contextlib.ExitStack() as stack:
        for cube in cubes_of_study(store, name):
            stack.enter_context(hold(store.lease(cube), f"removal of {name}"))
        removal = _plan(store, name)  # again, as another call may have started to need some of it
        records = [store.study(found, kind) for found, kind in study_names(store) if found == name]
        for url in records:
            end_record(url)
        for thing in removal.things:
            objects.delete_all(store.url, [key for key in thing.keys if not RECORD.match(key)])
        for url in records:
            delete_record(url)
        folder = f"{store.studies}/{name}"
        if not objects.find(folder):
            objects.delete(folder)  # an empty local folder
    return removal


def _plan(store: Store, name: str) -> Removal:
    keys = listing_below(store.url)
    known = sorted({key.split("/")[1] for key in keys if key.startswith("studies/")})
    if name not in known:
        raise ValueError(f"no study called {name!r} in {store}; it has: {', '.join(known) or 'none'}")
    records = all_records(store)
    others = [record for record in records if record.name != name]
    before = {key for thing in unreferenced(store, references(store, records), keys) for key in thing.keys}
    after = unreferenced(store, references(store, others), keys)
    of_study = [key for key in keys if key.startswith(f"studies/{name}/")]
    things = [thing_of("studies", name, of_study, keys), *(one for one in after if before.isdisjoint(one.keys))]
    return Removal(study=name, things=tuple(things), shared=_shared(store, name, records))


def cubes_of_study(store: Store, name: str) -> list[str]:
    """The cubes that the study has or will have."""
    kinds = {kind for found, kind in study_names(store) if found == name}
    there = set(objects.names(f"{store.studies}/{name}"))
    return [f"{store.studies}/{name}/{cube}" for cube, of in CUBES.items() if cube in there or kinds & set(of)]


def _shared(store: Store, name: str, records: Sequence[StudyRecord]) -> dict[RunKey, tuple[str, ...]]:
    """The runs of the study that others need."""
    own = references(store, [record for record in records if record.name == name]).runs
    shared: dict[RunKey, list[str]] = {}
    for record in records:
        if record.name != name:
            for run in own.keys() & references(store, [record]).runs.keys():
                shared.setdefault(run, []).append(record.name)
    return {run: tuple(dict.fromkeys(studies)) for run, studies in sorted(shared.items())}
