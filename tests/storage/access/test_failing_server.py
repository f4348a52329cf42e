"""Objects, records and leases on an S3 server that refuses requests, cuts connections and breaks answers off."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from helpers.fault_proxy import FaultProxy, fault_proxy
from helpers.servers import S3Server, forget_clients
from specdyn.storage import probe
from specdyn.storage.access import objects, s3
from specdyn.storage.access.lease import LeaseLost, hold
from specdyn.storage.access.listing import listing
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import KEPT, change_record, read_record
from specdyn.storage.access.s3 import LEAST_ATTEMPTS, HastyS3, PatientS3
from specdyn.storage.places import Store

CUTS = {"cut_before": 0.03, "cut_after": 0.05, "truncated": 0.05, "busy_keys": 0.3, "latency": 0.05}
RATES = {"10 %": {"slow_down": 0.1, **CUTS}, "30 %": {"slow_down": 0.3, **CUTS}}
"""Shares of requests that fail."""
THREADS = 16
BODY = bytes(range(256)) * 400
BRIEF = 1e-3
"""A patience that is over after the least attempts."""


@pytest.fixture
def proxy(s3_server: S3Server, fresh_clients: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the S3 server, which the environment leads to."""
    with fault_proxy(s3_server.endpoint) as running:
        for name, value in s3_server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running
        forget_clients()


