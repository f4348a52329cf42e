"""The server of reports: what it gives, to whom, and that it gives nothing else of a store."""

import base64
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from torch import nn

import specdyn as sd
from helpers.browsing import browser_page, browser_program
from specdyn.flows.service.listening import listen
from specdyn.flows.service.reports import reports_server
from specdyn.storage.access.lease import hold
from specdyn.storage.places import Store
from specdyn.tasks.figures.live.page import page as page_of

PAGE, FIGURE = "<h1>näive</h1>".encode(), b"\x89PNG\0\xff"


@pytest.fixture
def store(local_store: Store) -> Store:
    folder = Path(local_store.url)
    files = {
        "reports/grok/index.html": PAGE,
        "reports/grok/rank.png": FIGURE,
        "reports/grok/summary.json": b"{}",
        "reports/grok/.hidden.png": FIGURE,
        "reports/a b/ü.svg": b"<svg/>",
        "outside.html": PAGE,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return local_store


@pytest.fixture
def port(store: Store) -> Iterator[int]:
    with reports_server(store, "127.0.0.1", 0) as port:
        yield port


def ask(port: int, path: str, method: str = "GET", auth: str = "") -> tuple[HTTPResponse, bytes]:
    """The answer to a path, which is sent as it is."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"} if auth else {}
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "kind", "content"),
    [
        ("/grok/index.html", "text/html; charset=utf-8", PAGE),
        ("/grok/index.html?of=today", "text/html; charset=utf-8", PAGE),
        ("/grok//rank.png", "image/png", FIGURE),
        ("/a%20b/%C3%BC.svg", "image/svg+xml", b"<svg/>"),
    ],
)
def test_pages_and_figures_are_given(port: int, path: str, kind: str, content: bytes) -> None:
    answer, body = ask(port, path)
    assert (answer.status, answer.headers["Content-Type"], body) == (200, kind, content)
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_a_browser_may_ask_for_the_head_alone(port: int) -> None:
    answer, body = ask(port, "/grok/rank.png", "HEAD")
    assert (answer.status, answer.headers["Content-Length"], body) == (200, str(len(FIGURE)), b"")
    assert ask(port, "/grok/rank.png", "DELETE")[0].status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/none",
        "/none/",
        "/.hidden",
        "/grok/none.html",
        "/grok/summary.json",
        "/grok/.hidden.png",
        "/../outside.html",
        "/grok/../../outside.html",
        "/%2e%2e/outside.html",
        "/..%2foutside.html",
        "/..%5coutside.html",
        "/grok/index.html%00.png",
        "//outside.html",
        "{store}/outside.html",
        "/{store}/outside.html",
    ],
)
def test_nothing_else_of_the_store_is_given(store: Store, port: int, path: str) -> None:
    answer, body = ask(port, path.format(store=store.url))
    assert (answer.status, body) == (404, b"No such report.\n")


def test_the_address_leads_to_every_report_and_a_name_to_its_page(store: Store, port: int) -> None:
    (Path(store.url) / "reports/grok/tickets.html").write_bytes(PAGE)
    (Path(store.url) / "reports/<b>").mkdir()
    (Path(store.url) / "reports/<b>/connectivity.html").write_bytes(PAGE)
    answer, body = ask(port, "/")
    assert answer.status == 200
    assert b'<a href="/grok/index.html">grok</a>' in body and b'<a href="/grok/tickets.html">grok</a>, tickets' in body
    assert b'<a href="/%3Cb%3E/connectivity.html">&lt;b&gt;</a>, connectivity' in body
    for path, to in {
        "/grok": "/grok/index.html",
        "/grok/": "/grok/index.html",
        "/%3Cb%3E": "/%3Cb%3E/connectivity.html",
    }.items():
        answer, _ = ask(port, path)
        assert (answer.status, answer.headers["Location"]) == (307, to)


def test_the_index_begins_with_what_is_under_way(store: Store, port: int) -> None:
    (Path(store.url) / "reports/zebra").mkdir()
    (Path(store.url) / "reports/zebra/connectivity.html").write_bytes(PAGE)
    links = [b">grok</a></li>", b">zebra</a>, connectivity</li>"]
    _, body = ask(port, "/")
    assert 0 < body.index(links[0]) < body.index(links[1])
    with hold(store.lease(store.connectivity("zebra")), "lines of zebra"):
        _, body = ask(port, "/")
    assert 0 < body.index(b">zebra</a>, connectivity, under way</li>") < body.index(links[0])


def test_the_scripts_of_a_page_run_and_no_others(store: Store, port: int) -> None:
    program = browser_program()
    if program is None:
        pytest.skip("there is no Chromium or Chrome on this machine")
    written = page_of(sd.analyse(nn.Linear(6, 5), ["effective_rank", "spectrum"]), "results.zarr")
    foreign = written.replace("</body>", "<script>document.title = 'run'</script></body>")
    (Path(store.url) / "reports/grok/index.html").write_text(foreign)
    with browser_page(program) as page:
        page.goto(f"http://127.0.0.1:{port}/grok")
        page.wait_for_function("() => document.querySelector('figure.panel svg') !== null")
        assert page.title() != "run"


def test_a_password_is_asked_for_where_there_is_one(store: Store) -> None:
    with reports_server(store, "127.0.0.1", 0, "lab:secret") as port:
        for auth in ("", "lab:wrong", "other:secret", "lab:secret2"):
            answer, body = ask(port, "/grok/index.html", auth=auth)
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="specdyn"')
            assert PAGE not in body
        assert ask(port, "/grok/index.html", auth="lab:secret")[1] == PAGE
        assert ask(port, "/grok/none.html", auth="lab:secret")[0].status == 404


def test_the_port_is_free_again_at_the_end_and_one_that_is_taken_is_refused(store: Store) -> None:
    with reports_server(store, "127.0.0.1", 0) as port, pytest.raises(OSError, match="in use"):  # noqa: SIM117
        with reports_server(store, "127.0.0.1", port):
            pass
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_answers_are_sent_without_waiting_for_receipts_of_what_was_sent_before() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()[:2]):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
