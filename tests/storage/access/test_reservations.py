"""Work that studies share is done by one call at a time, and by the next where its call died."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.fault_proxy import fault_proxy
from helpers.servers import S3Server
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease, hold
from specdyn.storage.access.reservations import reserved
from specdyn.storage.places import Store

LIFETIME = 60.0


def piece(store: Store) -> str:
    return store.reservation("a-run")


def lease_of(store: Store, study: str) -> str:
    return store.lease(store.cube(study))


def quietly(_: str) -> None:
    """Say nothing."""


def work(store: Store, study: str, inside: Callable[[], None], say: Callable[[str], None] = quietly) -> None:
    """What a call of a study does."""
    lease = lease_of(store, study)
    with hold(lease, study), reserved(piece(store), lease, "run a-run", say, LIFETIME):
        inside()


def never_two_at_once(store: Store, studies: int) -> None:
    now, most = 0, 0
    lock = threading.Lock()

    def alone() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    with ThreadPoolExecutor(studies) as pool:
        for one in [pool.submit(work, store, f"study{i}", alone) for i in range(studies)]:
            one.result()
    assert most == 1
    assert not objects.exists(piece(store))


def test_calls_of_several_studies_work_one_at_a_time(local_store: Store) -> None:
    never_two_at_once(local_store, 5)


@pytest.mark.integration
def test_calls_of_several_studies_work_one_at_a_time_on_object_storage(s3_store: Store) -> None:
    never_two_at_once(s3_store, 3)


@pytest.mark.integration
def test_it_takes_two_requests(s3_server: S3Server, s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with fault_proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        with reserved(piece(s3_store), lease_of(s3_store, "one"), "run a-run", quietly):
            pass
    assert proxy.requests == {("PUT", "create"): 1, ("POST", "delete many"): 1}


def test_who_waits_says_once_for_whom(local_store: Store) -> None:
    said: list[str] = []
    free = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(work, local_store, "first", free.wait)
        while not objects.exists(piece(local_store)):
            time.sleep(0.01)
        second = pool.submit(work, local_store, "second", lambda: None, said.append)
        while not said:
            time.sleep(0.01)
        assert not second.done()
        free.set()
        first.result()
        second.result()
    (line,) = said
    assert line.startswith("run a-run: waiting for process ") and line.endswith(" who works on it for first")


def leave(store: Store, study: str) -> None:
    """What a killed worker of a study leaves."""
    objects.write(piece(store), lease_of(store, study).rpartition("/")[2].encode())


@pytest.mark.parametrize("study", ["ours", "another"])
def test_what_a_dead_call_left_is_taken_over_at_once(local_store: Store, study: str) -> None:
    leave(local_store, study)
    done = threading.Event()
    work(local_store, "ours", done.set, pytest.fail)
    assert done.is_set() and not objects.exists(piece(local_store))


def test_a_call_that_is_silent_for_a_lifetime_is_taken_over(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(local_store, "another")
    monkeypatch.setattr(Lease, "_keep", lambda _: None)
    with hold(lease_of(local_store, "another"), "a process that sleeps"):
        began = time.monotonic()
        with reserved(piece(local_store), lease_of(local_store, "ours"), "run a-run", quietly, lifetime=0.6):
            assert time.monotonic() - began > 0.5


def test_it_is_given_back_where_the_work_fails(local_store: Store) -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work(local_store, "ours", fail)
    assert not objects.exists(piece(local_store))