@pytest.fixture
def store(proxy: FaultProxy, s3_server: S3Server) -> Store:
    """A store with a prefix of its own behind the proxy."""
    return Store(s3_server.fresh_store())


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no pause of the client be long, for tests of what becomes of requests and not of when."""
    monkeypatch.setattr(s3, "LONGEST_PAUSE", 0.3)


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What a call returns in each of so many threads that begin together."""
    barrier = threading.Barrier(count)

    def run(index: int) -> Any:
        barrier.wait()
        return call(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


# --- All operations ---

KEYS = tuple(f"{folder}{name}" for folder in ("", "a/", "a/b/", "step=1/") for name in ("x", "y [0]", "zarr.json"))


def change(store: Store, model: dict[str, bytes], drawn: random.Random) -> None:
    """Do one random operation on both."""
    key, data = drawn.choice(KEYS), drawn.randbytes(drawn.choice((0, 10, 5000)))
    kind = drawn.choice(("write", "create", "create", "delete", "delete below", "delete all", "write all", "zarr"))
    if kind == "write":
        objects.write(f"{store}/{key}", data)
        model[key] = data
    elif kind == "create":
        assert objects.create(f"{store}/{key}", data) == (key not in model)
        model.setdefault(key, data)
    elif kind == "delete":
        objects.delete(f"{store}/{key}")
        model.pop(key, None)
    elif kind == "delete below":
        objects.delete(f"{store}/a/b")
        for gone in [other for other in model if other.startswith("a/b/")]:
            del model[gone]
    elif kind == "delete all":
        gone = drawn.sample(KEYS, 4)
        objects.delete_all(store.url, gone)
        for other in gone:
            model.pop(other, None)
    elif kind == "write all":
        some = {other: drawn.randbytes(20) for other in drawn.sample(KEYS, 5)}
        objects.write_all(store.url, some)
        model.update(some)
    else:
        _put_by_zarr(store, key, data)
        model[key] = data


def _put_by_zarr(store: Store, key: str, data: bytes) -> None:
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    sync(objects.zarr_store(store.url).set(key, default_buffer_prototype().buffer.from_bytes(data)))


def _got_by_zarr(store: Store, key: str) -> bytes | None:
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    found = sync(objects.zarr_store(store.url, read_only=True).get(key, default_buffer_prototype()))
    return None if found is None else found.to_bytes()


def compare(store: Store, model: dict[str, bytes], key: str) -> None:
    """Every way to read one object, and every listing."""
    url, expected = f"{store}/{key}", model.get(key)
    assert objects.exists(url) == (expected is not None)
    assert _got_by_zarr(store, key) == expected
    if expected is None:
        with pytest.raises(FileNotFoundError):
            objects.read(url)
    else:
        assert objects.read(url) == expected
        if len(expected) > 3:
            assert objects.read_range(url, 1, len(expected) - 1) == expected[1:-1]
    assert objects.find_sizes(store.url) == {key: len(data) for key, data in model.items()}
    assert objects.names_below(store.url) == sorted(model)
    assert objects.names(store.url) == sorted({key.split("/")[0] for key in model})
    in_a = {key.removeprefix("a/").split("/")[0] for key in model if key.startswith("a/")}
    assert list(listing(f"{store}/a")) == sorted(in_a)


def work(store: Store, seed: str, rounds: int) -> dict[str, bytes]:
    """Do random operations and compare the store with a dictionary after some of them; returns the dictionary."""
    model: dict[str, bytes] = {}
    drawn = random.Random(seed)
    for _ in range(rounds):
        for _ in range(4):
            change(store, model, drawn)
        compare(store, model, drawn.choice(KEYS))
    return model


@pytest.mark.parametrize("rate", RATES)
def test_every_operation_does_what_it_does_on_a_good_server(
    store: Store, proxy: FaultProxy, short_pauses: None, rate: str
) -> None:
    proxy.faults(**RATES[rate])
    models = at_once(4, lambda i: work(Store(f"{store}/{i}"), f"{rate} {i}", rounds=4))
    proxy.quiet()
    for i, model in enumerate(models):
        assert {key: objects.read(f"{store}/{i}/{key}") for key in objects.find(f"{store}/{i}")} == model
    assert set(proxy.happened) == {"slow down", "cut before", "cut after", "truncated", "busy keys"}


# --- Answers that break off ---


@pytest.mark.parametrize("way", ["read", "read_range", "zarr", "get_file", "open"])
def test_a_body_that_breaks_off_is_read_again(store: Store, proxy: FaultProxy, tmp_path: Path, way: str) -> None:
    url, client = f"{store}/body", objects.filesystem(store.url)
    objects.write(url, BODY)

    def opened() -> bytes:
        with client.open(url, "rb") as stream:
            return b"".join(iter(lambda: stream.read(10_000), b""))

    def fetched() -> bytes:
        client.get_file(url, str(tmp_path / "body"))
        return (tmp_path / "body").read_bytes()

    ways: dict[str, Callable[[], bytes | None]] = {
        "read": lambda: objects.read(url),
        "read_range": lambda: BODY[:5] + objects.read_range(url, 5, len(BODY)),
        "zarr": lambda: _got_by_zarr(store, "body"),
        "get_file": fetched,
        "open": opened,
    }
    with proxy.failing(truncated=1.0, most=2):
        assert ways[way]() == BODY
    assert proxy.happened == {"truncated": 2}


def test_a_body_that_always_breaks_off_is_an_error(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{store}/body"
    objects.write(url, BODY)
    monkeypatch.setattr(PatientS3, "retries", 3)
    proxy.faults(truncated=1.0)
    for attempt in (lambda: objects.read(url), lambda: objects.read_range(url, 0, 1000)):
        proxy.forget()
        with pytest.raises(StoreError, match="body"):
            attempt()
        assert proxy.requests == {("GET", "get"): 3}


# --- Who put an object ---


@pytest.mark.parametrize("parts", [False, True], ids=["at once", "in parts"])
@pytest.mark.parametrize("fault", ["slow_down", "cut_before", "cut_after"])
def test_a_create_whose_answer_was_lost_knows_its_own_object(
    store: Store, proxy: FaultProxy, fault: str, parts: bool
) -> None:
    size = 5 * 2**20
    client, kind = objects.filesystem(store.url), "complete upload" if parts else "create"

    def create(data: bytes) -> bool:
        if not parts:
            return objects.create(f"{store}/marker", data)
        try:
            client.pipe_file(f"{store}/marker", data, chunksize=size, mode="create")
        except OSError:
            return False
        return True

    body = b"same" * (size if parts else 1)
    with proxy.failing(**{fault: 1.0}, kinds=frozenset({kind}), most=1):
        assert create(body)
    assert proxy.happened == {fault.replace("_", " "): 1}
    heads = 1 if fault == "cut_after" and not parts else 0  # the server takes a second completion for the first
    assert proxy.requests["HEAD", "head"] == heads
    with proxy.failing(**{fault: 1.0}, kinds=frozenset({kind}), most=1):
        assert not create(body), "the bytes are the same, and put by another call"
    assert objects.read(f"{store}/marker") == body


def test_an_object_in_parts_replaces_the_one_before_where_the_last_answer_is_lost(
    store: Store, proxy: FaultProxy
) -> None:
    size, client = 5 * 2**20, objects.filesystem(store.url)
    for body in (b"one" * size, b"two" * size):
        with proxy.failing(cut_after=1.0, kinds=frozenset({"complete upload"}), most=1):
            client.pipe_file(f"{store}/large", body, chunksize=size)
        assert objects.read(f"{store}/large") == body
    assert proxy.happened == {"cut after": 2}


@pytest.mark.parametrize("ours", [True, False])
def test_an_upload_that_is_gone_may_have_been_completed(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    """Servers differ in what they say to a second completion: some that there is no such upload."""
    size, client, answer, codes = 5 * 2**20, objects.filesystem(store.url), s3._answer, ["SlowDown", "NoSuchUpload"]
    objects.write(f"{store}/large", b"before")

    async def gone(call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        if call.__name__ != "complete_multipart_upload":
            return await answer(call, arguments)
        if ours and len(codes) == 2:
            await answer(call, arguments)
        raise ClientError({"Error": {"Code": codes.pop(0), "Message": "no such upload"}}, "CompleteMultipartUpload")

    monkeypatch.setattr(s3, "_answer", gone)
    if ours:
        client.pipe_file(f"{store}/large", b"two" * size, chunksize=size)
    else:
        with pytest.raises(FileNotFoundError, match="no such upload"):
            client.pipe_file(f"{store}/large", b"two" * size, chunksize=size)
    assert objects.read(f"{store}/large") == (b"two" * size if ours else b"before")


@pytest.mark.parametrize("rate", RATES)
def test_one_of_many_threads_creates(store: Store, proxy: FaultProxy, short_pauses: None, rate: str) -> None:
    proxy.faults(**{**RATES[rate], "cut_after": 0.2})
    for key in range(4):
        url = f"{store}/{key}"
        won = at_once(THREADS, lambda i, url=url, key=key: objects.create(url, f"{i if key % 2 else 'same'}".encode()))
        assert won.count(True) == 1
        expected = f"{won.index(True)}" if key % 2 else "same"
        assert objects.read(url) == expected.encode()


@pytest.mark.parametrize("rate", RATES)
def test_threads_that_change_a_record_lose_nothing_and_do_nothing_twice(
    store: Store, proxy: FaultProxy, short_pauses: None, rate: str
) -> None:
    url = f"{store}/record.json"
    proxy.faults(**{**RATES[rate], "cut_after": 0.2})
    at_once(THREADS, lambda i: change_record(url, lambda before: (before or b"") + f"{i} ".encode()))
    proxy.quiet()
    found = (read_record(url) or b"").decode().split()
    assert sorted(found, key=int) == [f"{i}" for i in range(THREADS)]
    assert len(objects.names(f"{store}/record.versions")) == THREADS - 1


def test_a_change_is_not_made_twice_where_its_version_is_emptied_before_it_is_known(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of version 2 is lost, and many versions follow before the next attempt to put it."""
    url = f"{store}/record.json"
    change_record(url, lambda _: b"1 ")
    others_are_done = threading.Event()

    async def pause(_: float) -> None:
        while not others_are_done.is_set():
            await asyncio.sleep(0.01)

    monkeypatch.setattr(s3, "asyncio", SimpleNamespace(sleep=pause))
    proxy.faults(cut_after=1.0, kinds=frozenset({"create"}), most=1)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(change_record, url, lambda before: (before or b"") + b"slow ")
        try:
            while not proxy.happened:
                time.sleep(0.01)
            proxy.quiet()
            for _ in range(KEPT):
                change_record(url, lambda before: (before or b"") + b"quick ")
            assert objects.read(f"{store}/record.versions/00000002.json") == b""
        finally:
            others_are_done.set()
        assert slow.result() == b"1 slow "
    assert read_record(url) == b"1 slow " + b"quick " * KEPT


# --- Leases ---


def test_a_holder_keeps_its_lease_for_as_long_as_it_lives(store: Store, proxy: FaultProxy, short_pauses: None) -> None:
    folder, lifetime, got, said = f"{store}/leases/x", 4.0, threading.Event(), []
    proxy.faults(**RATES["30 %"])

    def wait_for_it() -> None:
        with hold(folder, "a test", said.append, lifetime):
            got.set()

    with hold(folder, "a test", lifetime=lifetime) as lease:
        rival = threading.Thread(target=wait_for_it)
        rival.start()
        ends = time.monotonic() + 2 * lifetime
        while time.monotonic() < ends:
            lease.verify()
            assert not got.is_set()
            time.sleep(0.2)
    assert got.wait(60)
    rival.join()
    assert len(said) == 1 and said[0].startswith("a test: waiting for process ")


def test_a_holder_keeps_its_lease_while_the_store_answers_nobody(
    store: Store, proxy: FaultProxy, short_pauses: None
) -> None:
    folder, lifetime, looked, got = f"{store}/leases/x", 4.0, threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with hold(folder, "a test", lambda _: looked.set(), lifetime):
            got.set()

    with hold(folder, "a test", lifetime=lifetime) as lease:
        rival = threading.Thread(target=wait_for_it)
        rival.start()
        assert looked.wait(60)
        with proxy.failing(slow_down=1.0):
            time.sleep(1.5 * lifetime)
        with proxy.failing(slow_down=1.0, kinds=frozenset({"put"})):  # who waits is answered first
            time.sleep(1.5)
        lease.verify()
        assert not got.is_set() and not lease.succeeded
    assert got.wait(60)
    rival.join()


@pytest.mark.parametrize("kind", ["create", "put"])
def test_nobody_waits_for_itself_where_an_answer_is_lost(store: Store, proxy: FaultProxy, kind: str) -> None:
    proxy.faults(cut_after=1.0, kinds=frozenset({kind}), most=1)
    began, said = time.monotonic(), []
    with hold(f"{store}/leases/x", "a test", said.append, lifetime=60) as lease:
        lease.verify()
    with hold(f"{store}/leases/x", "a test", said.append, lifetime=60):
        pass
    assert proxy.happened["cut after"] >= 1
    assert not said and time.monotonic() - began < 40


def test_a_lost_lease_is_said_in_spite_of_faults(store: Store, proxy: FaultProxy) -> None:
    folder = f"{store}/leases/x"
    proxy.faults(**RATES["30 %"])
    with hold(folder, "a test", lifetime=60) as lease:
        taken = objects.read(f"{folder}/00000001.json").replace(b'"token": "', b'"token": "another')
        assert objects.create(f"{folder}/00000002.json", taken)
        with pytest.raises(LeaseLost, match="took over; call again"):
            lease.verify()


# --- Probing ---


@pytest.mark.parametrize("fault", ["slow_down", "cut_before", "cut_after"])
def test_a_busy_server_is_reached(store: Store, proxy: FaultProxy, fault: str) -> None:
    proxy.faults(**{fault: 1.0}, most=3)
    assert objects.reach(store.url)
    assert proxy.requests == {("GET", "list"): 4}


def test_the_probe_finds_a_good_server_that_is_busy_good(store: Store, proxy: FaultProxy) -> None:
    proxy.faults(**RATES["30 %"])
    checks = probe.probe(store.url)
    assert [check.name for check in checks] == ["reachable", "write", *probe.TRIALS, "delete"]
    assert {check.level for check in checks} == {"ok"}
    probe.require_store(store.url)
    proxy.quiet()
    assert objects.names_below(store.url) == ["specdyn.json"]


def test_the_probe_still_finds_out_who_ignores_conditions(
    careless_s3_server: S3Server, fresh_clients: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_proxy(careless_s3_server.endpoint) as proxy:
        for name, value in {**careless_s3_server.environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint}.items():
            monkeypatch.setenv(name, value)
        proxy.faults(**RATES["30 %"])
        checks = {check.name: check.level for check in probe.probe(careless_s3_server.fresh_store())}
        forget_clients()
    assert {name for name, level in checks.items() if level != "ok"} == {"conditional create", "concurrent create"}
    assert set(checks.values()) == {"ok", "warning"}


# --- Giving up ---

OPERATIONS: dict[str, Callable[[str], Any]] = {
    "read": objects.read,
    "read_range": lambda url: objects.read_range(url, 0, 5),
    "write": lambda url: objects.write(url, b"x"),
    "create": lambda url: objects.create(url, b"x"),
    "exists": objects.exists,
    "names": objects.names,
    "find": objects.find,
    "listing": listing,
    "delete all": lambda url: objects.delete_all(url, ["x"]),
}


@pytest.mark.parametrize("fault", ["slow_down", "cut_before"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_loop_alone_sends_again(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, operation: str, fault: str
) -> None:
    monkeypatch.setattr(PatientS3, "patience", BRIEF)
    proxy.faults(**{fault: 1.0})
    with pytest.raises(StoreError, match="not reachable" if fault == "cut_before" else "OSError"):
        OPERATIONS[operation](f"{store}/x")
    assert proxy.count == LEAST_ATTEMPTS


def test_a_server_that_stays_busy_is_given_up(store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientS3, "patience", 2.0)
    monkeypatch.setattr(HastyS3, "patience", 1.0)
    proxy.faults(slow_down=1.0)
    for call, patience in ((lambda: objects.read(f"{store}/x"), 2.0), (lambda: objects.reach(store.url), 1.0)):
        proxy.forget()
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"Please reduce your request rate"):
            call()
        assert patience <= time.monotonic() - began < patience + 20
        assert 3 <= proxy.count <= 40


def test_an_address_where_nothing_listens_is_given_up_soon(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert PatientS3.patience_absent <= 10
    monkeypatch.setattr(PatientS3, "patience_absent", BRIEF)
    for ask, again in (lambda: objects.reach(store.url), 0), (lambda: objects.read(f"{store}/x"), LEAST_ATTEMPTS - 1):
        pauses = list[float]()
        monkeypatch.setattr(s3._jitter, "uniform", lambda _, most, pauses=pauses: pauses.append(most) or 2 * BRIEF)
        with pytest.raises(StoreError, match=r"not reachable.*check AWS_ENDPOINT_URL_S3"):
            ask()
        assert len(pauses) == again


def test_a_server_that_is_silent_is_asked_the_least_times(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(objects.S3_OPTIONS, "config_kwargs", {"connect_timeout": 1, "read_timeout": 0.5})
    monkeypatch.setattr(PatientS3, "patience_silent", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StoreError, match="not reachable"):
            objects.read(f"{store}/x")
        assert 0.5 * LEAST_ATTEMPTS <= time.monotonic() - began < 40


@pytest.mark.parametrize("final", [403, 404])
def test_a_final_answer_is_not_asked_for_again(
    store: Store, proxy: FaultProxy, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, final: int
) -> None:
    if final == 403:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(StoreError, match="access denied"):
            objects.read(f"{store}/x")
    else:
        with pytest.raises(FileNotFoundError):
            objects.read(f"{store}/x")
    assert proxy.requests == {("GET", "get"): 1}


# --- Many objects ---


def test_some_of_many_that_could_not_be_written_are_an_error(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientS3, "patience", BRIEF)
    some = {f"{i}": b"%d" % i for i in range(40)}
    with (
        proxy.failing(slow_down=0.5),
        pytest.raises(StoreError, match="some of the 40 objects may have been written, others not"),
    ):
        objects.write_all(store.url, some)
    assert set(objects.find(store.url)) < set(some)
    objects.write_all(store.url, some)
    assert {key: objects.read(f"{store}/{key}") for key in objects.find(store.url)} == some


@pytest.mark.parametrize("fault", ["slow_down", "cut_before", "cut_after", "busy_keys"])
def test_objects_are_deleted_or_it_is_said(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    some = {f"a/{i}": b"" for i in range(5)}
    objects.write_all(store.url, {**some, "b": b""})
    kinds = frozenset({"delete many"})
    with monkeypatch.context() as patch, proxy.failing(**{fault: 1.0}, kinds=kinds):
        patch.setattr(PatientS3, "patience", BRIEF)
        for delete in (lambda: objects.delete_all(store.url, list(some)), lambda: objects.delete(f"{store}/b")):
            with pytest.raises(StoreError):
                delete()
    with proxy.failing(**{fault: 1.0}, kinds=kinds, most=2):
        objects.delete_all(store.url, list(some))
    assert objects.find(store.url) == ([] if fault == "cut_after" else ["b"])
