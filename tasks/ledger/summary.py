"""Summarises the cost of units of studies, next to estimates."""

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
    """The entries of all units of studies, oldest first; one listing per experiment, reads no manifests."""
    return _entries(store, records, {owner for record in records for owner in _owners(store, record)})


def _entries(store: Store, records: Sequence[StudyRecord], owners: set[str]) -> list[Entry]:
    experiments = dict.fromkeys(record.experiment for record in records)
    return [
        entry
        for experiment in experiments
        for entry in read_entries(store, experiment, counts=lambda name: name.partition("-")[0] in owners)
    ]


def took_by(store: Store, records: Sequence[StudyRecord]) -> list[tuple[str, ...]]:
    """HEADINGS and a row per kind of unit of a study; empty if the ledger is empty or unreadable.

    StoreError if a record is damaged.
    """
    owners = {owner for record in records for owner in _owners(store, record)}
    try:
        rows = ledger_rows(_entries(store, records, owners))
    except StoreError:
        return []
    return [HEADINGS, *rows] if rows else []


def _owners(store: Store, record: StudyRecord) -> set[str]:
    """Prefixes of the log folders of a study's units; StoreError if the record is invalid."""
    from specdyn.tasks.plan.branching.records import graph_of

    with legible(store, record.name, record.kind):
        pairs = [pair.pair_id for pair in graph_of(record).pairs] if record.pairs else []
    return {*run_ids(store, record), *pairs, *map(short_digest, record.sources)}


def ledger_rows(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """The cost of each kind of unit on each device, under HEADINGS.

    Seconds include all attempts, also failed ones; estimates are compared only with units that have one and did not
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
    """CPU-hours of entries on CPUs, and GPU-hours (times the share of a GPU) of entries on GPUs.

    Without a measured CPU time every thread counts as busy all the time.
    """
    on_cpus = [entry for entry in entries if not entry.gpus]
    cpu = sum(e.seconds * e.threads if e.cpu_seconds is None else e.cpu_seconds for e in on_cpus)
    gpu = sum(entry.seconds * entry.gpus for entry in entries)
    return cpu / 3600, gpu / 3600
