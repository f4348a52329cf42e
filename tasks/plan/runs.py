"""Trainings and analyses as units of work. Computing modules are imported only where they run."""

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec, to_json
from specdyn.storage.access import objects
from specdyn.storage.access.reservations import reserved
from specdyn.storage.checkpoints import DamagedCheckpoint, checkpoints_written, mark_damaged, read_manifest
from specdyn.storage.places import Store
from specdyn.storage.results import Part, analyses_of, blocks_of, parts_in, remember
from specdyn.tasks.failures import Diverged
from specdyn.tasks.foreign.kept import Kept
from specdyn.tasks.identity import results_id
from specdyn.tasks.later import Later
from specdyn.tasks.plan.cost import Cost
from specdyn.tasks.plan.plan import Item, State
from specdyn.tasks.plan.units import Unit, Workers
from specdyn.tasks.spectra.analysis import get_analysis, present_versions, versions_of
from specdyn.tasks.work import Work

if TYPE_CHECKING:
    from specdyn.tasks.spectra.decomposition import Factors
    from specdyn.tasks.spectra.network_layout import NetworkLayout, Target
    from specdyn.tasks.spectra.series import Series


log = logging.getLogger("specdyn.training")

Block = tuple[int, ...]
"""Steps of the checkpoints that one unit analyses."""


def train_whole(
    spec: RunSpec, store: Store, cube: str, keep: tuple[int, ...] = (), retry_failed: bool = False, again: str = ""
) -> Work:
    """Train a run completely, for the study with that cube, and keep states.

    Diverged if its loss stopped being finite. A run that is trained already, or by another study's call meanwhile, is
    left alone, unless checkpoints were removed and it is to be trained `again`, for the given reason.
    """
    with _reserved(spec.run_id, spec, store, cube):
        return _train_whole(spec, store, keep, retry_failed, again)


def _train_whole(spec: RunSpec, store: Store, keep: tuple[int, ...], retry_failed: bool, again: str) -> Work:
    from specdyn.tasks.training.replay import keep_states
    from specdyn.tasks.training.training import train

    before = read_manifest(store.run_of(spec))
    if before and before.thinned and again:
        mark_damaged(store, before, again)
    manifest = train(spec, store, keep, retry_failed=retry_failed)
    if manifest.status != "complete":
        raise Diverged(manifest.reason)
    made = keep_states(spec, store, keep)
    return Work(trainings=int(manifest != before or bool(made)))


def _reserved(key: str, spec: RunSpec, store: Store, cube: str) -> contextlib.AbstractContextManager[None]:
    """Hold the reservation of work on a run that other studies may share."""
    return reserved(store.reservation(key), store.lease(cube), f"run {spec.run_id}", log.info)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The training of a run, and how far it is."""

    kind: str
    """Kind of the item, such as `branches`."""
    spec: RunSpec
    label: str
    state: State
    reason: str
    """Why it failed, or must be made again."""
    there: int
    """Number of its checkpoints in the store."""
    parts: int
    """Number of its checkpoints."""
    needs: tuple[str, ...] = ()
    """Ids of the runs from which it starts."""
    keep: tuple[int, ...] = ()
    """Steps at which it keeps its state."""

    def item(self, store: Store, cube: str, retry_failed: bool) -> Item:
        """The item of the study with that cube."""
        spec, state = self.spec, self.state
        left = 0 if state == "done" else self.parts - (0 if state == "damaged" else self.there)
        tried = state != "done" and (state != "failed" or retry_failed)
        again = self.reason if state == "damaged" else ""
        unit = Unit(
            kind=self.kind,
            key=spec.run_id,
            label=self.label,
            needs=self.needs,
            function=train_whole,
            arguments=(spec, store, cube, self.keep, state == "failed", again),
            parts=self.parts,
            row=spec.run_id,
            made=functools.partial(checkpoints_written, store.run_of(spec)),
        )
        updates = (spec.steps - spec.first_step) * left / self.parts
        return Item(
            kind=self.kind,
            key=spec.run_id,
            label=self.label,
            state=state,
            reason=self.reason,
            there=self.there,
            parts=self.parts,
            unit=unit if tried else None,
            run=spec,
            network=spec,
            cost=lambda: Cost(updates=updates, written=left, begun=int(left > 0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """The state of a run's results in the store."""

    missing: Mapping[Block, tuple[str, ...]]
    """Blocks of its steps, each with the requested analyses that it lacks."""
    parts: Mapping[str, frozenset[str]]
    """URLs of the existing objects, each with the analyses in their present version."""


