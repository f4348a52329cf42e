"""The pages and figures of a store's reports over HTTP, whether the store is a folder or a bucket."""

import base64
import contextlib
import hmac
import mimetypes
import socket
import threading
from collections.abc import Iterator
from pathlib import PurePosixPath

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from specdyn.storage.access import objects
from specdyn.storage.places import Store

SERVED = {".html", ".png", ".svg"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'self' data:; style-src 'self' 'unsafe-inline'",
}
STOP_SECONDS = 2
"""For answers that are on their way when the server is stopped."""


def reports_app(store: Store, auth: str = "") -> Starlette:
    """The application that answers; `auth` is `user:password`, empty lets all in."""
    signed_in = f"Basic {base64.b64encode(auth.encode()).decode()}".encode()

    # No coroutine, so that a slow bucket keeps nobody else waiting.
    def report(request: Request) -> Response:
        if auth and not hmac.compare_digest(request.headers.get("Authorization", "").encode(), signed_in):
            asks = {**HEADERS, "WWW-Authenticate": 'Basic realm="specdyn"'}
            return PlainTextResponse("Sign in with the service's user and password.\n", 401, asks)
        path = PurePosixPath(request.path_params["path"])
        # What starts with a dot leads elsewhere or is hidden; a backslash or a null byte means more to some systems.
        safe = not any(part.startswith((".", "/")) or set(part) & {"\\", "\0"} for part in path.parts)
        if safe and path.suffix in SERVED:
            with contextlib.suppress(FileNotFoundError, objects.StoreError):
                content = objects.read(f"{store.reports}/{path}")
                return Response(content, headers=HEADERS, media_type=mimetypes.types_map[path.suffix])
        return PlainTextResponse("No such report.\n", 404, HEADERS)

    return Starlette(routes=[Route("/{path:path}", report)])


@contextlib.contextmanager
def reports_server(store: Store, host: str, port: int, auth: str = "") -> Iterator[int]:
    """Serve the store's reports in a thread until the block ends; `auth` is `user:password`, empty lets all in.

    Gives the port. OSError where it is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        config = uvicorn.Config(
            reports_app(store, auth),
            log_config=None,  # requests are not worth a line
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
