"""What the units of studies took, beside what was expected."""

from collections.abc import Sequence

from specdyn.storage.access.objects import StoreError
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.storage.studies import StudyRecord, legible
from specdyn.tasks.ledger.entries import Entry, read_entries
from specdyn.tasks.ledger.stored import run_ids

HEADINGS = (
    *("kind", "units", "failed", "seconds", "longest", "device", "estimate", "estimate/actual"),
    *("CPU-hours", "GPU-hours"),
)


def entries_of(store: Store, records: Sequence[StudyRecord]) -> list[Entry]:
    """The entries of all that studies consist of, oldest first: a listing for each experiment, no manifest is read."""
    return _entries(store, records, {owner for record in records for owner in _owners(store, record)})


def _entries(store: Store, records: Sequence[StudyRecord], owners: set[str]) -> list[Entry]:
    experiments = dict.fromkeys(record.experiment for record in records)
    return [
        entry
        for experiment in experiments
        for entry in read_entries(store, experiment, counts=lambda name: name.partition("-")[0] in owners)
    ]


def took_by(store: Store, records: Sequence[StudyRecord]) -> list[tuple[str, ...]]:
    """HEADINGS and a row for each kind of unit of a study; nothing where the ledger is empty or cannot be read.

    StoreError where a record is damaged.
    """
    owners = {owner for record in records for owner in _owners(store, record)}
    try:
        rows = ledger_rows(_entries(store, records, owners))
    except StoreError:
        return []
    return [HEADINGS, *rows] if rows else []


def _owners(store: Store, record: StudyRecord) -> set[str]:
    """What the names of the log folders of a study's units begin with; StoreError where the record is none."""
    from specdyn.tasks.plan.branching.records import graph_of

    with legible(store, record.name, record.kind):
        pairs = [pair.pair_id for pair in graph_of(record).pairs] if record.pairs else []
    return {*run_ids(store, record), *pairs, *map(short_digest, record.sources)}


def ledger_rows(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """What each kind of unit took on each device, under HEADINGS.

    Seconds are of all tries, those that failed too; estimates are compared with the units that have one and did not
    fail.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.kind, entry.device), []).append(entry)
    return [_row(kind, device, of) for (kind, device), of in groups.items()]


def _row(kind: str, device: str, entries: Sequence[Entry]) -> tuple[str, ...]:
    seconds = [entry.seconds for entry in entries]
    compared = [(entry.estimate, entry.seconds) for entry in entries if entry.estimate is not None and not entry.failed]
    expected, actual = (sum(column) for column in zip(*compared, strict=True)) if compared else (0.0, 0.0)
    failed = sum(entry.failed for entry in entries)
    return (
        kind,
        str(len({entry.key for entry in entries})),
        str(failed) if failed else "-",
        f"{sum(seconds):.2f}",
        f"{max(seconds):.2f}",
        device or "-",
        f"{expected:.2f}" if compared else "-",
        f"{expected / actual:.2f}" if actual else "-",
        *(f"{value:.4g}" if value else "-" for value in hours(entries)),
    )


def hours(entries: Sequence[Entry]) -> tuple[float, float]:
    """CPU-hours of what ran on CPUs, and GPU-hours, by its share of one, of what ran on GPUs.

    Without a measured CPU time every thread counts as busy all the time.
    """
    on_cpus = [entry for entry in entries if not entry.gpus]
    cpu = sum(e.seconds * e.threads if e.cpu_seconds is None else e.cpu_seconds for e in on_cpus)
    gpu = sum(entry.seconds * entry.gpus for entry in entries)
    return cpu / 3600, gpu / 3600