def _present(folder: str, names: Sequence[str] | None) -> Iterator[tuple[Part, frozenset[str]]]:
    """The objects of a run that are there, each with the analyses that it has in their present version."""
    every = present_versions()
    for part in parts_in(objects.names(folder) if names is None else names):
        if found := frozenset(n for n, version in analyses_of(folder, part).items() if every.get(n) == version):
            yield part, found


def analysed(folder: str, steps: Block, analyses: Sequence[str], names: Sequence[str] | None = None) -> Analysed:
    """What exists of a run's results and what is missing; one listing, unless its `names` are known."""
    asked = versions_of(analyses)
    remember(asked)
    blocks = {(block[0], block[-1]): block for block in blocks_of(steps)}
    there: dict[Block, set[str]] = {block: set() for block in blocks.values()}
    parts: dict[str, frozenset[str]] = {}
    for part, counting in _present(folder, names):
        if block := blocks.get((part.first, part.last)):
            there[block] |= counting
            parts[f"{folder}/{part.name}"] = counting
    missing = {block: tuple(name for name in asked if name not in found) for block, found in there.items()}
    return Analysed(missing={block: lacks for block, lacks in missing.items() if lacks}, parts=parts)


def analysed_checkpoints(
    folder: str,
    contents: Mapping[int, Mapping[str, str]],
    analyses: Sequence[str],
    names: Sequence[str] | None = None,
) -> Analysed:
    """The same for a series, whose checkpoints have separate results by step and content.

    One listing, unless its `names` are known. Groups missing checkpoints into blocks that lack the same analyses.
    """
    asked = versions_of(analyses)
    for depends in {get_analysis(name).depends for name in asked}:
        remember({name: version for name, version in asked.items() if get_analysis(name).depends == depends})
    there: dict[int, set[str]] = {step: set() for step in contents}
    parts: dict[str, frozenset[str]] = {}
    for part, found in _present(folder, names):
        of = contents.get(part.first, {})
        counting = frozenset(n for n in found if of.get(get_analysis(n).depends) == part.content)
        if part.first == part.last and counting:
            there[part.first] |= counting
            parts[f"{folder}/{part.name}"] = counting
    last = max(contents)
    lacking = [
        (step, tuple(n for n in asked if n not in found and (step == last or get_analysis(n).depends != "series")))
        for step, found in there.items()
    ]
    missing: dict[Block, tuple[str, ...]] = {}
    for lacks, group in itertools.groupby(lacking, key=lambda one: one[1]):
        if lacks:
            missing |= dict.fromkeys(blocks_of(tuple(step for step, _ in group)), lacks)
    return Analysed(missing=missing, parts=parts)


def analyse_run(
    workers: Workers,
    advance: Callable[[int], None],
    spec: RunSpec,
    analyses: tuple[str, ...],
    store: Store,
    cube: str,
) -> Work:
    """Analyse the missing blocks of a trained run, for the study with that cube."""
    with _reserved(f"{spec.run_id}-analysis", spec, store, cube):
        return _analyse_run(workers, advance, spec, analyses, store)


