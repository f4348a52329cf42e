"""Records that several calls change at the same time, on a local folder and on the S3 server: nothing is lost."""

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from specdyn.storage import checkpoints
from specdyn.storage.access import objects
from specdyn.storage.access.records import KEPT, change_record, newest_place, read_record, versions_below
from specdyn.storage.checkpoints import CheckpointEntry, Manifest
from specdyn.storage.places import Store
from specdyn.storage.studies import StudyRecord, read_study, record_study, study_names

CALLS = 6
EACH = 3
EXTENDING = """
import sys
from specdyn.storage.access.records import change_record
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    change_record(url, lambda before: (before or b"") + f"{name}{i} ".encode())
"""


def sweep(*specs: str) -> StudyRecord:
    return StudyRecord(name="decay", kind="sweep", experiment="e", preset="p", specs=specs)


def at_once(calls: int, call: Callable[[int], None]) -> None:
    """Run calls in threads that begin together; raises what any of them raised."""
    barrier = threading.Barrier(calls)

    def run(index: int) -> None:
        barrier.wait()
        call(index)

    with ThreadPoolExecutor(calls) as pool:
        list(pool.map(run, range(calls)))


@pytest.fixture(params=["local_store", "s3_store"])
def store(request: pytest.FixtureRequest) -> Store:
    """A local folder, then a prefix on the S3 server."""
    found: Store = request.getfixturevalue(request.param)
    return found


def test_threads_that_extend_one_sweep_lose_nothing_of_one_another(store: Store) -> None:
    def extend(caller: int) -> None:
        for i in range(EACH):
            record_study(store, sweep(f"{caller}/{i}", "shared"))

    at_once(CALLS, extend)
    found = read_study(store, "decay", "sweep")
    assert found is not None
    assert sorted(found.specs) == sorted([f"{c}/{i}" for c in range(CALLS) for i in range(EACH)] + ["shared"])
    of_one = [spec for spec in found.specs if spec.startswith("0/")]
    assert of_one == [f"0/{i}" for i in range(EACH)], "the order in which one caller asked for them"
    assert study_names(store) == [("decay", "sweep")]


def test_processes_that_change_one_record_lose_nothing_of_one_another(local_store: Store) -> None:
    url = f"{local_store}/record.json"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", EXTENDING, url, name, "40"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "abc"
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        process.communicate(timeout=60)
        assert process.returncode == 0
    found = (read_record(url) or b"").decode().split()
    assert sorted(found) == sorted(f"{name}{i}" for name in "abc" for i in range(40))


def test_a_slow_writer_does_not_bring_an_old_record_back(store: Store) -> None:
    """It has read version 2 and is about to put version 3 when so many versions come that 3 is trimmed."""
    url = f"{store}/record.json"
    for content in (b"1", b"2"):
        change_record(url, lambda _, content=content: content)  # type: ignore[misc]
    seen: list[bytes | None] = []

    def slow(before: bytes | None) -> bytes:
        seen.append(before)
        if len(seen) == 1:
            for number in range(3, 5 + KEPT):
                change_record(url, lambda _, number=number: f"{number}".encode())  # type: ignore[misc]
        return (before or b"") + b"+"

    assert change_record(url, slow) == read_record(url) == f"{4 + KEPT}+".encode()
    assert seen == [b"2", f"{4 + KEPT}".encode()]
    later = objects.names(f"{store}/record.versions")
    sizes = [len(objects.read(f"{store}/record.versions/{name}")) for name in later]
    assert len(later) == 4 + KEPT and [size > 0 for size in sizes[-KEPT:]] == [True] * KEPT
    assert sizes[:4] == [0] * 4, "of versions older than those kept the number alone stays"


def test_readers_always_find_a_whole_record_while_it_changes(local_store: Store) -> None:
    url, ended, seen = f"{local_store}/record.json", threading.Event(), []
    change_record(url, lambda _: b"0")

    def read() -> None:
        while not ended.is_set():
            seen.append(int(read_record(url) or b"-1"))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 5 * KEPT):
        change_record(url, lambda _, number=number: f"{number}".encode())  # type: ignore[misc]
    ended.set()
    reader.join()
    assert seen == sorted(seen) and seen[0] >= 0


def test_nothing_is_put_where_nothing_changes(local_store: Store) -> None:
    url = f"{local_store}/record.json"
    assert change_record(url, lambda _: None) is None and read_record(url) is None
    assert change_record(url, lambda before: b"x" if before is None else before) == b"x"
    assert change_record(url, lambda before: before) == change_record(url, lambda _: None) == b"x"
    assert objects.names(local_store.url) == ["record.json"]
    assert newest_place(url) == url


