"""A proxy in front of an S3 server that injects faults: refused requests, broken connections, short answers.

It runs in a thread of the test and listens on 127.0.0.1, so other processes reach it by AWS_ENDPOINT_URL_S3. A seeded
generator decides which requests fail; since the order of threads is not deterministic, a fault with a share of 2 % that
has not happened in 50 requests is applied to the next one, so that a test meets every fault.
"""

import asyncio
import io
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

SLOW_DOWN, CUT_BEFORE, CUT_AFTER, TRUNCATED = "slow down", "cut before", "cut after", "truncated"
BUSY_KEYS = "busy keys"
CUTS = {"cut_before": 0.02, "cut_after": 0.02, "truncated": 0.02, "latency": 0.05}
RATES = {"10 %": {"slow_down": 0.1, **CUTS}, "30 %": {"slow_down": 0.3, **CUTS}}
"""Faults of a busy, distant server, given the share of requests that it refuses."""
REFUSAL = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message>"
    "<RequestId>fault-proxy</RequestId></Error>"
)
BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "date", "server"}
"""Headers of an answer that belong to one connection, or that the proxy sets itself."""
NOT_ADDED = {"Accept", "Accept-Encoding", "User-Agent", "Content-Type"}
"""Headers that the proxy's client must not add, as the signature covers the headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often each fault happens, as a share of requests; at most one per request."""

    slow_down: float = 0.0
    """503 SlowDown, before the server acts."""
    cut_before: float = 0.0
    """The connection is closed before the server sees the request."""
    cut_after: float = 0.0
    """The server acts, but the connection is closed before its answer."""
    truncated: float = 0.0
    """Half the body of a GET, then the connection is closed."""
    busy_keys: float = 0.0
    """A request to delete many keys is answered with an error for each of them, before the server acts."""
    latency: float = 0.0
    """Seconds by which each request is delayed."""
    most: int | None = None
    """Most faults per method and key."""
    kinds: frozenset[str] | None = None
    """Kinds of operation that fail; all of them by default."""

    def shares(self, method: str, kind: str) -> dict[str, float]:
        """How often each applicable fault happens to a request of this kind."""
        if self.kinds is not None and kind not in self.kinds:
            return {}
        shares = {
            SLOW_DOWN: self.slow_down,
            CUT_BEFORE: self.cut_before,
            CUT_AFTER: self.cut_after,
            TRUNCATED: self.truncated if method == "GET" else 0.0,
            BUSY_KEYS: self.busy_keys if kind == "delete many" else 0.0,
        }
        return {fault: share for fault, share in shares.items() if share}

    def draw(self, generator: random.Random, method: str, kind: str) -> str | None:
        """The fault for the next request, or None."""
        drawn, limit = generator.random(), 0.0
        for fault, share in self.shares(method, kind).items():
            limit += share
            if drawn < limit:
                return fault
        return None


