"""A lease is held by one process at a time; the next gets it when its holder ends, dies, or sleeps too long."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.rebuilt import build, check, rows_of
from specdyn.storage import generations
from specdyn.storage.access import lease as leases
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease, LeaseHeld, LeaseLost, held, hold
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.query import open_results

NEVER = 3600.0
"""A lifetime within which no test waits for a holder to be given up."""
SHORT = 0.6
ALIVE = 3.0
"""A lifetime within which a holder does give a sign of life, on a machine with more work than processors too."""

HOLDER = """
import sys, time
from specdyn.storage.access.lease import LeaseLost, hold
with hold(sys.argv[1], "a test", lifetime=float(sys.argv[2])) as lease:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        lease.verify()
        print("still", flush=True)
    except LeaseLost as error:
        print(f"lost {error}", flush=True)
"""
COUNTER = """
import sys, time
from pathlib import Path
from specdyn.storage.access.lease import hold
with hold(sys.argv[1], "a test", lifetime=60):
    count = Path(sys.argv[2])
    before = int(count.read_text())
    time.sleep(0.05)
    count.write_text(str(before + 1))
"""
BUILDER = """
import sys
sys.path.insert(0, sys.argv[3])
from helpers.rebuilt import VERSIONS, rows_of
from specdyn.storage import cube
from specdyn.storage.access.lease import LeaseLost, hold
from specdyn.storage.cube import CubeWriter
from specdyn.storage.places import Store
rows, version, name = rows_of(Store(sys.argv[2])), int(sys.argv[6]), sys.argv[7]
usual, calls = getattr(cube, name), 0

def asleep(*arguments):
    global calls
    calls += 1
    if calls == int(sys.argv[8]):
        print("building", flush=True)
        sys.stdin.readline()
    return usual(*arguments)

setattr(cube, name, asleep)
cube.WRITERS = 1
with hold(sys.argv[1], "a test", lifetime=float(sys.argv[4])) as lease:
    try:
        writer = CubeWriter(url=sys.argv[5], lease=lease)
        writer.write([rows[run] for run in VERSIONS[version]], {"title": str(version)})
        print("built", flush=True)
    except LeaseLost as error:
        print(f"lost {error}", flush=True)
"""


def folder_of(store: Store) -> str:
    return store.lease(store.cube("hand"))


@contextmanager
def running(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs a script; it is gone at the end, whatever happened."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_many_processes_hold_it_one_at_a_time(local_store: Store, tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTER, folder_of(local_store), str(count)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        for _ in range(5)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * 5
    assert count.read_text() == "5"
    assert not held(folder_of(local_store))


def exclusive(store: Store, lifetime: float) -> None:
    """Threads that take turns, each found alone."""
    inside: list[int] = []

    def work(i: int) -> None:
        with hold(folder_of(store), "a test", lifetime=lifetime):
            inside.append(i)
            time.sleep(0.02)
            assert inside[-1] == i
            inside.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 8
    assert inside[::2] == inside[1::2]


def test_threads_take_turns(local_store: Store) -> None:
    exclusive(local_store, 5.0)


@pytest.mark.integration
def test_turns_on_object_storage(s3_store: Store) -> None:
    exclusive(s3_store, 20.0)
    assert objects.names(folder_of(s3_store)) == ["00000004.json"]


def test_who_waits_says_for_whom_once_and_gets_it_at_the_end(local_store: Store) -> None:
    said: list[str] = []
    with running(HOLDER, folder_of(local_store), 5.0) as holder:
        assert line(holder) == "held"
        waiting = threading.Thread(target=taken, args=(folder_of(local_store), said.append, 5.0))
        waiting.start()
        while not said:
            time.sleep(0.01)
        assert held(folder_of(local_store))
        go_on(holder)
        assert line(holder) == "still"
        waiting.join(timeout=60)
    (told,) = said
    assert told.startswith(f"a test: waiting for process {holder.pid} on ")


def taken(folder: str, say: Callable[[str], None], lifetime: float) -> None:
    with hold(folder, "a test", say, lifetime=lifetime) as lease:
        lease.verify()


def test_one_that_does_not_wait_is_refused_by_a_living_holder(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(HOLDER, folder_of(local_store), ALIVE) as holder:
        assert line(holder) == "held"
        for elsewhere in (False, True):
            if elsewhere:
                monkeypatch.setattr(leases, "_machine", lambda: "another one, where nobody knows its processes")
            with (
                pytest.raises(LeaseHeld, match=f"a test: held by process {holder.pid}"),
                hold(folder_of(local_store), "a test", lifetime=ALIVE, waits=False),
            ):
                pass
        holder.kill()
        since = time.monotonic()
        with hold(folder_of(local_store), "a test", lifetime=ALIVE, waits=False) as lease:
            assert lease.succeeded and time.monotonic() - since > ALIVE / 2


def test_a_killed_process_of_this_machine_holds_nobody_up(local_store: Store) -> None:
    with running(HOLDER, folder_of(local_store), NEVER) as holder:
        assert line(holder) == "held"
        holder.kill()
        # Also while it waits to be reaped: it has no life, however long its lease.
        with hold(folder_of(local_store), "a test", lifetime=NEVER) as lease:
            assert not lease.succeeded


AGAIN = """
import os, sys
from specdyn.storage.access.lease import hold
with hold(sys.argv[1], "a test", lifetime=1e6):
    if len(sys.argv) == 2:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "again"])
    print("held again")
