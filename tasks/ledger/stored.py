"""What the store holds of a study: bytes of checkpoints and results, what runs were computed with, why some failed."""

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
"""The kind of results of the rows of each kind of study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """What the manifest of a run says."""

    run_id: str
    status: str
    """`complete`, `failed` or `damaged`."""
    reason: str
    """Why it failed or is damaged, in a sentence; empty otherwise."""
    checkpoints: int
    """That are there: those that `specdyn thin` removed are not counted."""
    bytes: int
    """Of these."""
    seconds: float
    """Of training."""
    machine: str
    """Device, processor and threads."""
    versions: Mapping[str, str]

    @classmethod
    def of(cls, manifest: Manifest) -> "StoredRun":
        """What is shown of a manifest."""
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
        """For people, by what it is."""
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
    """What the store holds of what a cube is made of."""

    runs: Mapping[str, StoredRun] = field(default_factory=dict)
    """Every run with a manifest, by its id; none of series of other programs."""
    results: Mapping[str, int] = field(default_factory=dict)
    """Bytes of results, by the id that a cube has in its column `results`."""

    def totals(self, rows: Sequence[str], noun: str) -> dict[str, str]:
        """Bytes in all and with what runs were computed, for people; `rows` are the ids of the results of a cube."""
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
        """The runs that failed, or have a damaged checkpoint."""
        return [run for run in self.runs.values() if run.status != "complete"]


def folder_of(results: str) -> str:
    """The id of results without what may follow a slash."""
    return results.partition("/")[0]


def _shares(texts: Sequence[str]) -> str:
    """Each text once; with its number of runs where there are several."""
    counts = Counter(texts)
    if len(counts) < 2:
        return next(iter(counts), "")
    return "; ".join(f"{text} ({plural(count, 'run')})" for text, count in sorted(counts.items()))


def run_ids(store: Store, record: StudyRecord) -> list[str]:
    """The ids of the runs of a study, in their order; StoreError where its record is damaged."""
    with legible(store, record.name, record.kind):
        return [read_spec(text, record.experiment).run_id for text in record.specs]


def stored_by(store: Store, records: Sequence[StudyRecord], cube: str) -> Stored:
    """What the store holds of what a cube is made of, one of those of a study with these records.

    A request for each run, and a listing of the results of its experiment. StoreError where a record is damaged.
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
