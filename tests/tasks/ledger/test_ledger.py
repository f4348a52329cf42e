"""The ledger: what units took is kept as they end, is within the time that passed, and fails nothing."""

import dataclasses
import logging
import threading
import time
from pathlib import Path

import pytest

from helpers.analysed import NAME, SETTINGS, sweep_called
from helpers.servers import S3Server
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.places import Store
from specdyn.storage.studies import read_study
from specdyn.tasks.ledger import keeping
from specdyn.tasks.ledger.entries import Entry, read_entries, write_entry
from specdyn.tasks.ledger.keeping import kept_ledger
from specdyn.tasks.ledger.metering import metered, noted, taken, wrote
from specdyn.tasks.ledger.summary import HEADINGS, entries_of, hours, ledger_rows
from specdyn.tasks.plan.here import run_here
from specdyn.tasks.plan.sweeps import make_sweep
from specdyn.tasks.plan.units import Unit

ENTRY = Entry(
    kind="trainings",
    key="a",
    label="run a",
    executor="ray",
    started="2026-01-01T00:00:00Z",
    seconds=1800.0,
    failed=False,
    device="cpu",
    processor="Example (AVX2)",
    threads=4,
    gpus=0.0,
    estimate=900.0,
)
UNIT = Unit(kind="trainings", key="a", label="run a", needs=(), function=len, arguments=((),))


def test_what_each_unit_took_is_kept_once_and_is_within_the_time_that_passed(local_store: Store) -> None:
    sweep = sweep_called("decay", 0.0, 1.0)
    began = time.perf_counter()
    run_here(sweep, local_store, report=False)
    wall = time.perf_counter() - began
    record = read_study(local_store, "decay", "sweep")
    assert record is not None
    entries = entries_of(local_store, [record])
    items = sweep.items(local_store)
    assert {(entry.kind, entry.key, entry.label) for entry in entries} == {(i.kind, i.key, i.label) for i in items}
    assert len(entries) == len(items) == 4
    assert all(entry.seconds > 0 and entry.cpu_seconds for entry in entries)
    assert sum(entry.seconds for entry in entries) <= wall
    assert all(entry.estimate is None for entry in entries), "no step is timed for that in the caller's own process"
    assert {(entry.executor, entry.device, entry.threads, entry.gpus) for entry in entries} == {("here", "cpu", 1, 0.0)}
    for spec in sweep.specs:
        manifest = read_manifest(local_store.run_of(spec))
        assert manifest is not None
        (trained, analysed) = read_entries(local_store, NAME, spec.run_id)
        assert trained.written == sum(entry.bytes for entry in manifest.checkpoints) and analysed.written is None
        assert trained.processor == manifest.processor
        assert trained.seconds >= manifest.seconds
    run_here(sweep, local_store, report=False)
    assert entries_of(local_store, [record]) == entries, "nothing was left to do"


def test_a_unit_that_fails_is_in_the_ledger_as_failed(local_store: Store) -> None:
    sweep = make_sweep(NAME, "smoke", [0.0], [0], "hot", ("spectrum",), settings={**SETTINGS, "learning_rate": 1e30})
    assert run_here(sweep, local_store, report=False).failures
    (entry,) = read_entries(local_store, NAME)
    assert entry.failed and entry.kind == "trainings" and entry.seconds > 0 and entry.written


def test_a_ledger_that_cannot_be_written_fails_nothing_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("specdyn"), "propagate", True)
    store = Store(str(tmp_path / "store"))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "logs").write_text("a file where a folder is to be")
    ended = run_here(sweep_called("decay", 0.0, 1.0), store, report=False)
    assert len(ended.done) == 4 and not ended.failures and ended.built
    (said,) = {record.getMessage() for record in caplog.records if record.name == "specdyn.ledger"}
    assert said.startswith("the ledger is incomplete: ") and f"{store}/logs" in said


