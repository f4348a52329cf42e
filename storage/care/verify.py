"""Reads a whole store to find damaged or missing objects. Writes nothing."""

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from specdyn.storage.access import objects
from specdyn.storage.access.codec import unseal
from specdyn.storage.access.listing import listing_below
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import is_ended, newest_place, read_record
from specdyn.storage.care.cubes import checks_of_cube, cubes_in
from specdyn.storage.care.damage import Check, Checked, Damage, Look, Scope, bad, clean
from specdyn.storage.care.recordings import checks_of_recordings
from specdyn.storage.care.runs import (
    check_manifest,
    check_mask,
    check_states,
    checks_of_run,
    lost_manifests,
    runs_with_manifests,
)
from specdyn.storage.checkpoints import Manifest
from specdyn.storage.datasets import DamagedData, DataManifest, read_arrays, read_data_manifest
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.storage.results import SUFFIX, read_metadata, read_values
from specdyn.storage.schema import SCHEMA_VERSION
from specdyn.storage.studies import COMMANDS, KINDS, StudyKind, read_study

READERS = 8
"""Objects that are read at a time."""
CUBES: dict[str, tuple[StudyKind, ...]] = {
    "results.zarr": ("sweep", "series"),
    "connectivity.zarr": ("connectivity",),
    "tickets.zarr": ("tickets",),
}
"""The kinds of study that may have a cube of that name."""

Advance = Callable[[int, int], None]
"""Called with the number of finished checks and of all checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The result of verifying a store."""

    objects: int
    bytes: int
    damage: tuple[Damage, ...]
    skipped: tuple[str, ...]
    """Why some objects were skipped."""


def verify(store: Store, scope: Scope | None = None, advance: Advance = lambda *_: None) -> Verified:
    """Check every object of a store (or a scope) whose expected content is known; reads several at a time."""
    look = Look(store=store, keys=listing_below(store.url), scope=scope)
    manifests: dict[str, Manifest] = {}
    first = _run(_first(look, manifests), advance)
    return _sum([*first, *_run(_second(look, manifests), advance)])


def verify_records(store: Store, scope: Scope | None = None) -> Verified:
    """Check only records and manifests, which everything else is checked against."""
    return _sum(_run(_first(Look(store=store, keys=listing_below(store.url), scope=scope), {}), lambda *_: None))


def _run(checks: Iterable[Check], advance: Advance) -> list[Checked]:
    every, done = list(checks), []
    with ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(lambda check: check(), every):
            done.append(found)
            advance(len(done), len(every))
    return done


def _sum(found: Iterable[Checked]) -> Verified:
    every = list(found)
    damage = {one.url: one for checked in every for one in checked.damage}
    return Verified(
        objects=sum(checked.objects for checked in every),
        bytes=sum(checked.bytes for checked in every),
        damage=tuple(damage.values()),
        skipped=tuple(checked.skipped for checked in every if checked.skipped),
    )


def _first(look: Look, manifests: dict[str, Manifest]) -> Iterator[Check]:
    if look.scope is None:
        yield functools.partial(_check_version, look)
    for name in sorted({key.split("/")[0] for key in look.below("studies")}):
        if look.has_study(name):
            yield from _checks_of_records(look, name)
    for run in runs_with_manifests(look):
        yield functools.partial(check_manifest, look, run, manifests)


def _second(look: Look, manifests: dict[str, Manifest]) -> Iterator[Check]:
    for run in runs_with_manifests(look):
        yield from checks_of_run(look, run, manifests.get(run.manifest))
    yield from check_states(look)
    yield from lost_manifests(look)
    for key in look.below("results"):
        kind, experiment, *inside = key.split("/")
        if inside and look.has_result(kind, experiment, inside[0].removesuffix(SUFFIX)):
            yield functools.partial(_check_result, look, look.url(f"results/{key}"))
    yield from _checks_of_masks(look)
    for key in cubes_in(look):
        yield from checks_of_cube(look, key)
    yield from _checks_of_series(look)
    yield from checks_of_recordings(look)
    if look.scope is None:
        for key in sorted({key.split("/")[0] for key in look.below("data")}):
            yield functools.partial(_check_dataset, look, key)


def _check_version(look: Look) -> Checked:
    url = look.store.schema
    repair = "`specdyn repair` deletes it; the next call writes it again"
    try:
        plain = json.loads(objects.read(url))
        if list(plain) != ["schema_version"] or not 1 <= plain["schema_version"] <= SCHEMA_VERSION:
            raise ValueError(f"expected a schema_version up to {SCHEMA_VERSION}, got {plain}")
    except FileNotFoundError:
        return bad(look, "store version", url, "is missing", "the next call writes it again")
    except (ValueError, TypeError) as error:
        return bad(look, "store version", url, str(error), repair)
    return clean(look, url)


