"""Removes checkpoints of measured runs, except the first, the last, every n-th and those that others need."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specdyn.models.spec.checks import require
from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold
from specdyn.storage.access.listing import listing_below
from specdyn.storage.checkpoints import Manifest, kept_steps, mark_thinned
from specdyn.storage.places import Store
from specdyn.storage.results import blocks_of, parts_in
from specdyn.tasks.care.garbage import Keys, Thing, require_nobody_at_work, thing_of
from specdyn.tasks.care.references import RunKey, all_records, references
from specdyn.tasks.care.remove import cubes_of_study
from specdyn.tasks.identity import known_results_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinning:
    """The checkpoints to remove, by run, and the runs that keep all of theirs."""

    study: str
    steps: Mapping[RunKey, tuple[int, ...]]
    things: tuple[Thing, ...]
    whole: Mapping[RunKey, str]
    """Why a run keeps all of its checkpoints."""


def plan_thinning(store: Store, name: str, keep_every: int) -> Thinning:
    """Plan which checkpoints of a study's runs to remove if every n-th is kept; writes nothing.

    Always kept: the first and the last checkpoint, steps at which branches start or can start, and all checkpoints of
    runs that are not fully trained and analysed, or whose norms another run follows. ValueError if there is no such
    study, StoreError if a call is running.
    """
    _require_possible(store, keep_every)
    return _plan(store, name, keep_every)


def thin(store: Store, name: str, keep_every: int) -> Thinning:
    """Remove these checkpoints; returns what was removed.

    The manifest lists removed checkpoints before they are deleted, so if this is killed, another call continues.
    """
    _require_possible(store, keep_every)
    with contextlib.ExitStack() as stack:
        for cube in cubes_of_study(store, name):
            stack.enter_context(hold(store.lease(cube), f"thinning of {name}"))
        plan = _plan(store, name, keep_every)
        for (experiment, run_id), steps in plan.steps.items():
            mark_thinned(store.run(experiment, run_id), steps)
        for thing in plan.things:
            objects.delete_all(store.url, thing.keys)
    return plan


def _require_possible(store: Store, keep_every: int) -> None:
    require(keep_every > 1, "keep_every", keep_every, "2 or more")
    require_nobody_at_work(store)


def _plan(store: Store, name: str, keep_every: int) -> Thinning:
    records = all_records(store)
    own = [record for record in records if record.name == name]
    known = ", ".join(dict.fromkeys(record.name for record in records)) or "none"
    require(bool(own), "study", name, f"one of {known}")
    every, keys = references(store, records), listing_below(store.url)
    names: dict[str, list[str]] = {}
    for place in keys:
        folder, _, of_object = place.rpartition("/")
        names.setdefault(f"{store}/{folder}", []).append(of_object)
    followed = {spec.norms.run for spec in every.specs.values() if spec.norms.run}
    starts = {(spec.start.run_id, spec.start.step) for spec in every.specs.values() if spec.start}
    steps: dict[RunKey, tuple[int, ...]] = {}
    whole: dict[RunKey, str] = {}
    for key, manifest in references(store, own, read=every.runs).runs.items():
        if why := _kept_whole(store, manifest, names, followed):
            whole[key] = why
            continue
        assert manifest is not None
        needed = {step for run_id, step in starts if run_id == manifest.run_id}
        needed |= kept_steps(names.get(store.run(*key).states, ())).keys()
        if going := _going(manifest, keep_every, needed):
            steps[key] = going
    things = [_thing(store, key, going, keys) for key, going in steps.items()]
    return Thinning(study=name, steps=steps, things=tuple(filter(None, things)), whole=whole)


def _kept_whole(store: Store, manifest: Manifest | None, names: Mapping[str, Sequence[str]], followed: set[str]) -> str:
    """Why a run keeps all of its checkpoints; empty if it need not. `names` lists the objects of each folder."""
    if manifest is None or manifest.status != "complete":
        return "training is not finished"
    if manifest.run_id in followed:
        return "another run follows its norms"
    if not (results := known_results_id(manifest)):
        return "its experiment is missing or has changed"
    folder = store.run_results(manifest.experiment, results)
    measured = {(part.first, part.last) for part in parts_in(names.get(folder, ()))}
    if not {(block[0], block[-1]) for block in blocks_of(manifest.steps)} <= measured:
        return "analysis is not finished"
    return ""


def _going(manifest: Manifest, keep_every: int, needed: set[int]) -> tuple[int, ...]:
    """The steps of a run whose checkpoints are removed, including earlier removals."""
    steps = manifest.steps
    kept = {*steps[::keep_every], steps[-1], *needed}
    return tuple(step for step in steps if step not in kept or step in manifest.thinned)


def _thing(store: Store, run: RunKey, steps: tuple[int, ...], keys: Keys) -> Thing | None:
    places = (store.run(*run).checkpoint(step).removeprefix(f"{store}/") for step in steps)
    there = [place for place in places if place in keys]
    return thing_of("checkpoints", "/".join(run), there, keys) if there else None
