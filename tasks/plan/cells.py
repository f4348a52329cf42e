"""Finds what the store has of a run to train and analyse, and what is missing; only reads."""

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access import objects
from specdyn.storage.access.listing import PAGE, TooMany, listing_below
from specdyn.storage.access.records import Version, versions_below
from specdyn.storage.checkpoints import LISTED_ALONE, Manifest, checkpoints_written, listed_manifests, read_manifest
from specdyn.storage.places import Run, Store
from specdyn.storage.results import analyses_of, blocks_of, parts_in
from specdyn.tasks.data.prepare import hold_data, require_data
from specdyn.tasks.identity import computed_on, data_of_plugin, origins_of, outdated, require_norm_run, results_id
from specdyn.tasks.plan.cost import Cost, schedule
from specdyn.tasks.plan.plan import Item
from specdyn.tasks.plan.runs import Analysed, Block, Training, analyse_run, analysed
from specdyn.tasks.plan.units import Unit

THINNED = "checkpoints of it were removed, and {} needs them"

CellState = Literal["done", "trained", "partial", "failed", "damaged", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The part of a trained run's manifest that is needed to list results."""

    results: str
    """The id of its results."""
    computed_on: str
    steps: tuple[int, ...]
    thinned: bool
    """Whether some of its checkpoints were removed."""
    remembered: str
    """The same and the manifest's tag as text for a cube to store; empty if that could not be checked later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a grid: what exists and what is missing."""

    spec: RunSpec
    run_id: str
    """The id of the spec, which takes a digest to compute."""
    label: str
    """Weight decay, seed, what else varies in the sweep, run_id."""
    state: CellState
    reason: str
    """Why the run failed, empty otherwise."""
    computed_on: str
    """The environment in which the run was trained; empty until it is."""
    remembered: str
    """Summary of its manifest, for later calls with many runs."""
    steps: tuple[int, ...]
    """Steps of the finished run's checkpoints."""
    written: int
    """Number of existing checkpoints."""
    missing: Mapping[Block, tuple[str, ...]]
    """Blocks of steps, each with the analyses it lacks."""
    results: str
    """The id of a trained run's results; empty otherwise."""
    parts: Mapping[str, frozenset[str]]
    """URLs of the objects that hold its results, each with the analyses in it that count."""

    @property
    def trained(self) -> bool:
        """Whether the run is fully trained."""
        return self.state in ("done", "trained")

    def items(self, store: Store, cube: str, analyses: Sequence[str], retry_failed: bool) -> tuple[Item, Item]:
        """Its training and its analysis, for the study with that cube."""
        trained = self._done("trainings", self.run_id, self.spec)
        analysis = self._done("analyses", f"{self.run_id}-analysis")
        return (
            trained if self.trained else self._training(store, cube, retry_failed),
            self._analysis(analysis, store, cube, analyses) if self.missing else analysis,
        )

    def _done(self, kind: str, key: str, run: RunSpec | None = None) -> Item:
        parts = len(self.steps)
        return Item(
            kind=kind, key=key, label=self.label, state="done", there=parts, parts=parts, network=self.spec, run=run
        )

    def _training(self, store: Store, cube: str, retry_failed: bool) -> Item:
        return Training(
            kind="trainings",
            spec=self.spec,
            label=self.label,
            state="done" if self.state == "trained" else self.state,
            reason=self.reason,
            there=min(self.written, len(self.steps)),
            parts=len(self.steps),
        ).item(store, cube, retry_failed)

    def _analysis(self, done: Item, store: Store, cube: str, analyses: Sequence[str]) -> Item:
        left = sum(map(len, self.missing))
        unit = Unit(
            kind=done.kind,
            key=done.key,
            label=self.label,
            needs=(self.run_id,),
            function=analyse_run,
            arguments=(self.spec, tuple(analyses), store, cube),
            log=self.run_id,
            row=self.run_id,
            spreads=True,
            parts=left,
        )
        return replace(
            done,
            state="new" if left == done.parts else "partial",
            there=done.parts - left,
            unit=unit,
            analyses=tuple(dict.fromkeys(name for names in self.missing.values() for name in names)),
            cost=lambda: Cost(analysed=left),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a store has of all runs of an experiment, from a few listings, however many runs there are."""

    manifests: Mapping[str, Version]
    """The newest version of each manifest, by URL."""
    results: Mapping[str, Sequence[str]]
    """Names of the objects of each run's results, by their id."""
    begun: frozenset[str]
    """Ids of the runs that have checkpoints."""

    def tag(self, run: Run) -> str:
        """The tag of a run's manifest; empty if there is none."""
        return self.manifests[run.manifest].tag if run.manifest in self.manifests else ""


def listed(store: Store, experiment: str, most: int | None = None) -> Listed:
    """List what exists of an experiment; one request per 1,000 names on object storage.

    With `most`, TooMany if it has more manifests or results.
    """
    results: dict[str, list[str]] = {}
    folder = store.measured("runs", experiment)
    for path in objects.names_below(folder) if most is None else listing_below(folder, most):
        results_of, _, name = path.rpartition("/")
        results.setdefault(results_of, []).append(name)
    return Listed(
        manifests=versions_below(store.manifests(experiment), most),
        results=results,
        begun=frozenset(objects.names(store.checkpoints(experiment))),
    )


Ended = Trained | Manifest
"""What a plan needs of a finished run's manifest: all of it, unless the run is trained and depends on no other."""
_READ: dict[str, tuple[str, Ended]] = {}
"""Manifests that this process has read, by URL, with their tag in a listing."""
KEPT = 50_000
"""The most of them, since a service lives long."""


def look_at(spec: RunSpec, label: str, analyses: Sequence[str], store: Store) -> Cell:
    """The state of one run for these analyses, whatever else the store has."""
    run = store.run_of(spec)
    manifest = read_manifest(run)
    ended = _summary(spec, manifest, "") if manifest else None
    return _Looks(analyses, store, None).cell(spec, run, label, ended)


def look_at_all(
    specs: Sequence[RunSpec], labels: Sequence[str], analyses: Sequence[str], store: Store, cube: str
) -> list[Cell]:
    """The state of many runs, several at a time.

    Uses one listing. Does not read manifests that this process has read or, for many runs, whose summary is in the cube
    at the URL. Few runs of a store that has many others are each looked at alone.
    """
    few, remembered = len(specs) <= LISTED_ALONE, dict[str, str]()
    if not few:
        from specdyn.storage.cube import trained_runs

        # Before the listing: a summary is then older, or has another tag.
        remembered = trained_runs(cube)
    try:
        there = listed(store, specs[0].experiment, PAGE if few else None)
    except TooMany:
        with ThreadPoolExecutor(LISTED_ALONE) as pool:
            return list(pool.map(lambda spec, label: look_at(spec, label, analyses, store), specs, labels))
    runs = [store.run_of(spec) for spec in specs]
    ended = {run.run_id: known for run in runs if (known := _known(run, remembered.get(run.run_id, ""), there))}
    unknown = {run: spec for run, spec in zip(runs, specs, strict=True) if run.run_id not in ended}
    ended |= _read(unknown, there)
    looks = _Looks(analyses, store, there)
    with ThreadPoolExecutor(LISTED_ALONE) as pool:
        # A trained run needs no request, and no thread.
        cells = [
            looks.cell(spec, run, label, known)
            if isinstance(known := ended.get(run.run_id), Trained)
            else pool.submit(looks.cell, spec, run, label, known)
            for run, spec, label in zip(runs, specs, labels, strict=True)
        ]
        found = [cell if isinstance(cell, Cell) else cell.result() for cell in cells]
    # The cube of few runs remembers nothing, so that its content depends on its runs alone, and not on their files.
    return [replace(cell, remembered="") for cell in found] if few else found


def _known(run: Run, remembered: str, there: Listed) -> Ended | None:
    """What a cube or this process remembers of a manifest, if its tag is unchanged."""
    tag = there.tag(run)
    with contextlib.suppress(ValueError):
        known, results, computed, steps, thinned = json.loads(remembered)
        if tag and known == tag:
            return Trained(
                remembered=remembered,
                results=results,
                computed_on=computed,
                steps=_shared(tuple(steps)),
                thinned=thinned,
            )
    before, ended = _READ.get(run.manifest, ("", None))
    return ended if tag and before == tag else None


def _read(runs: Mapping[Run, RunSpec], there: Listed) -> dict[str, Ended]:
    """The manifests of runs that have one, by run_id."""
    found = {}
    for run, manifest in listed_manifests(runs, there.manifests):
        if manifest:
            tag = there.tag(run)
            found[run.run_id] = _summary(runs[run], manifest, tag)
            _READ[run.manifest] = tag, found[run.run_id]
    for url in list(_READ)[: max(0, len(_READ) - KEPT)]:
        _READ.pop(url, None)
    return found


def _summary(spec: RunSpec, manifest: Manifest, tag: str) -> Ended:
    """What is kept of a manifest with this tag."""
    # A run must be retrained if its origins are, or if its data set has changed.
    if manifest.status != "complete" or spec.start or spec.norms.run or data_of_plugin(spec):
        return manifest
    return _trained(manifest, tag)


def _trained(manifest: Manifest, tag: str = "") -> Trained:
    results, computed, thinned = results_id(manifest), computed_on(manifest), bool(manifest.thinned)
    return Trained(
        remembered=json.dumps([tag, results, computed, manifest.steps, thinned]) if tag else "",
        results=results,
        computed_on=computed,
        steps=_shared(manifest.steps),
        thinned=thinned,
    )


@functools.lru_cache(maxsize=256)
def _shared(steps: tuple[int, ...]) -> tuple[int, ...]:
    """The same object for equal steps, as most runs of a sweep have them in common."""
    return steps


class _Looks:
    """Finds the state of runs for some analyses."""

    def __init__(self, analyses: Sequence[str], store: Store, there: Listed | None) -> None:
        self._analyses, self._store, self._there = analyses, store, there
        self._alike: dict[tuple[Block, tuple[str, ...]], Analysed] = {}

    def cell(self, spec: RunSpec, run: Run, label: str, ended: Ended | None) -> Cell:
        """The state of a run."""
        reason, trained = "", ended if isinstance(ended, Trained) else None
        manifest = ended if isinstance(ended, Manifest) else None
        if manifest:
            reason = manifest.reason
            if manifest.status == "complete" and not (reason := outdated(manifest, origins_of(spec, self._store))):
                trained = _trained(manifest)
        if trained:
            steps, written, results = trained.steps, len(trained.steps), trained.results
            found = self._analysed(self._store.run_results(spec.experiment, results), results, steps)
            missing, parts = found.missing, found.parts
            state: CellState = "trained" if missing else "done"
            if missing and trained.thinned:
                lacking = sorted({name for names in missing.values() for name in names})
                state, reason = "damaged", THINNED.format(", ".join(lacking))
        else:
            begun = self._there is None or run.run_id in self._there.begun
            steps, results = schedule(spec, self._store), ""
            written = checkpoints_written(run) if begun else 0
            missing, parts = dict.fromkeys(blocks_of(steps), tuple(self._analyses)), {}
            state = _unfinished(manifest, written)
        return Cell(
            spec=spec,
            run_id=run.run_id,
            label=label,
            state=state,
            reason=reason,
            computed_on=trained.computed_on if trained else computed_on(manifest) if manifest else "",
            remembered=trained.remembered if trained else "",
            steps=steps,
            written=written,
            missing=missing,
            results=results,
            parts=parts,
        )

    def _analysed(self, folder: str, results: str, steps: Block) -> Analysed:
        """What exists of a run's results; worked out once for all runs whose objects have the same names."""
        if self._there is None:
            return analysed(folder, steps, self._analyses)
        names = tuple(self._there.results.get(results, ()))
        if (known := self._alike.get((steps, names))) is None:
            known = analysed(folder, steps, self._analyses, names)
            if all(analyses_of(folder, part) for part in parts_in(names)):  # else an object of this run is damaged
                self._alike[steps, names] = known
        parts = {f"{folder}/{url.rpartition('/')[2]}": counting for url, counting in known.parts.items()}
        return Analysed(missing=known.missing, parts=parts)


def _unfinished(manifest: Manifest | None, written: int) -> Literal["partial", "failed", "damaged", "new"]:
    if manifest is not None:
        return "failed" if manifest.status == "failed" else "damaged"
    return "partial" if written else "new"


def require_inputs(specs: Sequence[RunSpec], store: Store, asks: bool = False) -> None:
    """Check that the store has what runs need besides their settings, and prepare samples.

    If a call only `asks`, samples are held in this process, and nothing is written. NotPrepared if a larger data set is
    missing; ValueError if a `norm_run` is not a finished run of the same network.
    """
    needed = [experiment_of(spec).dataset(spec) for spec in specs]
    for name in dict.fromkeys(filter(None, needed)):
        (hold_data if asks else require_data)(store, get_dataset(*name))
    following = [spec for spec in specs if spec.norms.run]
    for spec in {(spec.norms.run, spec.net): spec for spec in following}.values():
        require_norm_run(spec, store)
