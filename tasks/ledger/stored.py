"""Facts about a study from the store: bytes of checkpoints and results, environments, failures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from specdyn.models.experiments.base import read_spec
from specdyn.models.wording import plural, size
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import Manifest, read_manifests
from specdyn.storage.places import Store
from specdyn.storage.results import SUFFIX
from specdyn.storage.studies import StudyRecord, cube_of, legible

MEASURED = {"sweep": "runs", "series": "runs", "connectivity": "pairs", "tickets": "tickets"}
"""The kind of results for each kind of study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """Facts from the manifest of a run."""

    run_id: str
    status: str
    """`complete`, `failed` or `damaged`."""
    reason: str
    """Why it failed or is damaged, in one sentence; empty otherwise."""
    checkpoints: int
    """Number of existing checkpoints, without those removed by `specdyn thin`."""
    bytes: int
    """Bytes of these."""
    seconds: float
    """Training time."""
    machine: str
    """Device, processor and threads."""
    versions: Mapping[str, str]

    @classmethod
    def of(cls, manifest: Manifest) -> "StoredRun":
        """The facts shown for a manifest."""
        there = [entry for entry in manifest.checkpoints if entry.step not in manifest.thinned]
        machine = [manifest.device, manifest.processor, plural(manifest.threads, "thread")]
        return cls(
            run_id=manifest.run_id,
            status=manifest.status,
            reason=manifest.reason,
            checkpoints=len(there),
            bytes=sum(entry.bytes for entry in there),
            seconds=manifest.seconds,
            machine=", ".join(filter(None, machine)),
            versions=manifest.versions,
        )

    @property
    def about(self) -> dict[str, str]:
        """The facts for display, by title."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        lines = {
            "checkpoints": f"{self.checkpoints}, {size(self.bytes)}",
            "training": f"{self.seconds:.3g} s",
            "machine": self.machine,
            "versions": versions,
        }
        return {name: text for name, text in lines.items() if text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Facts from the store about the contents of a cube."""

    runs: Mapping[str, StoredRun] = field(default_factory=dict)
    """Every run with a manifest, by id; empty for series of other programs."""
    results: Mapping[str, int] = field(default_factory=dict)
    """Bytes of results, by the id in the cube's column `results`."""

    def totals(self, rows: Sequence[str], noun: str) -> dict[str, str]:
        """Total bytes and environments for display; `rows` are the ids of a cube's results."""
        runs = list(self.runs.values())
        lines = {}
        if runs:
            count = plural(len(runs), "run")
            written, number = sum(run.bytes for run in runs), sum(run.checkpoints for run in runs)
            lines["checkpoints"] = f"{size(written)} in {plural(number, 'checkpoint')} of {count}"
        measured = [self.results[of] for of in map(folder_of, rows) if of in self.results]
        if measured:
            lines["results"] = f"{size(sum(measured))} of {plural(len(measured), noun)}"
        lines["machine"] = _shares([run.machine for run in runs])
        for name in dict.fromkeys(name for run in runs for name in run.versions):
            lines[name] = _shares([run.versions[name] for run in runs if name in run.versions])
        return {name: text for name, text in lines.items() if text}

    @property
    def unfinished(self) -> list[StoredRun]:
        """The runs that failed or have a damaged checkpoint."""
        return [run for run in self.runs.values() if run.status != "complete"]


def folder_of(results: str) -> str:
    """The id of results up to a slash."""
    return results.partition("/")[0]


def _shares(texts: Sequence[str]) -> str:
    """Each distinct text; with its number of runs if there are several texts."""
    counts = Counter(texts)
    if len(counts) < 2:
        return next(iter(counts), "")
    return "; ".join(f"{text} ({plural(count, 'run')})" for text, count in sorted(counts.items()))


def run_ids(store: Store, record: StudyRecord) -> list[str]:
    """The ids of a study's runs, in order; StoreError if its record is damaged."""
    with legible(store, record.name, record.kind):
        return [read_spec(text, record.experiment).run_id for text in record.specs]


def stored_by(store: Store, records: Sequence[StudyRecord], cube: str) -> Stored:
    """Facts from the store about the contents of a cube of the study with these records.

    One request per run, and one listing of the experiment's results. StoreError if a record is damaged.
    """
    runs: dict[str, StoredRun] = {}
    results: Counter[str] = Counter()
    for record in records:
        if cube_of(store, record.name, record.kind) != cube:
            continue
        manifests = read_manifests(store, record.experiment, run_ids(store, record))
        runs |= {manifest.run_id: StoredRun.of(manifest) for manifest in manifests if manifest}
        for key, count in objects.find_sizes(store.measured(MEASURED[record.kind], record.experiment)).items():
            results[folder_of(key).removesuffix(SUFFIX)] += count
    return Stored(runs=runs, results=results)
