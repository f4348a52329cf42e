"""Collects what the studies of a store refer to: runs, the runs these started from, and results."""

import functools
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from specdyn.models.experiments.base import read_spec
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.care.damage import Scope
from specdyn.storage.checkpoints import DamagedCheckpoint, Manifest, read_manifest
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.storage.results import SUFFIX, read_metadata
from specdyn.storage.studies import READERS, StudyRecord, legible, read_study, study_names
from specdyn.tasks.connect.ids import comparison_id, line_id
from specdyn.tasks.connect.pair import VERSION, Pair
from specdyn.tasks.foreign.names import FOREIGN
from specdyn.tasks.identity import known_results_id
from specdyn.tasks.plan.branching.records import graph_of

RunKey = tuple[str, str]
"""Experiment and run_id."""
OWNER = re.compile(r"[0-9a-f]{12}(?=-|$)")
"""The id of a run, a pair or a series at the start of a result's or log's name."""


@dataclass(frozen=True, kw_only=True)
class References:
    """Everything that some studies refer to."""

    studies: frozenset[str]
    """Names."""
    specs: Mapping[RunKey, RunSpec]
    """The runs in the records."""
    runs: Mapping[RunKey, Manifest | None]
    """These runs and those they started from, each with its manifest, if readable."""
    pairs: frozenset[str]
    """Ids of pairs of runs."""
    sources: frozenset[str]
    """URLs of other programs' checkpoints."""
    series: frozenset[str]
    """Ids of the results of these."""
    names: frozenset[str]
    """Names of the results of pairs and tickets, given the present checkpoints."""

    @functools.cached_property
    def scope(self) -> Scope:
        """The scope of a check."""
        records = frozenset(map(short_digest, self.sources))
        return Scope(studies=self.studies, runs=frozenset(self.runs), pairs=self.pairs, series=self.series | records)

    def needs_result(self, kind: str, experiment: str, name: str) -> bool:
        """Whether a result belongs to something referenced, with its present checkpoints.

        All results of a run are needed if its manifest cannot be read, or if its experiment is missing or has changed:
        it is then unknown which ones count.
        """
        if not self.scope.has_result(kind, experiment, name):
            return False
        owner = name.partition("-")[0]
        manifest = self.runs.get((experiment, owner))
        if manifest and kind == "runs":
            return name == (known_results_id(manifest) or name)
        if manifest and kind == "ends":
            return name.endswith(f"-{short_digest(manifest.checkpoints[-1].sha256, VERSION)}")
        return name in self.names or not any(known.startswith(f"{owner}-") for known in self.names)

    def needs_log(self, experiment: str, name: str) -> bool:
        """Whether the log of a unit belongs to something referenced; unknown logs are kept."""
        if (found := OWNER.match(name)) is None:
            return True
        owner = found[0]
        of_series = {short_digest(source) for source in self.sources}
        return (experiment, owner) in self.runs or owner in self.pairs or owner in of_series


def all_records(store: Store) -> list[StudyRecord]:
    """The records of every study; StoreError if one cannot be read, as its references are then unknown."""
    found = [(name, kind) for name, kind in study_names(store)]
    with ThreadPoolExecutor(READERS) as pool:
        records = list(pool.map(lambda one: read_study(store, *one), found))
    return [record for record in records if record is not None]


def references(
    store: Store, records: Iterable[StudyRecord], read: Mapping[RunKey, Manifest | None] | None = None
) -> References:
    """Collect the references of these studies. StoreError if a record is invalid.

    Manifests in `read` are not read again.
    """
    every = list(records)
    specs: dict[RunKey, RunSpec] = {}
    for record in every:
        with legible(store, record.name, record.kind):
            found = [read_spec(text, record.experiment) for text in record.specs]
        specs |= {(spec.experiment, spec.run_id): spec for spec in found}
    runs = _with_origins(store, specs, read or {})
    sources = frozenset(source for record in every for source in record.sources)
    pairs, names = _measured(store, every, runs)
    return References(
        studies=frozenset(record.name for record in every),
        specs=specs,
        runs=runs,
        pairs=pairs,
        sources=sources,
        series=_series(store, sources) if sources else frozenset(),
        names=names,
    )


def _with_origins(
    store: Store, specs: Mapping[RunKey, RunSpec], read: Mapping[RunKey, Manifest | None]
) -> dict[RunKey, Manifest | None]:
    """The runs and, recursively, all runs from which they start or that they follow."""
    found: dict[RunKey, Manifest | None] = {}
    known, ahead = dict(specs), list(specs)

    def look(key: RunKey) -> Manifest | None:
        return read[key] if key in read else _manifest(store, key)

    with ThreadPoolExecutor(READERS) as pool:
        while ahead:
            found |= dict(zip(ahead, pool.map(look, ahead), strict=True))
            known |= {key: spec for key in ahead if key not in known and (spec := _spec_of(found[key]))}
            needed = {(key[0], one) for key in ahead if key in known for one in begins_from(known[key])}
            ahead = sorted(needed - found.keys())
    return found


def begins_from(spec: RunSpec) -> set[str]:
    """The ids of runs from which a run starts or that it follows: trunk, previous ticket, the run of its norms."""
    start = spec.start
    ticket = start.ticket if start else None
    return {one for one in (start and start.run_id, ticket and ticket.previous, spec.norms.run) if one}


def _manifest(store: Store, key: RunKey) -> Manifest | None:
    try:
        return read_manifest(store.run(*key))
    except (DamagedCheckpoint, StoreError):
        return None


def _spec_of(manifest: Manifest | None) -> RunSpec | None:
    return None if manifest is None else read_spec(manifest.spec, manifest.experiment)


def _measured(
    store: Store, records: Iterable[StudyRecord], runs: Mapping[RunKey, Manifest | None]
) -> tuple[frozenset[str], frozenset[str]]:
    """The ids of pairs, and the names of the results of pairs and tickets whose runs have a manifest."""
    pairs: set[str] = set()
    names: set[str] = set()
    for record in records:
        if record.kind not in ("connectivity", "tickets"):
            continue
        with legible(store, record.name, record.kind):
            graph = graph_of(record)
        of = functools.partial(_of, runs, record.experiment)
        pairs |= {pair.pair_id for pair in graph.pairs}
        names |= {name for pair in graph.pairs if (name := _line(pair, of(pair.a.run_id), of(pair.b.run_id)))}
        names |= {
            comparison_id(spec, own, dense)
            for spec in graph.tickets
            if spec.start and (own := of(spec.run_id)) and (dense := of(spec.start.run_id))
        }
    return frozenset(pairs), frozenset(names)


def _of(runs: Mapping[RunKey, Manifest | None], experiment: str, run_id: str) -> Manifest | None:
    return runs.get((experiment, run_id))


def _line(pair: Pair, a: Manifest | None, b: Manifest | None) -> str:
    return line_id(pair, a, b) if a and b else ""


def _series(store: Store, sources: frozenset[str]) -> frozenset[str]:
    """The ids of all results for these URLs, whatever their files contained at the time."""
    folder = store.measured("runs", FOREIGN)
    found = objects.names(folder)
    with ThreadPoolExecutor(READERS) as pool:
        of = pool.map(lambda name: _source(f"{folder}/{name}"), found)
        return frozenset(name for name, source in zip(found, of, strict=True) if source is None or source in sources)


def _source(folder: str) -> str | None:
    """The source URL of results, from the first readable one; None if there is none."""
    for name in objects.names(folder):
        if name.endswith(SUFFIX):
            try:
                return str(read_metadata(f"{folder}/{name}")["source"])
            except (FileNotFoundError, KeyError, StoreError):
                continue
    return None