class FaultProxy:
    """A running proxy: its address, its faults, and the traffic so far."""

    def __init__(self, server: str, seed: int) -> None:
        self.endpoint = ""
        self.requests: Counter[tuple[str, str]] = Counter()
        """By method and kind of operation; a request counts whatever happens to it."""
        self.happened: Counter[str] = Counter()
        """Number of faults by name."""
        self.put: Counter[str] = Counter()
        """By key, puts answered as done or refused because the object exists, so the client knows that it exists."""
        self.received = 0
        """Bytes of bodies that clients sent."""
        self.sent = 0
        """Bytes of bodies that clients were sent."""
        self._server = server
        self._generator = random.Random(seed)
        self._faults = Faults()
        self._of_key: Counter[tuple[str, str]] = Counter()
        self._spared: Counter[str] = Counter()
        """Requests that a fault could have happened to, by its name, for as long as it has not happened once."""
        self._upstream: aiohttp.ClientSession | None = None

    def faults(self, **shares: Any) -> None:
        """Apply these faults from now on, and no others."""
        self._faults = Faults(**shares)
        self._of_key.clear()
        self._spared.clear()

    def quiet(self) -> None:
        """Stop failing, and stop waiting."""
        self._faults = Faults()

    def forget(self) -> None:
        """Count from nothing."""
        self.requests.clear()
        self.happened.clear()
        self.put.clear()
        self.received = self.sent = 0

    @property
    def count(self) -> int:
        """All requests so far."""
        return self.requests.total()

    @contextmanager
    def failing(self, **shares: Any) -> Iterator["FaultProxy"]:
        """Fail like this within the block."""
        before = self._faults
        self.faults(**shares)
        try:
            yield self
        finally:
            self._faults = before

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on, or let it fail."""
        body = await request.read()
        self.received += len(body)
        self.requests[request.method, kind_of(request)] += 1
        fault = self._drawn(request)
        await asyncio.sleep(self._faults.latency)
        if fault == SLOW_DOWN:
            return self._refusal(request)
        if fault == CUT_BEFORE:
            return _cut(request)
        if fault == BUSY_KEYS:
            return _busy_keys(body)
        status, headers, data = await self._passed_on(request, body)
        if fault == CUT_AFTER:
            return _cut(request)
        if request.method == "PUT" and status in (HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED):
            self.put[request.path] += 1
        try:
            return await self._given(request, status, headers, data, truncated=fault == TRUNCATED)
        except ConnectionResetError:  # the client was killed
            return _cut(request)

    def _drawn(self, request: web.Request) -> str | None:
        fault = self._next_fault(request.method, kind_of(request))
        key = (request.method, request.path)
        if fault is None or (self._faults.most is not None and self._of_key[key] >= self._faults.most):
            return None
        self._of_key[key] += 1
        self.happened[fault] += 1
        return fault

    def _next_fault(self, method: str, kind: str) -> str | None:
        if drawn := self._faults.draw(self._generator, method, kind):
            return drawn
        for fault, share in self._faults.shares(method, kind).items():
            self._spared[fault] += 1
            if not self.happened[fault] and self._spared[fault] > 1 / share:
                return fault
        return None

    def _refusal(self, request: web.Request) -> web.Response:
        text = "" if request.method == "HEAD" else REFUSAL
        self.sent += len(text)
        return web.Response(status=503, text=text, content_type="application/xml")

    async def _passed_on(self, request: web.Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        assert self._upstream is not None
        async with self._upstream.request(
            request.method,
            URL(f"{self._server}{request.raw_path}", encoded=True),
            headers=[(name, value) for name, value in request.headers.items() if name.lower() != "connection"],
            data=io.BytesIO(body) if body else None,
            allow_redirects=False,
        ) as got:
            data = await got.read()
            headers = [(name, value) for name, value in got.headers.items() if name.lower() not in BY_HOP]
            if request.method == "HEAD" and "Content-Length" in got.headers:
                headers.append(("Content-Length", got.headers["Content-Length"]))
            return got.status, headers, data

    async def _given(
        self, request: web.Request, status: int, headers: list[tuple[str, str]], data: bytes, truncated: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        for name, value in headers:
            response.headers.add(name, value)
        if request.method != "HEAD" and status not in (204, 304):
            response.content_length = len(data)
        await response.prepare(request)
        part = data[: len(data) // 2] if truncated else data
        self.sent += len(part)
        await response.write(part)
        if truncated:
            return _cut(request)
        await response.write_eof()
        return response


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:  # the client may be gone
        request.transport.close()
    return web.Response()  # is not received


def _busy_keys(body: bytes) -> web.Response:
    keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
    errors = "".join(f"<Error><Key>{key}</Key><Code>InternalError</Code><Message>x</Message></Error>" for key in keys)
    return web.Response(text=f"<DeleteResult>{errors}</DeleteResult>", content_type="application/xml")


def kind_of(request: web.Request) -> str:
    """What a request is for: `get`, `put`, `create`, `list`, `delete many`, `part`, `complete upload`, ..."""
    query, of_bucket = request.query, request.path.strip("/").count("/") == 0
    if of_bucket:
        kinds = {"GET": "list", "POST": "delete many" if "delete" in query else "other"}
        return kinds.get(request.method, "bucket")
    if "uploads" in query or "uploadId" in query:
        kinds = {"PUT": "part", "POST": "start upload" if "uploads" in query else "complete upload"}
        return kinds.get(request.method, "abort upload")
    if request.method == "PUT":
        return "create" if "If-None-Match" in request.headers else "put"
    return request.method.lower()


@contextmanager
def fault_proxy(server: str, seed: int = 0) -> Iterator[FaultProxy]:
    """A proxy in front of the server at that address, initially without faults; ends with the block."""
    proxy, loop, ended = FaultProxy(server, seed), asyncio.new_event_loop(), asyncio.Event()
    listening = threading.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(_serve(proxy, listening, ended)), name="fault proxy", daemon=True
    )
    thread.start()
    try:
        assert listening.wait(30), "the proxy did not start"
        yield proxy
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
        loop.close()


async def _serve(proxy: FaultProxy, listening: threading.Event, ended: asyncio.Event) -> None:
    # A new connection for each request, as aiohttp retries a request if a kept-alive one turns out closed.
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, skip_auto_headers=NOT_ADDED
    ) as proxy._upstream:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{key:.*}", proxy.answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        proxy.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        listening.set()
        await ended.wait()
        await runner.cleanup()