def _analyse_run(
    workers: Workers, advance: Callable[[int], None], spec: RunSpec, analyses: tuple[str, ...], store: Store
) -> Work:
    from specdyn.tasks.spectra.network_layout import Target, network_layout, run_layout
    from specdyn.tasks.spectra.series import RunSeries

    manifest = read_manifest(store.run_of(spec))
    assert manifest is not None
    folder = store.run_results(spec.experiment, results_id(manifest))
    if not (missing := analysed(folder, manifest.steps, analyses).missing):
        return Work()
    attributes = {"run_id": spec.run_id, "spec": to_json(spec), "checkpoints": manifest.digest}
    layout, metrics = network_layout(spec), experiment_of(spec).metrics(spec)
    target = Target(folder=folder, layout=run_layout(layout, manifest.steps, analyses, metrics, attributes))
    try:
        return analyse_blocks(workers, advance, RunSeries(store=store, manifest=manifest), layout, target, missing)
    except DamagedCheckpoint as error:
        mark_damaged(store, manifest, str(error))
        raise


def analyse_blocks(
    workers: Workers,
    advance: Callable[[int], None],
    series: "Series",
    layout: "NetworkLayout",
    target: "Target",
    missing: Mapping[Block, tuple[str, ...]],
    kept: Kept | None = None,
) -> Work:
    """Analyse blocks of checkpoints, one call each; decomposes no checkpoint twice.

    Factors shared by blocks are passed in memory, or through the store if they are `kept`; those already there are
    reused.
    """
    from specdyn.tasks.spectra.series import EVERY, anchor_steps, need_vectors, needed

    asked = [get_analysis(name) for names in missing.values() for name in names]
    vectors = need_vectors(asked)
    compares = {one.compares for one in asked if one.compares and one.needs_vectors}
    compared = tuple(compares) if kept and "any" not in compares else EVERY
    shared = set(anchor_steps(series.steps, missing, compared)) | (kept.whole(missing) if kept else set())
    there = kept.there(series, layout, shared, vectors) if kept else set()
    decomposed = Later("specdyn.tasks.spectra.one_pass", "decompose_step")
    anchors = {
        step: workers.start(decomposed, series, layout, step, vectors, _scratch(kept, step, vectors))
        for step in sorted(shared)
    }
    made = [_count(series, layout, step, vectors) for step in sorted(shared - there)]

    def done(block: tuple[Block, int]) -> None:
        made.append(block[1])
        advance(len(block[0]))

    calls = [
        (
            *(_passing(kept), series, layout, target, block, names),
            *(anchors[step] for step in sorted({*needed(series.steps, block, compared), *block}) if step in anchors),
        )
        for block, names in missing.items()
    ]
    workers.run_all(_analyse_block, calls, done)
    return Work(decompositions=sum(made))


def _passing(kept: Kept | None) -> "Callable[[], MutableMapping[str, Factors]]":
    """Creates the mapping for the factors of the checkpoint that a block works on."""
    if not kept:
        return dict
    from specdyn.storage.scratch import ScratchFactors
    from specdyn.tasks.spectra.decomposition import Factors

    return functools.partial(ScratchFactors, Factors)


def _count(series: "Series", layout: "NetworkLayout", step: int, vectors: bool) -> int:
    """The number of decompositions of a checkpoint."""
    there = layout.without(series.absent(step, layout))
    return len(there.matrices if vectors else there.layers)


def _scratch(kept: Kept | None, step: int, vectors: bool) -> "Callable[[], MutableMapping[str, Factors]]":
    """Creates the mapping for the factors of a step."""
    if not kept:
        return dict
    from specdyn.storage.scratch import StoredFactors
    from specdyn.tasks.spectra.decomposition import Factors

    return functools.partial(StoredFactors, kept.place(step, vectors), Factors)


def _analyse_block(scratch: "Callable[[], MutableMapping[str, Factors]]", *args: Any) -> tuple[Block, int]:
    """A block's steps and the decompositions it took."""
    from specdyn.tasks.spectra.one_pass import analyse_block

    return args[3], analyse_block(*args, scratch=scratch)
