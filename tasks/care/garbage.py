"""Finds and deletes what no study of a store refers to."""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import holder_of
from specdyn.storage.access.listing import Listed, listing_below
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import is_ended
from specdyn.storage.care.verify import CUBES
from specdyn.storage.datasets import DamagedData, read_data_manifest
from specdyn.storage.identity import short_digest
from specdyn.storage.leftovers import HOUR, unfinished_writes
from specdyn.storage.places import PROBE, Store
from specdyn.storage.results import SUFFIX, DamagedResult, read_metadata
from specdyn.storage.studies import KINDS, READERS
from specdyn.tasks.care.references import OWNER, References, all_records, references

Keys = Mapping[str, Listed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Objects that belong together and that no study refers to."""

    kind: str
    name: str
    keys: tuple[str, ...]
    """Keys relative to the store, in the order of deletion."""
    bytes: int
    newest: float
    """When the last of them was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What may be deleted, and what is too recent."""

    things: tuple[Thing, ...]
    young: tuple[Thing, ...]
    leases: frozenset[str]
    """Keys of the leases before the search: every call adds one."""


def find_garbage(store: Store, older_than: float = HOUR) -> Garbage:
    """Find what no study refers to; writes nothing.

    StoreError if a call is running, a record cannot be read, or a cube has lost its record: what is needed is then
    unknown.
    """
    leases = frozenset(objects.find(store.leases))
    require_nobody_at_work(store)
    keys = listing_below(store.url)
    if lost := _lost_records(store, keys):
        raise StoreError(
            f"{', '.join(lost)}: there is a cube, but no record of its study. Run the command that made it again, "
            "which rewrites the record, or remove the study; then call again"
        )
    needed = references(store, all_records(store))
    found = [*unreferenced(store, needed, keys), *_left_over(store, keys)]
    before = time.time() - older_than
    old = [thing for thing in found if thing.newest <= before]
    young = tuple(thing for thing in found if thing not in old)
    return Garbage(things=tuple(old), young=young, leases=leases)


def delete_garbage(store: Store, garbage: Garbage) -> None:
    """Delete the garbage; StoreError if a call is running or has run meanwhile, as it may need some of it."""
    for thing in garbage.things:
        require_nobody_at_work(store)
        if set(objects.find(store.leases)) - garbage.leases:
            raise StoreError(f"{store}: a call has worked on a study meanwhile; call again to check what it needs")
        objects.delete_all(store.url, thing.keys)


def require_nobody_at_work(store: Store) -> None:
    """Raise StoreError if any lease is held."""
    for name in objects.names(store.leases):
        if holder := holder_of(f"{store.leases}/{name}"):
            raise StoreError(f"{store}: {holder} works on {name.removesuffix('.zarr')}; call again once it has ended")


def unreferenced(store: Store, needed: References, keys: Keys) -> list[Thing]:
    """Objects that belong to no study, and results of checkpoints that runs no longer have."""
    masks, data = _masks_of(store, needed, keys), _arrays_in_use(store, keys)
    found: dict[tuple[str, str], list[str]] = {}
    for key in keys:
        place = _belongs_to_nobody(key, needed, masks, data)
        if place is not None:
            found.setdefault(place, []).append(key)
    return [thing_of(kind, name, of, keys) for (kind, name), of in found.items()]


def thing_of(kind: str, name: str, found: Iterable[str], keys: Keys) -> Thing:
    """Group listed objects that belong together."""
    # The manifest is deleted first, so that it never exists without its checkpoints.
    ordered = sorted(found, key=lambda key: (not key.startswith("runs/"), key))
    return Thing(
        kind=kind,
        name=name,
        keys=tuple(ordered),
        bytes=sum(keys[key].bytes for key in ordered),
        newest=max(keys[key].written for key in ordered),
    )


def _belongs_to_nobody(
    key: str, needed: References, masks: frozenset[str], data: frozenset[str]
) -> tuple[str, str] | None:
    """Kind and name of the thing that an object belongs to; None if it is needed or unknown."""
    folder, *inside = key.split("/")
    known, kind, owner = True, folder, ""
    match folder, inside:
        case _ if folder.startswith(PROBE):
            known, kind, owner = False, "trials of the store", folder
        case (("checkpoints" | "runs"), [experiment, name, *_]):
            run_id = name.removesuffix(".json").removesuffix(".versions")
            known, kind, owner = (experiment, run_id) in needed.runs, "runs", f"{experiment}/{run_id}"
        case "results", [of, experiment, name, *_]:
            known = needed.needs_result(of, experiment, name.removesuffix(SUFFIX))
            kind, owner = _of_result(of, experiment, name.removesuffix(SUFFIX), needed)
        case "logs", [experiment, name, *_]:
            begins = OWNER.match(name)
            known, owner = needed.needs_log(experiment, name), f"{experiment}/{begins[0] if begins else name}"
        case "masks", [name]:
            known, owner = name.removesuffix(SUFFIX) in masks, name
        case "scratch", [name, _, *_]:  # factors kept for the next checkpoint of a series
            known, owner = name in needed.series, name
        case "series", [name, *_]:
            owner = name.partition(".")[0]
            known, kind = owner in map(short_digest, needed.sources), "series records"
        case (("reports" | "tensorboard"), [owner, _, *_]):
            known = owner in needed.studies
        case "data", [dataset, name, *_] if name.endswith(".zarr"):
            owner = f"{dataset}/{name}"
            known, kind = owner in data, "prepared data"
    return None if known else (kind, owner)


def _of_result(kind: str, experiment: str, name: str, needed: References) -> tuple[str, str]:
    """Kind and name for an unneeded result: it belongs to a removed run, or to checkpoints that no longer exist."""
    owner = name.partition("-")[0]
    if owner in needed.pairs if kind == "pairs" else (experiment, owner) in needed.runs:
        return "results of other checkpoints", f"{kind}/{experiment}/{name}"
    return ("runs", f"{experiment}/{owner}") if kind == "runs" and "-" in name else ("results", f"{kind}/{name}")


def _masks_of(store: Store, needed: References, keys: Keys) -> frozenset[str]:
    """The masks of needed tickets, as named in their results."""
    tickets = [key.split("/") for key in keys if key.startswith("results/tickets/")]
    urls = [
        f"{store}/{'/'.join(parts)}"
        for parts in tickets
        if needed.needs_result("tickets", parts[2], parts[-1].removesuffix(SUFFIX))
    ]
    try:
        with ThreadPoolExecutor(READERS) as pool:
            return frozenset(str(found["mask"]) for found in pool.map(read_metadata, urls))
    except (FileNotFoundError, KeyError, DamagedResult) as error:
        raise StoreError(f"{error}; call `specdyn repair` first") from None


def _arrays_in_use(store: Store, keys: Keys) -> frozenset[str]:
    """The arrays that manifests of data sets name; all arrays if a manifest cannot be read."""
    found: set[str] = set()
    for dataset in {key.split("/")[1] for key in keys if key.startswith("data/")}:
        try:
            manifest = read_data_manifest(store, dataset)
        except (DamagedData, StoreError):
            found |= {f"{dataset}/{key.split('/')[2]}" for key in keys if key.startswith(f"data/{dataset}/")}
            continue
        found |= {f"{dataset}/{manifest.place}"} if manifest else set()
    return frozenset(found)


def _lost_records(store: Store, keys: Keys) -> list[str]:
    """Cubes of studies that have no record and were not removed."""
    return [
        f"{store}/studies/{name}/{cube}"
        for name, cube, living, ended in _cubes(store, keys)
        if not living and not ended
    ]


def _cubes(store: Store, keys: Keys) -> Iterator[tuple[str, str, bool, bool]]:
    """Each cube: its study, its name, whether that study has a record, and whether it has one that is ended."""
    inside = {tuple(key.split("/")[1:3]) for key in keys if key.startswith("studies/") and key.count("/") > 1}
    for name, cube in sorted(inside):
        if cube in CUBES:
            ended = _records(store, name, cube, keys)
            yield name, cube, not all(ended), any(ended)


def _records(store: Store, name: str, cube: str, keys: Keys) -> list[bool]:
    """For each record of a study for a cube, whether it is ended."""
    starts = {kind: (f"studies/{name}/{kind}.json", f"studies/{name}/{kind}.versions/") for kind in CUBES[cube]}
    there = [kind for kind, start in starts.items() if any(key.startswith(start) for key in keys)]
    return [is_ended(store.study(name, kind)) for kind in there]


def _left_over(store: Store, keys: Keys) -> list[Thing]:
    """Leftovers of calls: removed studies, scratch files, leases, replaced chunks, unfinished writes."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, kind in itertools.product(_studies(keys), KINDS):
        start = f"studies/{name}/{kind}."
        records = [key for key in keys if key.startswith((f"{start}json", f"{start}versions/"))]
        if records and is_ended(store.study(name, kind)):
            found["removed studies", f"{name}, {kind}"] = records
    for name, cube, living, _ in _cubes(store, keys):
        if not living:
            found["removed studies", f"{name}/{cube}"] = [k for k in keys if k.startswith(f"studies/{name}/{cube}/")]
    leases = {key.split("/")[1] for key in keys if key.startswith("leases/")}
    ended = {lease for lease in leases if not _is_needed(store, lease, keys)}
    for key in keys:
        folder, _, inside = key.partition("/")
        name = inside.partition("/")[0]
        if (folder in ("scratch", "reservations") and name == inside) or (folder == "leases" and name in ended):
            found.setdefault((folder, name), []).append(key)
    things = [thing_of(kind, name, of, keys) for (kind, name), of in found.items() if of]
    return [*things, *_replaced(store, keys), *_unfinished(store)]


def _replaced(store: Store, keys: Keys) -> Iterator[Thing]:
    """Chunks of rebuilt cubes; their age is that of the new cube."""
    for name, cube, living, _ in _cubes(store, keys):
        key = f"studies/{name}/{cube}"
        root = keys.get(f"{key}/{generations.ROOT}")
        if living and root and (chunks := generations.superseded(f"{store}/{key}", float("inf"))):
            found = tuple(f"{key}/{chunk}" for chunk in chunks)
            size = sum(chunks.values())
            yield Thing(kind="replaced chunks", name=f"{name}/{cube}", keys=found, bytes=size, newest=root.written)


def _studies(keys: Keys) -> list[str]:
    return sorted({key.split("/")[1] for key in keys if key.startswith("studies/")})


def _is_needed(store: Store, lease: str, keys: Keys) -> bool:
    """Whether the study of a lease, named after its cube, exists."""
    cube = next((cube for cube in CUBES if lease.endswith(f".{cube}")), "")
    return not cube or not all(_records(store, lease.removesuffix(f".{cube}"), cube, keys))


def _unfinished(store: Store) -> list[Thing]:
    """Files of interrupted writes, which listings skip."""
    return [
        Thing(kind="unfinished writes", name=key, keys=(key,), bytes=size, newest=written)
        for key, size, written in unfinished_writes(store)
    ]
