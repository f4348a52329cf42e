"""Serves the pages and figures of a store's reports over HTTP, from a folder or a bucket."""

import base64
import contextlib
import hmac
import mimetypes
import threading
from collections.abc import Iterator
from html import escape
from pathlib import PurePosixPath
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from specdyn.flows.service.listening import listen
from specdyn.storage.access import lease, objects
from specdyn.storage.places import Store
from specdyn.tasks.figures.live.files import script_source

SERVED = {".html", ".png", ".svg"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Only the page's own scripts may run.
    "Content-Security-Policy": (
        f"default-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src {script_source()}"
    ),
}
INDEX = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Reports</title>
<style>body { font: 16px/1.6 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }</style>
<h1>Reports</h1><ul>%s</ul>
"""
STOP_SECONDS = 2
"""Seconds to finish pending responses when the server is stopped."""


def reports_app(store: Store, auth: str = "") -> Starlette:
    """The web application; `auth` is `user:password`, empty means no sign-in."""
    signed_in = f"Basic {base64.b64encode(auth.encode()).decode()}".encode()

    # Not a coroutine, so that a slow bucket does not block other requests.
    def report(request: Request) -> Response:
        if auth and not hmac.compare_digest(request.headers.get("Authorization", "").encode(), signed_in):
            asks = {**HEADERS, "WWW-Authenticate": 'Basic realm="specdyn"'}
            return PlainTextResponse("Sign in with the service's user and password.\n", 401, asks)
        path = PurePosixPath(request.path_params["path"])
        # Names with a leading dot are hidden or lead elsewhere; backslashes and null bytes are special on some systems.
        safe = not any(part.startswith((".", "/")) or set(part) & {"\\", "\0"} for part in path.parts)
        if safe and len(path.parts) <= 1 and path.suffix not in SERVED:
            with contextlib.suppress(FileNotFoundError, objects.StoreError):
                return _index(store) if not path.parts else _page_of(store, path.parts[0])
        if safe and path.suffix in SERVED:
            with contextlib.suppress(FileNotFoundError, objects.StoreError):
                content = objects.read(f"{store.reports}/{path}")
                return Response(content, headers=HEADERS, media_type=mimetypes.types_map[path.suffix])
        return PlainTextResponse("No such report.\n", 404, HEADERS)

    return Starlette(routes=[Route("/{path:path}", report)])


def _pages(store: Store, name: str) -> list[str]:
    """The pages of a study's report, the page of its runs first."""
    found = sorted(page for page in objects.names(f"{store.reports}/{name}") if page.endswith(".html"))
    return sorted(found, key=lambda page: page != "index.html")


def _index(store: Store) -> Response:
    """A page with a link to every report, those of studies under way first."""
    lines: dict[bool, list[str]] = {True: [], False: []}
    for name in objects.names(store.reports):
        for page in _pages(store, name):
            live = _is_under_way(store, name, page)
            kind = "" if page == "index.html" else f", {page.removesuffix('.html')}"
            said = f"{escape(kind)}{', under way' if live else ''}"
            lines[live].append(f'<li><a href="/{quote(name)}/{quote(page)}">{escape(name)}</a>{said}</li>')
    return HTMLResponse(INDEX % ("\n".join(lines[True] + lines[False]) or "<li>none yet</li>"), headers=HEADERS)


def _is_under_way(store: Store, name: str, page: str) -> bool:
    """Whether somebody works on what a page is of."""
    cubes = {"index.html": store.cube, "connectivity.html": store.connectivity, "tickets.html": store.tickets}
    with contextlib.suppress(objects.StoreError):
        return page in cubes and lease.held(store.lease(cubes[page](name)))
    return False


def _page_of(store: Store, name: str) -> Response:
    """Redirect from a study's name to its page."""
    if pages := _pages(store, name):
        return RedirectResponse(f"/{quote(name)}/{quote(pages[0])}", headers=HEADERS)
    return PlainTextResponse("No such report.\n", 404, HEADERS)


@contextlib.contextmanager
def reports_server(store: Store, host: str, port: int, auth: str = "") -> Iterator[int]:
    """Serve the store's reports in a thread until the block ends; `auth` is `user:password`, empty means no sign-in.

    Yields the port. OSError if it is taken.
    """
    with listen(host, port) as listening:
        config = uvicorn.Config(
            reports_app(store, auth),
            log_config=None,  # do not log requests
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
