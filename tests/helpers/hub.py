"""A local Hub for tests: the HTTP routes by which files of model repositories are found and read."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 3
"""Entries per page of a tree listing; further pages are linked."""
Files = Mapping[str, bytes]


@dataclass
class HubServer:
    """A running server: its repositories, its requests, and its pending faults."""

    repositories: dict[str, dict[str, Files]] = field(default_factory=dict)
    """Name -> revision -> path -> content."""
    token: str = ""
    """The required token, unless empty."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of each request."""
    cuts: int = 0
    """How many bodies of files still to truncate."""
    busy: int = 0
    """How many requests for files still to refuse with 503."""
    endpoint: str = ""

    def of_files(self) -> list[tuple[str, str]]:
        """Path and range of the requests for content."""
        return [(path, span) for method, path, span in self.requests if method == "GET" and "/cdn/" in path]


@contextmanager
def serving_hub(repositories: dict[str, dict[str, Files]], token: str = "") -> Iterator[HubServer]:
    """A server of these repositories on a free port."""
    state = HubServer(repositories=repositories, token=token)

    class Handler(_Handler):
        hub = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Do nothing: requests are recorded elsewhere."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.requests.append(("GET", path, self.headers.get("Range", "")))
        if not path.startswith("/cdn/") and not self._allowed():
            return
        if path.startswith("/cdn/"):
            self._file(path.removeprefix("/cdn/"))
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"), parse_qs(url.query))
        else:
            self._resolve(path.strip("/"), url.path)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append(("POST", unquote(self.path), ""))
        if not self._allowed():
            return
        repository, files, _ = self._find(unquote(self.path).removeprefix("/api/models/"), "paths-info")
        if files is None:
            self._refuse(repository)
            return
        asked = body.decode()
        wanted = json.loads(asked)["paths"] if asked.startswith("{") else parse_qs(asked).get("paths", [])
        self._json([one for path in wanted for one in _entries(files, path.rpartition("/")[0]) if one["path"] == path])

    def _allowed(self) -> bool:
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
            return False
        return True

    def _find(self, path: str, route: str) -> tuple[str, Files | None, str]:
        """The repository, the files of the revision, and the path in it; None if they do not exist."""
        parts = path.split("/")
        repository, rest = "/".join(parts[:2]), parts[3:] if parts[2:3] == [route] else []
        revisions = self.hub.repositories.get(repository, {})
        # Revisions may have slashes in their names.
        for count in range(len(rest), 0, -1):
            if (name := "/".join(rest[:count])) in revisions:
                return repository, revisions[name], "/".join(rest[count:])
        return repository, None, ""

    def _api(self, path: str, query: Mapping[str, list[str]]) -> None:
        repository = "/".join(path.split("/")[:2])
        revisions = self.hub.repositories.get(repository)
        if revisions is None:
            self._refuse(repository)
        elif path == repository or path.startswith(f"{repository}/revision/"):
            name = path.removeprefix(repository).removeprefix("/revision/") or "main"
            if name not in revisions:
                self._refuse(repository)
            else:
                self._json({"id": repository, "sha": _sha(name.encode()), "siblings": [], "tags": []})
        elif path == f"{repository}/refs":
            refs = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": _sha(b"")} for name in revisions]
            self._json({"branches": refs, "converts": [], "tags": []})
        else:
            self._tree(path, int(query.get("cursor", ["0"])[0]))

    def _tree(self, path: str, start: int) -> None:
        repository, files, folder = self._find(path, "tree")
        entries = [] if files is None else _entries(files, folder)
        if not entries:
            self._refuse(repository, "EntryNotFound")
            return
        following = f"{self.hub.endpoint}{urlsplit(self.path).path}?cursor={start + PAGE}"
        headers = {"Link": f'<{following}>; rel="next"'} if start + PAGE < len(entries) else {}
        self._json(entries[start : start + PAGE], headers=headers)

    def _resolve(self, path: str, quoted: str) -> None:
        """Redirect, as large files of the Hub are at another address that takes no token."""
        repository, files, name = self._find(path, "resolve")
        if files is None or name not in files:
            self._refuse(repository, "EntryNotFound")
            return
        self.send_response(302)
        self.send_header("Location", f"{self.hub.endpoint}/cdn{quoted}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, path: str) -> None:
        if self.hub.busy:
            self.hub.busy -= 1
            self._json({"error": "busy"}, 503)
            return
        _, files, name = self._find(path, "resolve")
        data = (files or {})[name]
        start, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = data[int(start) : int(end) + 1 if end else None]
        if not part and data:
            self._json({}, 416)
            return
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.hub.cuts and len(part) > 1:
            self.hub.cuts -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
        else:
            self.wfile.write(part)

    def _refuse(self, repository: str, code: str = "") -> None:
        known = repository in self.hub.repositories
        self._json({}, 404, {"X-Error-Code": code or ("RevisionNotFound" if known else "RepoNotFound")})

    def _json(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _entries(files: Files, folder: str) -> list[dict[str, Any]]:
    """The contents of a folder in the Hub's format."""
    before = f"{folder}/" if folder else ""
    below = [path.removeprefix(before) for path in files if path.startswith(before)]
    folders = sorted({path.partition("/")[0] for path in below if "/" in path})
    found: list[dict[str, Any]] = [
        {"type": "directory", "path": before + name, "size": 0, "oid": _sha(name.encode())} for name in folders
    ]
    for name in sorted(path for path in below if "/" not in path):
        data = files[before + name]
        found.append({"type": "file", "path": before + name, "size": len(data), "oid": _sha(data)})
    return found


def _sha(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