def test_no_unit_waits_for_its_entry_and_the_end_waits_a_bounded_time(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, said = threading.Event(), list[str]()
    monkeypatch.setattr(keeping, "write_entry", lambda *_: stuck.wait())
    monkeypatch.setattr(keeping, "LAST_SECONDS", 0.1)
    with kept_ledger(local_store, NAME, "inline", {}, said.append) as note:
        for _ in range(100):
            note(UNIT, [], False)
    stuck.set()
    (line,) = said
    assert line.endswith(f"{local_store} did not take the last entries in 0.1 s")


def test_a_unit_is_the_sum_of_its_calls(local_store: Store) -> None:
    def work(seconds: float) -> None:
        wrote(10)
        time.sleep(seconds)

    def fail() -> None:
        time.sleep(0.02)
        raise ValueError("too hot")

    estimates = {"a": 0.5}
    with kept_ledger(local_store, NAME, "inline", estimates) as note:
        with noted(lambda calls, failed: note(UNIT, calls, failed)):
            taken(lambda: metered(1.0, work, 0.02))
            taken(lambda: metered(1.0, work, 0.03))
        with (
            pytest.raises(ValueError, match="too hot"),
            noted(lambda calls, failed: note(dataclasses.replace(UNIT, log="b"), calls, failed)),
        ):
            taken(lambda: metered(1.0, fail))
    (entry,) = read_entries(local_store, NAME, "a")
    assert 0.05 <= entry.seconds < 30.0 and entry.written == 20 and entry.estimate == 0.5 and not entry.failed
    (failed,) = read_entries(local_store, NAME, "b")
    assert failed.failed and failed.seconds >= 0.02 and failed.written is None


def test_cpu_time_is_that_of_computing_and_not_of_waiting() -> None:
    def compute(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    _, computing = metered(1.0, compute, 0.05)
    _, waiting = metered(1.0, time.sleep, 0.5)
    assert computing.cpu_seconds >= 0.05 and waiting.cpu_seconds < 0.5 <= waiting.seconds
    spent = [dataclasses.replace(ENTRY, cpu_seconds=seconds) for seconds in (900.0, 2700.0)]
    assert hours(spent) == (1.0, 0.0)
    assert hours([*spent, ENTRY]) == (3.0, 0.0), "of the last one only the 1800 seconds of 4 threads are known"


def test_sums_are_by_kind_and_device_and_estimates_only_of_what_has_one() -> None:
    entries = [
        ENTRY,
        dataclasses.replace(ENTRY, seconds=600.0, failed=True),
        dataclasses.replace(ENTRY, key="b", seconds=1200.0, estimate=None),
        dataclasses.replace(ENTRY, key="c", seconds=720.0, device="cuda", gpus=0.25),
    ]
    on_cpu, on_gpu = ledger_rows(entries)
    # 1800 + 600 + 1200 seconds of 4 threads; only the first of them is compared with its 900 seconds.
    cpu = ("trainings", "2", "1", "3600.00", "1800.00", "cpu", "900.00", "0.50", "4", "-")
    assert dict(zip(HEADINGS, on_cpu, strict=True)) == dict(zip(HEADINGS, cpu, strict=True))
    assert on_gpu == ("trainings", "1", "-", "720.00", "720.00", "cuda", "900.00", "1.25", "-", "0.05")
    assert hours(entries) == (4.0, 0.05)


def test_an_entry_that_is_damaged_is_named(local_store: Store) -> None:
    write_entry(local_store, NAME, "a", ENTRY)
    assert read_entries(local_store, NAME) == [ENTRY]
    (name,) = objects.names(local_store.logs(NAME, "a"))
    url = f"{local_store.logs(NAME, 'a')}/{name}"
    objects.write(url, objects.read(url).replace(b"1800.0", b"1.0"))
    with pytest.raises(StoreError, match=f"{name} is not a ledger entry .*; delete it"):
        read_entries(local_store, NAME)


def test_an_entry_is_one_put_and_a_study_is_read_by_one_listing(s3_store: Store, s3_server: S3Server) -> None:
    sweep = sweep_called("decay", 0.0, 1.0)
    sweep.record(s3_store)
    record = read_study(s3_store, "decay", "sweep")
    assert record is not None
    with s3_server.counted() as written:
        for spec in sweep.specs:
            write_entry(s3_store, NAME, spec.run_id, ENTRY)
    with s3_server.counted() as read:
        assert entries_of(s3_store, [record]) == [ENTRY, ENTRY]
    assert [request.split()[0] for request in written] == ["PUT", "PUT"]
    assert sorted("?" in request for request in read) == [False, False, True]
    assert {request.split()[0] for request in read} == {"GET"}