"""


def test_a_program_that_starts_itself_again_does_not_wait_for_itself(local_store: Store) -> None:
    command = [sys.executable, "-c", AGAIN, folder_of(local_store)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "held again\n"


def elsewhere(folder: str, number: int = 1, **changes: object) -> None:
    """An object as a process on another machine puts it."""
    plain = {
        "what": "a test",
        "token": "other",
        "released": False,
        "host": "faraway",
        "machine": "faraway 1",
        "pid": os.getpid(),
        "born": "1",
        "program": "another",
        "since": 0.0,
        "beat": 0,
    }
    objects.write(f"{folder}/{number:08d}.json", json.dumps({**plain, **changes}).encode())


def test_a_holder_elsewhere_is_given_up_when_it_shows_no_sign_of_life(local_store: Store) -> None:
    elsewhere(folder_of(local_store))
    with hold(folder_of(local_store), "a test", lifetime=SHORT) as lease:
        assert lease.succeeded, "it may be asleep"


def test_a_holder_elsewhere_that_lives_is_waited_for(local_store: Store) -> None:
    folder, got = folder_of(local_store), threading.Event()
    elsewhere(folder)

    def take() -> None:
        taken(folder, lambda _: None, ALIVE)
        got.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    for beat in range(1, 9):
        elsewhere(folder, beat=beat)
        assert not got.wait(ALIVE / 6)
    elsewhere(folder, beat=9, released=True)
    waiting.join(timeout=60)
    assert got.is_set()


def test_signs_of_life_keep_a_lease_longer_than_a_lifetime(local_store: Store) -> None:
    with hold(folder_of(local_store), "a test", lifetime=ALIVE) as lease:
        others = [threading.Thread(target=taken, args=(folder_of(local_store), lambda _: None, ALIVE)) for _ in "ab"]
        for other in others:
            other.start()
        time.sleep(1.5 * ALIVE)
        lease.verify()
    for other in others:
        other.join(timeout=60)


def test_a_process_that_slept_finds_that_it_lost_the_lease(local_store: Store) -> None:
    with running(HOLDER, folder_of(local_store), SHORT) as sleeper:
        assert line(sleeper) == "held"
        sleeper.send_signal(signal.SIGSTOP)
        with hold(folder_of(local_store), "a test", lifetime=SHORT) as lease:
            assert lease.succeeded
            sleeper.send_signal(signal.SIGCONT)
            go_on(sleeper)
            assert line(sleeper).startswith(f"lost a test: process {os.getpid()} on ")
            lease.verify()


@pytest.mark.parametrize(
    ("before", "version", "asleep_in", "call"),
    [(1, 3, "placed", 4), (0, 1, "placed", 1), (0, 1, "_put", 2), (0, 3, "_put", 5)],
    ids=["new generation", "a run is added", "a run is being put", "values are being put"],
)
def test_a_builder_that_slept_does_not_touch_what_its_successor_built(
    local_store: Store, before: int, version: int, asleep_in: str, call: int
) -> None:
    rows, url = rows_of(local_store), local_store.cube("hand")
    build(url, rows, before)
    arguments = (folder_of(local_store), local_store, Path(__file__).parents[2], SHORT, url, version, asleep_in, call)
    with running(BUILDER, *arguments) as sleeper:
        assert line(sleeper) == "building"
        sleeper.send_signal(signal.SIGSTOP)
        with hold(folder_of(local_store), "a test", lifetime=SHORT) as lease:
            build(url, rows, 2, lease)
            built, form = snapshot(url), generations.current(url)
            sleeper.send_signal(signal.SIGCONT)
            go_on(sleeper)
            assert line(sleeper).startswith("lost a test")
    assert check(open_results(url)) == 2
    # What was on its way into the generation before may still arrive there.
    kept = {key for key in built if generations.form_of(key) in (None, form)}
    assert {key: data for key, data in snapshot(url).items() if key in kept} == {key: built[key] for key in kept}


def snapshot(folder: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_a_lease_that_was_lost_is_waited_for_again(local_store: Store) -> None:
    with hold(folder_of(local_store), "a test", lifetime=SHORT) as lease:
        elsewhere(folder_of(local_store), number=2)
        with pytest.raises(LeaseLost, match=r"a test: process .* on faraway, .* took over; call again"):
            lease.verify()
        elsewhere(folder_of(local_store), number=2, released=True)
        lease.ensure()
        lease.verify()
    assert not held(folder_of(local_store))


def test_a_slow_process_does_not_get_a_place_that_was_passed_over(local_store: Store) -> None:
    folder = folder_of(local_store)
    elsewhere(folder, number=7)
    slow = Lease(folder=folder, what="a test", say=print, lifetime=SHORT)
    assert not slow._take(None, succeeded=False)
    assert held(folder)
    with pytest.raises(LeaseLost):
        slow.verify()


def test_another_programs_file_is_not_mistaken_for_a_lease(local_store: Store) -> None:
    objects.write(f"{folder_of(local_store)}/00000001.json", b"[]")
    with pytest.raises(StoreError, match="is not a lease; delete it"), hold(folder_of(local_store), "a test"):
        pass


def test_a_killed_holder_holds_nobody_up_for_longer_than_half_a_minute() -> None:
    assert leases.LIFETIME + 2 * leases.LOOK_SECONDS <= 30
    assert leases.BEATS >= 3