def _checks_of_records(look: Look, name: str) -> Iterator[Check]:
    """Check the records of a study, and that each of its cubes has one."""
    inside = {key.split("/")[0] for key in look.below(f"studies/{name}")}
    there = {kind for kind in KINDS if {f"{kind}.json", f"{kind}.versions"} & inside}
    for kind in sorted(there):
        yield functools.partial(_check_record, look, name, kind)
    for cube in sorted(CUBES.keys() & inside):
        if not there & set(CUBES[cube]):
            url = look.store.study(name, CUBES[cube][0])
            commands = " or ".join(f"`specdyn {COMMANDS[kind]}`" for kind in CUBES[cube])
            repair = f"call {commands} as before, or remove the study"
            yield functools.partial(bad, look, "record", url, f"is missing, though there is {cube}", repair)


def _check_record(look: Look, name: str, kind: StudyKind) -> Checked:
    url = look.store.study(name, kind)
    place = newest_place(url)
    try:
        record = read_study(look.store, name, kind)
    except StoreError as error:
        repair = (
            "`specdyn repair` deletes it, so that the version before counts; "
            f"then call `specdyn {COMMANDS[kind]}` as before"
        )
        return bad(look, "record", place, str(error), repair, url)
    if record is None and is_ended(url):
        return bad(look, "record", place, "its study is not removed to the end", f"`specdyn remove {name}`", url)
    return clean(look, place)


def _check_result(look: Look, url: str) -> Checked:
    try:
        found = read_values(url)
    except StoreError as error:
        repair = "`specdyn repair` deletes it; the next call measures it again"
        return bad(look, "result", url, str(error).removeprefix(f"{url}: "), repair)
    return Checked(objects=0) if found is None else clean(look, url)


def _checks_of_masks(look: Look) -> Iterator[Check]:
    """Check all stored masks, and that those used by tickets exist."""
    used: dict[str, str] = {}
    for key in look.below("results/tickets"):
        url, (experiment, name) = look.url(f"results/tickets/{key}"), key.split("/", 1)
        if look.has_result("tickets", experiment, name.removesuffix(SUFFIX)):
            try:
                used[look.store.mask(str(read_metadata(url)["mask"]))] = url
            except (FileNotFoundError, KeyError, StoreError):
                continue  # reported as a damaged result
    there = {look.url(f"masks/{key}") for key in look.below("masks")} if look.scope is None else set()
    for url in sorted(there | used.keys()):
        yield functools.partial(check_mask, look, url, used.get(url, ""))


def _checks_of_series(look: Look) -> Iterator[Check]:
    for key in sorted({key.split("/")[0].partition(".")[0] for key in look.below("series")}):
        if look.scope is None or key in look.scope.series:
            yield functools.partial(_check_series, look, key)


def _check_series(look: Look, digest: str) -> Checked:
    url = look.store.series(digest)
    place = newest_place(url)
    repair = "`specdyn repair` deletes it; the next call reads the checkpoints' files again"
    try:
        plain = unseal(read_record(url) or b"{}")
        if short_digest(plain["url"]) != digest or not isinstance(plain["checkpoints"], dict):
            raise ValueError("it is of another series")
    except (ValueError, KeyError, TypeError) as error:
        return bad(look, "series record", place, f"{type(error).__name__}: {error}", repair, url)
    return clean(look, place)


def _check_dataset(look: Look, key: str) -> Checked:
    """Check the manifest of a data set and its arrays, one array at a time."""
    store, url = look.store, look.store.data_manifest(key)
    there = look.below(f"data/{key}")
    repair = "`specdyn repair` deletes its manifest; then `specdyn data prepare`, or the next call for a sample"
    try:
        manifest = read_data_manifest(store, key)
    except (DamagedData, StoreError) as error:
        return bad(look, "data set", url, str(error), repair, url)
    if manifest is None:
        return bad(look, "data set", url, "is missing, though there are arrays", "prepare the data set again", url)
    damage = tuple(
        Damage(kind="data set", url=f"{store.dataset(key)}/{manifest.place}/{name}", what=why, repair=repair, owner=url)
        for name in manifest.arrays
        if (why := _array_damage(store, manifest, name))
    )
    return Checked(objects=len(there), bytes=sum(item.bytes for item in there.values()), damage=damage)


def _array_damage(store: Store, manifest: DataManifest, name: str) -> str:
    try:
        read_arrays(store, manifest, only=name)
    except DamagedData as error:
        return " ".join(str(error).split())[:300]
    return ""
