"""Repairs a store: deletes or marks damaged objects, so that the next ordinary call makes them again."""

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
from specdyn.storage.studies import COMMANDS, DEFAULT_ANALYSES, StudyRecord, records_of, study_names
from specdyn.tasks.care.references import References, all_records, references
from specdyn.tasks.plan.sweeps import requested_analyses


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One damaged object, and what was done about it."""

    damage: Damage
    done: str
    """What was done; empty if nothing could be done."""
    then: str
    """What comes next."""


def verify_study(store: Store, name: str = "", advance: Advance = lambda *_: None) -> Verified:
    """Check a whole store or one study; ValueError if there is no study of that name."""
    names = objects.names(store.studies)
    if name and name not in names:
        raise ValueError(f"no study called {name!r} in {store}; it has: {', '.join(names) or 'none'}")
    if not name:
        return verify(store, None, advance)
    try:
        scope = dataclasses.replace(references(store, records_of(store, name)).scope, studies=frozenset({name}))
    except StoreError:  # an unreadable record is reported as damage
        scope = _only_study(name)
    return verify(store, scope, advance)


def _only_study(name: str) -> Scope:
    """A scope of only the records and cubes of a study."""
    return Scope(studies=frozenset({name}), runs=frozenset(), pairs=frozenset(), series=frozenset())


def repair(store: Store, name: str = "") -> list[Repair]:
    """Prepare damaged objects of a study or a whole store to be made again by ordinary calls; returns what was done.

    StoreError if a call works on a study with a damaged object.
    """
    made: list[Repair] = []
    # Records first, back to a readable version, as they say what belongs to what. Then manifests.
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
        # Cubes last: a cube is deleted only if all its results exist and none was damaged.
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
    """Delete the newest versions until one is readable or none is left."""
    made: list[Repair] = []
    while found := [one for one in verify_records(store, scope).damage if one.kind == kind and _deletable(one)]:
        with _nobody_else(store, found, needed):
            made += [_carry_out(store, one) for one in found]
    return made


def _deletable(damage: Damage) -> bool:
    """Whether the damage is a version that can be deleted, not a study that is being removed."""
    return "`specdyn repair` deletes it" in damage.repair and objects.exists(damage.url)


def _carry_out(store: Store, damage: Damage) -> Repair:
    return Repair(damage=damage, done=_act(store, damage), then=damage.repair.partition("; ")[2] or damage.repair)


def _act(store: Store, damage: Damage) -> str:
    """Do what can be done; returns a description, empty if the next call needs no help."""
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
    """The results of tickets that use a mask."""
    folder = store.results + "/tickets"
    for key in objects.find(folder):
        with contextlib.suppress(FileNotFoundError, KeyError, DamagedResult):
            if store.mask(str(read_metadata(f"{folder}/{key}")["mask"])) == mask:
                yield f"{folder}/{key}"


@contextlib.contextmanager
def _nobody_else(store: Store, damage: Sequence[Damage], needed: Sequence[References]) -> Iterator[None]:
    """Hold the leases of all studies with damaged objects; StoreError if a call works on one."""
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
    """The commands that make repaired objects again: one per study, to be completed with its previous options."""
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
    named = record.analyses != (DEFAULT_ANALYSES,)
    analyses = f" --analyses {','.join(requested_analyses(record.analyses))}" if named else ""
    return f"specdyn {COMMANDS[record.kind]} {what}{preset} {option} {record.name}{analyses} --store {store} ..."