def test_an_emptied_newest_version_is_damage_and_ends_at_once(local_store: Store) -> None:
    url = f"{local_store}/record.json"
    for content in (b"1", b"2"):
        change_record(url, lambda _, content=content: content)  # type: ignore[misc]
    Path(newest_place(url)).write_bytes(b"")
    assert read_record(url) == b""


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"name": "decay"'])
def test_what_is_no_record_of_a_sweep_is_named_and_not_replaced(text: bytes, local_store: Store) -> None:
    record_study(local_store, sweep("a"))
    record_study(local_store, sweep("b"))
    newest = newest_place(local_store.study("decay", "sweep"))
    assert newest.endswith("decay/sweep.versions/00000002.json")
    Path(newest).write_bytes(text)
    for call in (lambda: read_study(local_store, "decay", "sweep"), lambda: record_study(local_store, sweep("c"))):
        with pytest.raises(objects.StoreError, match=f"{newest} is not the record of a study.*delete it"):
            call()
    Path(newest).unlink()
    assert record_study(local_store, sweep("c")).specs == ("a", "c")


def test_calls_at_once_lose_nothing_of_a_graph_and_of_a_series_the_last_counts(local_store: Store) -> None:
    def record(*splits: int) -> StudyRecord:
        return StudyRecord(
            name="g",
            kind="tickets",
            experiment="e",
            splits=splits,
        )

    at_once(CALLS, lambda caller: record_study(local_store, record(caller)))
    found = read_study(local_store, "g", "tickets")
    assert found and sorted(found.splits) == list(range(CALLS))
    of_series = [StudyRecord(name="s", kind="series", experiment="e", sources=(place,)) for place in "ab"]
    for one in of_series:
        record_study(local_store, one)
    assert read_study(local_store, "s", "series") == of_series[1]


def test_a_run_that_was_trained_again_meanwhile_is_not_marked_as_damaged(local_store: Store) -> None:
    def manifest(sha256: str) -> Manifest:
        entry = CheckpointEntry(step=0, bytes=1, sha256=sha256, header_bytes=8)
        given = {"experiment": "e", "run_id": "r", "spec": "{}", "status": "complete", "device": "cpu"}
        return Manifest(**given, checkpoints=(entry,), threads=1, seconds=1.0)

    checkpoints.write_manifest(local_store, manifest("old"))
    found_damaged = checkpoints.read_manifest(local_store.run("e", "r"))
    assert found_damaged is not None
    checkpoints.write_manifest(local_store, manifest("new"))
    checkpoints.mark_damaged(local_store, found_damaged, "step 0 is short")
    assert checkpoints.read_manifest(local_store.run("e", "r")) == manifest("new")
    checkpoints.mark_damaged(local_store, manifest("new"), "step 0 is short")
    marked = dataclasses.replace(manifest("new"), status="damaged", reason="step 0 is short")
    assert checkpoints.read_manifest(local_store.run("e", "r")) == marked
    newest = newest_place(local_store.run("e", "r").manifest)
    assert json.loads(Path(newest).read_text())["status"] == "damaged"


def test_the_newest_versions_of_many_records_are_listed_at_once(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = f"{local_store}/runs/e"
    for name, changes in (("a", 1), ("b", 3), ("c", 12)):
        for i in range(changes):
            change_record(f"{folder}/{name}.json", lambda _, i=i: b"%d" % i)  # type: ignore[misc]
    newest = versions_below(folder)
    assert {url: version.number for url, version in newest.items()} == {
        f"{folder}/a.json": 1,
        f"{folder}/b.json": 3,
        f"{folder}/c.json": 12,
    }
    again = versions_below(folder)
    assert again == newest
    with monkeypatch.context() as patch:
        patch.setattr(objects, "names", None)
        assert [read_record(f"{folder}/{name}.json", newest) for name in "abcd"] == [b"0", b"2", b"11", None]
    for i in range(12, 24):
        change_record(f"{folder}/c.json", lambda _, i=i: b"%d" % i)  # type: ignore[misc]
    assert read_record(f"{folder}/c.json", newest) == b"23", "what was listed is emptied by now"
    Path(folder, "a.json").write_bytes(b"9")  # as long, and put by other means
    changed = {url for url, version in versions_below(folder).items() if version.tag != newest[url].tag}
    assert changed == {f"{folder}/a.json", f"{folder}/c.json"}
    assert versions_below(f"{local_store}/nothing") == {}
