"""Finds what the store has of a run to train and analyse, and what is missing; only reads."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access import objects
from specdyn.storage.access.records import Version, versions_below
from specdyn.storage.checkpoints import LISTED_ALONE, READERS, Manifest, checkpoints_written, read_manifest
from specdyn.storage.places import Store
from specdyn.storage.results import blocks_of
from specdyn.tasks.data.prepare import hold_data, require_data
from specdyn.tasks.identity import computed_on, data_of_plugin, origins_of, outdated, require_norm_run, results_id
from specdyn.tasks.plan.cost import Cost, schedule
from specdyn.tasks.plan.plan import Item
from specdyn.tasks.plan.runs import Block, Training, analyse_run, analysed
from specdyn.tasks.plan.units import Unit

THINNED = "checkpoints of it were removed, and {} needs them"

CellState = Literal["done", "trained", "partial", "failed", "damaged", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The part of a trained run's manifest that is needed to list results."""

    tag: str
    """Tag of the manifest in a listing; empty if it was not listed."""
    results: str
    """The id of its results."""
    computed_on: str
    steps: tuple[int, ...]
    thinned: bool
    """Whether some of its checkpoints were removed."""

    @property
    def remembered(self) -> str:
        """A summary for a cube to store; empty if its validity could not be checked later."""
        said = [self.tag, self.results, self.computed_on, self.steps, self.thinned]
        return json.dumps(said) if self.tag else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a grid: what exists and what is missing."""

    spec: RunSpec
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
        training = Training(
            kind="trainings",
            spec=self.spec,
            label=self.label,
            state="done" if self.state == "trained" else self.state,
            reason=self.reason,
            there=min(self.written, len(self.steps)),
            parts=len(self.steps),
        )
        left = sum(map(len, self.missing))
        key = f"{self.spec.run_id}-analysis"
        unit = Unit(
            kind="analyses",
            key=key,
            label=self.label,
            needs=(self.spec.run_id,),
            function=analyse_run,
            arguments=(self.spec, tuple(analyses), store, cube),
            log=self.spec.run_id,
            row=self.spec.run_id,
            spreads=True,
            parts=left,
        )
        return training.item(store, cube, retry_failed), Item(
            kind="analyses",
            key=key,
            label=self.label,
            state="new" if left == len(self.steps) else "partial" if left else "done",
            there=len(self.steps) - left,
            parts=len(self.steps),
            unit=unit if left else None,
            network=self.spec,
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


def listed(store: Store, experiment: str) -> Listed:
    """List what exists of an experiment; one request per 1,000 names on object storage."""
    results: dict[str, list[str]] = {}
    for path in objects.names_below(store.measured("runs", experiment)):
        results_of, _, name = path.rpartition("/")
        results.setdefault(results_of, []).append(name)
    return Listed(
        manifests=versions_below(store.manifests(experiment)),
        results=results,
        begun=frozenset(objects.names(store.checkpoints(experiment))),
    )


def look_at(
    spec: RunSpec,
    label: str,
    analyses: Sequence[str],
    store: Store,
    there: Listed | None = None,
    remembered: str = "",
) -> Cell:
    """The state of one run for these analyses.

    Needs fewer requests with a listing in `there` and a summary of the manifest in `remembered`.
    """
    tag = there.manifests[url].tag if there and (url := store.run_of(spec).manifest) in there.manifests else ""
    trained, manifest, reason = _known(remembered, tag), None, ""
    if trained is None:
        manifest = read_manifest(store.run_of(spec), there.manifests if there else None)
        reason = manifest.reason if manifest else ""
        if manifest and manifest.status == "complete" and not (reason := outdated(manifest, origins_of(spec, store))):
            # A run must be retrained if its origins are, or if its data set has changed.
            alone = not spec.start and not spec.norms.run and not data_of_plugin(spec)
            trained = Trained(
                tag=tag if alone else "",
                results=results_id(manifest),
                computed_on=computed_on(manifest),
                steps=manifest.steps,
                thinned=bool(manifest.thinned),
            )
    if trained:
        steps, written, results = trained.steps, len(trained.steps), trained.results
        names = there.results.get(results, ()) if there else None
        found = analysed(store.run_results(spec.experiment, results), steps, analyses, names)
        missing, parts = found.missing, found.parts
        state: CellState = "trained" if missing else "done"
        if missing and trained.thinned:
            lacking = sorted({name for names in missing.values() for name in names})
            state, reason = "damaged", THINNED.format(", ".join(lacking))
    else:
        begun = there is None or spec.run_id in there.begun
        steps, results = schedule(spec, store), ""
        written = checkpoints_written(store.run_of(spec)) if begun else 0
        missing, parts = dict.fromkeys(blocks_of(steps), tuple(analyses)), {}
        state = _unfinished(manifest, written)
    return Cell(
        spec=spec,
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


def _known(remembered: str, tag: str) -> Trained | None:
    """The stored summary of a manifest, if its tag is unchanged."""
    try:
        known, results, computed, steps, thinned = json.loads(remembered)
    except ValueError:
        return None
    if not tag or known != tag:
        return None
    return Trained(tag=tag, results=results, computed_on=computed, steps=tuple(steps), thinned=thinned)


def look_at_all(
    specs: Sequence[RunSpec], labels: Sequence[str], analyses: Sequence[str], store: Store, cube: str
) -> list[Cell]:
    """The state of many runs, several at a time.

    Uses one listing, and does not read manifests whose summary is in the cube at the URL.
    """
    there, remembered = None, dict[str, str]()
    if len(specs) > LISTED_ALONE:
        from specdyn.storage.cube import trained_runs

        # In this order: a summary is then older than the listing, or has another tag.
        remembered, there = trained_runs(cube), listed(store, specs[0].experiment)

    def look(spec: RunSpec, label: str) -> Cell:
        return look_at(spec, label, analyses, store, there, remembered.get(spec.run_id, ""))

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(look, specs, labels))


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
