"""Serves the reports of a store to browsers, whether the store is a folder or a bucket."""

import base64
import contextlib
import hmac
import mimetypes
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from specdyn.storage.access import objects
from specdyn.storage.places import Store

SERVED = {".html", ".png", ".svg"}


def find(store: Store, path: str) -> tuple[bytes, str] | None:
    """The bytes and media type of a file below the store's reports; None where there is none or it lies elsewhere."""
    parts = [unquote(part) for part in urlsplit(path).path.split("/") if part]
    if not parts or any(part.startswith(".") or set(part) & {"/", "\\", "\0"} for part in parts):
        return None
    name = "/".join(parts)
    suffix = name[name.rfind(".") :]
    if suffix not in SERVED:
        return None
    try:
        return objects.read(f"{store.reports}/{name}"), mimetypes.types_map[suffix]
    except (FileNotFoundError, objects.StoreError):
        return None


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_GET(self) -> None:
        if not self._let_in():
            self._answer(HTTPStatus.UNAUTHORIZED, b"Sign in with the service's user and password.\n", "text/plain")
            return
        found = find(self.server.store, self.path)
        if found is None:
            self._answer(HTTPStatus.NOT_FOUND, b"No such report.\n", "text/plain")
            return
        self._answer(HTTPStatus.OK, *found)

    def _let_in(self) -> bool:
        if not self.server.auth:
            return True
        wanted = f"Basic {base64.b64encode(self.server.auth.encode()).decode()}"
        return hmac.compare_digest(self.headers.get("Authorization", "").encode(), wanted.encode())

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="specdyn"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'self' data:; style-src 'self' 'unsafe-inline'")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are not worth a line."""


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], store: Store, auth: str) -> None:
        super().__init__(address, _Handler)
        self.store, self.auth = store, auth


@contextlib.contextmanager
def reports_server(store: Store, host: str, port: int, auth: str = "") -> Iterator[int]:
    """Serve the store's reports in a thread until the block ends; `auth` is `user:password`, empty lets all in.

    Gives the port. OSError where it is taken.
    """
    with _Server((host, port), store, auth) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
