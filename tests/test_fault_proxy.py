"""The proxy that fails: each fault as a plain client sees it, and as the server behind it does."""

import http.client
import random
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import pytest

from helpers.fault_proxy import FaultProxy, Faults, fault_proxy
from helpers.servers import BUCKET, S3Server

SEED = 7
UNCHECKED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=, Signature=0",
    "Content-Type": "application/octet-stream",
}
"""Headers without which the server takes a request for an anonymous one, or for a form; it checks none of them."""


@pytest.fixture
def server(careless_s3_server: S3Server) -> S3Server:
    """A server that needs no signature."""
    return careless_s3_server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(server.endpoint, SEED) as running:
        yield running


def ask(
    proxy: FaultProxy, method: str, key: str = "", body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Status, body and headers that the proxy answers with, on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=60)
    try:
        connection.request(method, f"/{BUCKET}{key}", body, {**UNCHECKED, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


@pytest.fixture
def key(proxy: FaultProxy, request: pytest.FixtureRequest) -> str:
    """An object of ten bytes, put before anything is counted."""
    path = f"/{request.node.name}/a b+c"
    encoded = path.replace(" ", "%20").replace("+", "%2B").replace("[", "%5B").replace("]", "%5D")
    assert ask(proxy, "PUT", encoded, b"0123456789")[0] == 200
    proxy.forget()
    return encoded


def test_a_quiet_proxy_passes_everything_on_and_counts_it(proxy: FaultProxy, server: S3Server, key: str) -> None:
    with server.counted() as requests:
        assert ask(proxy, "GET", key)[1] == b"0123456789"
        assert ask(proxy, "GET", key, headers={"Range": "bytes=2-4"})[:2] == (206, b"234")
        status, body, headers = ask(proxy, "HEAD", key)
        assert (status, body, headers["Content-Length"]) == (200, b"", "10")
        assert ask(proxy, "PUT", f"{key}2", b"x" * 100)[0] == 200
        assert ask(proxy, "PUT", f"{key}3", b"y" * 10, {"If-None-Match": "*"})[0] == 200
        listed = ask(proxy, "GET", "?list-type=2&prefix=nothing")[1]
        assert b"<KeyCount>0<" in listed
        assert ask(proxy, "DELETE", f"{key}2")[0] == 204
        keys = b"<Delete><Object><Key>nothing</Key></Object><Quiet>true</Quiet></Delete>"
        deleted = ask(proxy, "POST", "?delete", keys)[1]
        assert ask(proxy, "GET", f"{key}2")[0] == 404
    assert len(requests) == proxy.count == 9
    assert dict(proxy.requests) == {
        ("GET", "get"): 3,
        ("HEAD", "head"): 1,
        ("PUT", "put"): 1,
        ("PUT", "create"): 1,
        ("GET", "list"): 1,
        ("DELETE", "delete"): 1,
        ("POST", "delete many"): 1,
    }
    assert list(proxy.put.values()) == [1, 1], "two were put"
    assert proxy.received == 110 + len(keys)
    assert proxy.sent >= 13 + len(listed) + len(deleted)
    assert not proxy.happened


def test_a_refused_request_is_answered_as_s3_does_and_not_passed_on(
    proxy: FaultProxy, server: S3Server, key: str
) -> None:
    with server.counted() as requests, proxy.failing(slow_down=1.0):
        status, body, headers = ask(proxy, "PUT", key, b"other")
        assert status == 503
        assert headers["Content-Type"].startswith("application/xml") and b"<Code>SlowDown</Code>" in body
        assert ask(proxy, "HEAD", key)[:2] == (503, b"")
    assert requests == []
    assert proxy.happened == {"slow down": 2} and proxy.count == 2
    assert ask(proxy, "GET", key)[1] == b"0123456789"


@pytest.mark.parametrize(("fault", "acted"), [("cut_before", False), ("cut_after", True)])
def test_a_connection_is_cut_before_or_after_the_server_acts(
    proxy: FaultProxy, server: S3Server, key: str, fault: str, acted: bool
) -> None:
    with server.counted() as requests, proxy.failing(**{fault: 1.0}):
        for method, body in (("PUT", b"other"), ("GET", None)):
            with pytest.raises(http.client.RemoteDisconnected):
                ask(proxy, method, key, body)
    assert len(requests) == (2 if acted else 0)
    assert not proxy.put, "no client knows of any"
    assert proxy.happened == {fault.replace("_", " "): 2}
    assert ask(proxy, "GET", key)[1] == (b"other" if acted else b"0123456789")


def test_an_answer_breaks_off_in_the_middle_where_it_is_that_of_a_get(proxy: FaultProxy, key: str) -> None:
    with proxy.failing(truncated=1.0):
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(proxy, "GET", key)
        assert caught.value.partial == b"01234"
        assert ask(proxy, "HEAD", key)[0] == ask(proxy, "PUT", f"{key}2", b"")[0] == 200
    assert proxy.happened == {"truncated": 1}
    assert proxy.sent == 5


def test_a_request_waits_for_the_latency(proxy: FaultProxy, key: str) -> None:
    def seconds() -> float:
        before = time.monotonic()
        ask(proxy, "GET", key)
        return time.monotonic() - before

    with proxy.failing(latency=0.3):
        assert seconds() >= 0.3
    assert min(seconds() for _ in range(10)) < 0.3, "a busy machine may hold up some of them"


def test_no_more_faults_happen_to_a_key_than_allowed(proxy: FaultProxy, key: str) -> None:
    with proxy.failing(slow_down=1.0, most=2):
        assert [ask(proxy, "GET", key)[0] for _ in range(4)] == [503, 503, 200, 200]
        assert [ask(proxy, "HEAD", key)[0] for _ in range(3)] == [503, 503, 200]
        assert [ask(proxy, "GET", f"{key}2")[0] for _ in range(3)] == [503, 503, 404]


def test_the_seed_says_which_requests_fail(proxy: FaultProxy, server: S3Server, key: str) -> None:
    shares, drawn = {"slow_down": 0.3, "cut_before": 0.2}, random.Random(SEED)
    drawn.random()  # for the object that was put before
    expected = ["slow down" if (r := drawn.random()) < 0.3 else "cut" if r < 0.5 else "fine" for _ in range(60)]
    assert set(expected) == {"slow down", "cut", "fine"}
    seen = []
    with proxy.failing(**shares):
        for _ in expected:
            try:
                seen.append("slow down" if ask(proxy, "GET", key)[0] == 503 else "fine")
            except http.client.RemoteDisconnected:
                seen.append("cut")
    assert seen == expected
    assert proxy.happened == {"slow down": expected.count("slow down"), "cut before": expected.count("cut")}


def test_faults_come_as_often_as_asked() -> None:
    faults, generator = Faults(slow_down=0.1, cut_before=0.1, cut_after=0.1, truncated=0.1), random.Random(SEED)
    drawn = [faults.draw(generator, "GET", "get") for _ in range(20_000)]
    for fault in ("slow down", "cut before", "cut after", "truncated"):
        assert 0.09 < drawn.count(fault) / len(drawn) < 0.11
    assert "truncated" not in [faults.draw(generator, "PUT", "put") for _ in range(1000)]


def test_a_fault_that_did_not_happen_by_chance_happens_all_the_same(proxy: FaultProxy, key: str) -> None:
    share = 1 / 7
    generator = random.Random(next(seed for seed in range(10_000) if _least(seed, 8) > share))
    proxy._generator = generator
    with proxy.failing(slow_down=share):
        assert [ask(proxy, "GET", key)[0] for _ in range(8)] == [200] * 7 + [503]


def _least(seed: int, count: int) -> float:
    generator = random.Random(seed)
    return min(generator.random() for _ in range(count))


def test_only_the_kinds_that_are_named_fail(proxy: FaultProxy, key: str) -> None:
    with proxy.failing(slow_down=1.0, kinds=frozenset({"create", "list"})):
        assert ask(proxy, "GET", key)[0] == ask(proxy, "PUT", key, b"x")[0] == 200
        assert ask(proxy, "PUT", f"{key}2", b"x", {"If-None-Match": "*"})[0] == 503
        assert ask(proxy, "GET", "?list-type=2&prefix=x")[0] == 503


def test_keys_that_are_not_deleted_are_named_in_the_answer(proxy: FaultProxy, key: str) -> None:
    name = f"test_{key.split('test_')[1].replace('%20', ' ').replace('%2B', '+')}"
    keys = f"<Delete><Object><Key>{name}</Key></Object><Quiet>true</Quiet></Delete>".encode()
    with proxy.failing(busy_keys=1.0):
        status, body, _ = ask(proxy, "POST", "?delete", keys)
    assert status == 200 and f"<Error><Key>{name}</Key><Code>InternalError</Code>".encode() in body
    assert ask(proxy, "GET", key)[0] == 200
    assert b"<Error>" not in ask(proxy, "POST", "?delete", keys)[1]
    assert ask(proxy, "GET", key)[0] == 404


def test_faults_last_until_the_proxy_is_quiet(proxy: FaultProxy, key: str) -> None:
    proxy.faults(slow_down=1.0)
    assert ask(proxy, "GET", key)[0] == 503
    proxy.quiet()
    assert ask(proxy, "GET", key)[0] == 200
