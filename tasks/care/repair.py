"""Making what is damaged in a store be made again by the next ordinary call: damaged objects are deleted or marked."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold, holder_of
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import delete_record
from specdyn.storage.care.cubes import results_are_there
from specdyn.storage.care.damage import Damage, Kind, Scope
from specdyn.storage.care.verify import CUBES, Advance, Verified, verify, verify_records
from specdyn.storage.checkpoints import mark_damaged, read_manifest
from specdyn.storage.places import Run, Store
from specdyn.storage.results import SUFFIX, DamagedResult, read_metadata
from specdyn.storage.studies import COMMANDS, KINDS, StudyRecord, read_study, study_names
from specdyn.tasks.care.references import References, all_records, references


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was damaged, and what was done about it."""

    damage: Damage
    done: str
    """Empty where nothing could be done."""
    then: str
    """What makes it good."""


def verify_study(store: Store, name: str = "", advance: Advance = lambda *_: None) -> Verified:
    """Check all of a store, or what belongs to a study; ValueError where there is none of that name."""
    names = objects.names(store.studies)
    if name and name not in names:
        raise ValueError(f"no study called {name!r} in {store}; it has: {', '.join(names) or 'none'}")
    if not name:
        return verify(store, None, advance)
    try:
        records = [record for kind in KINDS if (record := read_study(store, name, kind))]
        scope = dataclasses.replace(references(store, records).scope, studies=frozenset({name}))
    except StoreError:  # a record that cannot be read is found as one
        scope = _only_study(name)
    return verify(store, scope, advance)


def _only_study(name: str) -> Scope:
    """A study whose records and cubes are known, and nothing else of it."""
    return Scope(studies=frozenset({name}), runs=frozenset(), pairs=frozenset(), series=frozenset())


def repair(store: Store, name: str = "") -> list[Repair]:
    """Have the next ordinary calls make good what is damaged of a study, or of all the store; returns what was done.

    StoreError where a call works on a study that a damaged object belongs to.
    """
    made: list[Repair] = []
    # Records first, down to a version that can be read: only then it is known what belongs to what. Then manifests.
    made += _repair_newest(store, "record", _only_study(name) if name else None, [])
    needed = [references(store, [record]) for record in all_records(store)]
    own = [one for one in needed if name in ("", *one.studies)]
    scope = _together(own) if name else None
    made += _repair_newest(store, "manifest", scope, needed)
    found = verify_study(store, name)
    if found.skipped:
        raise StoreError(f"{found.skipped[0]}; call again once it has ended")
    damage = found.damage
    with _nobody_else(store, damage, needed):
        # Cubes last: one is deleted only where all results are there that it is gathered from, and none was damaged.
        return made + [_carry_out(store, one) for one in sorted(damage, key=lambda one: one.kind == "cube")]


def _together(needed: Sequence[References]) -> Scope:
    every = [one.scope for one in needed]
    return Scope(
        studies=frozenset().union(*(one.studies for one in every)),
        runs=frozenset[tuple[str, str]]().union(*(one.runs for one in every)),
        pairs=frozenset().union(*(one.pairs for one in every)),
        series=frozenset().union(*(one.series for one in every)),
    )


def _repair_newest(store: Store, kind: Kind, scope: Scope | None, needed: Sequence[References]) -> list[Repair]:
    """Delete newest versions until one can be read, or none is left."""
    made: list[Repair] = []
    while found := [one for one in verify_records(store, scope).damage if one.kind == kind and _deletable(one)]:
        with _nobody_else(store, found, needed):
            made += [_carry_out(store, one) for one in found]
    return made


def _deletable(damage: Damage) -> bool:
    """Whether it is a version that can be deleted, and not a study that is being removed."""
    return "`specdyn repair` deletes it" in damage.repair and objects.exists(damage.url)


def _carry_out(store: Store, damage: Damage) -> Repair:
    return Repair(damage=damage, done=_act(store, damage), then=damage.repair.partition("; ")[2] or damage.repair)


def _act(store: Store, damage: Damage) -> str:
    """Do what can be done; what was done in words, nothing where the next call needs no help."""
    done = ""
    match damage.kind:
        case "checkpoint":
            manifest = read_manifest(_run(store, damage.owner))
            if manifest is not None:
                mark_damaged(store, manifest, f"{damage.url} {damage.what}")
            done = "its run is marked as damaged"
        case "cube":
            if not objects.exists(damage.owner) or results_are_there(store, damage.owner):
                objects.delete(damage.owner)
                done = "the cube is deleted"
        case "mask":
            for url in (*_tickets_with(store, damage.url), damage.url):
                objects.delete(url)
            done = "it and the results of its tickets are deleted"
        case "data set" if objects.exists(damage.owner):
            objects.delete(damage.owner)
            done = "its manifest is deleted"
        case "series record":
            delete_record(damage.owner)
            done = "it is deleted"
        case _ if _deletable(damage):
            objects.delete(damage.url)
            done = "it is deleted"
    return done


def _run(store: Store, manifest: str) -> Run:
    experiment, name = manifest.rsplit("/", 2)[-2:]
    return store.run(experiment, name.removesuffix(".json"))


def _tickets_with(store: Store, mask: str) -> Iterator[str]:
    """The results of tickets that were measured with a mask."""
    folder = store.results + "/tickets"
    for key in objects.find(folder):
        with contextlib.suppress(FileNotFoundError, KeyError, DamagedResult):
            if store.mask(str(read_metadata(f"{folder}/{key}")["mask"])) == mask:
                yield f"{folder}/{key}"


@contextlib.contextmanager
def _nobody_else(store: Store, damage: Sequence[Damage], needed: Sequence[References]) -> Iterator[None]:
    """Hold the leases of all studies that damaged objects belong to; StoreError where a call works on one."""
    studies = sorted({name for one in damage for name in _studies(store, one, needed)})
    kinds = [(name, kind) for name, kind in study_names(store) if name in studies]
    cubes = [f"{store.studies}/{name}/{cube}" for name, kind in kinds for cube, of in CUBES.items() if kind in of]
    for cube in dict.fromkeys(cubes):
        if holder := holder_of(store.lease(cube)):
            raise StoreError(f"{cube}: {holder} works on it; call again once it has ended")
    with contextlib.ExitStack() as stack:
        for cube in dict.fromkeys(cubes):
            stack.enter_context(hold(store.lease(cube), "repair"))
        yield


def _studies(store: Store, damage: Damage, needed: Sequence[References]) -> Iterator[str]:
    """The studies that a damaged object belongs to."""
    key = damage.url.removeprefix(f"{store}/")
    if damage.kind == "mask":
        key = damage.owner.removeprefix(f"{store}/")
    folder, *inside = key.split("/")
    if folder == "studies":
        yield inside[0]
    for one in needed:
        scope = one.scope
        match folder, inside:
            case (("checkpoints" | "runs"), [experiment, name, *_]):
                run_id = name.removesuffix(".json").removesuffix(".versions")
                belongs = (experiment, run_id) in scope.runs
            case "results", [kind, experiment, name, *_]:
                belongs = scope.has_result(kind, experiment, name.removesuffix(SUFFIX))
            case "series", [name, *_]:
                belongs = name.partition(".")[0] in scope.series
            case _:
                belongs = False
        if belongs:
            yield from one.studies


def next_calls(store: Store, repaired: Sequence[Repair]) -> list[str]:
    """The commands that make good what was repaired: one for each study, to be given the options it had before."""
    records = all_records(store)
    needed = [(record, references(store, [record])) for record in records]
    studies = [
        record
        for record, one in needed
        if any(name for repair in repaired for name in _studies(store, repair.damage, [one]) if name == record.name)
    ]
    return [_call(store, record) for record in studies]


def _call(store: Store, record: StudyRecord) -> str:
    option = "--sweep" if record.kind == "sweep" else "--name"
    what = " ".join(record.sources) if record.kind == "series" else record.experiment
    preset = f" --preset {record.preset}" if record.preset else ""
    return f"specdyn {COMMANDS[record.kind]} {what}{preset} {option} {record.name} --store {store} ..."
