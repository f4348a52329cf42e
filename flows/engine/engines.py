"""Provides what the flow of a command needs: the user's Prefect server or a temporary one, and supervision."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from specdyn.flows.engine.imports import importing
from specdyn.flows.engine.processes import Part, PartLost, Supervisor, started
from specdyn.flows.engine.reachable import accepts, require_cluster, require_prefect, silence
from specdyn.flows.engine.ready_database import copy_ready, keep_ready
from specdyn.flows.engine.settings import TEMPORARY, patience

WAIT_SECONDS = 3.0
"""Seconds to wait for a cluster that is just starting."""
START_SECONDS = 120.0
ATTEMPTS = 3
ASK_SECONDS = 3.0
PATIENCE_SECONDS = 15.0
"""Seconds that the user's server may be away, for example during a restart."""
BUSY_SECONDS = 300.0
"""Seconds that it may accept connections without answering, for example while many flows start."""
SERVE = (
    "import gc; gc.disable(); import prefect.server.api.server, uvicorn; gc.freeze(); gc.enable(); "  # see `importing`
    "uvicorn.main()"
)
"""The program of a temporary server."""


def require_engines(executor: str, ray_address: str) -> None:
    """ValueError, within seconds, if the named Ray cluster or Prefect server does not answer."""
    if url := os.environ.get("PREFECT_API_URL"):
        require_prefect(url, "PREFECT_API_URL")
    ours = os.environ.get("RAY_ADDRESS", "")
    address, named = (ours, "RAY_ADDRESS") if ours and ray_address in ("", "auto") else (ray_address, "ray_address")
    if executor == "ray" and address:
        require_cluster(address, named, max(patience(), WAIT_SECONDS))


@contextlib.contextmanager
def at_work(title: str, verbose: bool) -> Iterator[Callable[[Any], Any]]:
    """Supervise the block; yields a function that waits for the Prefect server and prepares the flow to run.

    The server starts while the block imports its flow. PartLost if it does not start.
    """
    supervisor = Supervisor(title)
    with supervisor.at_work(native_log=not verbose), contextlib.ExitStack() as stack:
        with importing():
            from prefect.settings import get_current_settings

        if url := get_current_settings().api.url:
            server: _Server = _UsersServer(url, supervisor)
        else:
            server = _TemporaryServer(supervisor.all.folder / "prefect")

        def begin(flow: Any) -> Any:
            part = server.answers()
            stack.enter_context(supervisor.all.needed(part))
            return server.known_to(flow)

        yield begin


class _UsersServer:
    """A permanent server of the user, which keeps the flow's history."""

    def __init__(self, url: str, supervisor: Supervisor) -> None:
        require_prefect(url, "PREFECT_API_URL")
        self._url, self._supervisor, self._gone = url, supervisor, False
        self._asked = self._answered = time.monotonic()

    def answers(self) -> Part:
        name = f"The Prefect server at PREFECT_API_URL={self._url}"
        return Part(name=name, alive=self._alive, ours=False, patience=PATIENCE_SECONDS)

    def _alive(self) -> bool:
        if time.monotonic() - self._asked > ASK_SECONDS:
            silent = bool(silence(self._url))
            self._asked = time.monotonic()
            self._answered = self._answered if silent else self._asked
            self._gone = silent and (not accepts(self._url) or self._asked - self._answered > BUSY_SECONDS)
        return not self._gone

    def known_to(self, flow: Any) -> Any:
        """The flow, marked as cancelled on the server when stopped; otherwise it would be shown as running for ever."""
        return flow.with_options(on_running=[*flow.on_running_hooks, self._remember])

    def _remember(self, _flow: Any, run: Any, _state: Any) -> None:
        from prefect import get_client
        from prefect.states import Cancelled

        def tell() -> None:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(run.id, Cancelled(message="The command was stopped."), force=True)

        self._supervisor.at_stop.append(tell)


class _TemporaryServer:
    """A server of this command, in a folder that is removed with it; the user's own database is not touched."""

    def __init__(self, folder: Path) -> None:
        import prefect
        from prefect.settings import get_current_settings

        settings = get_current_settings()
        self._folder, self._log = folder, folder / "server.log"
        self._given = settings.to_environment_variables(exclude_unset=True)
        self._application = str(prefect.__module_path__.parent)
        self._database = folder / "prefect.db"
        folder.mkdir()
        self._copied = copy_ready(self._database)
        self._attempts = 0
        self._start()

    def _start(self) -> None:
        from prefect.context import refresh_global_settings_context

        self._attempts += 1
        self._url = f"http://127.0.0.1:{_free_port()}"
        own = {
            "PREFECT_HOME": str(self._folder),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self._database}",
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
        }
        program = ["--app-dir", self._application, "--factory", "prefect.server.api.server:create_app"]
        place = ["--host", "127.0.0.1", "--port", self._url.rsplit(":", 1)[1], "--log-level", "error"]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE, *program, *place, "--lifespan", "on"],
                env={**os.environ, **self._given, **own},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C goes to the command, which ends this server
            )
        os.environ["PREFECT_API_URL"] = os.environ[TEMPORARY] = f"{self._url}/api"
        refresh_global_settings_context()

    def answers(self) -> Part:
        """Wait until it answers; if it exits, start it once more, without the copied database and on another port."""
        end = time.monotonic() + START_SECONDS
        while silence(f"{self._url}/api"):
            if self._process.poll() is not None and self._attempts < ATTEMPTS:
                self._without_copy()
                self._start()
            elif self._process.poll() is not None or time.monotonic() > end:
                raise PartLost(
                    f"Prefect's temporary server did not start: {started().kept_log(str(self._log))} says why"
                )
            time.sleep(0.1)
        if not self._copied:
            keep_ready(self._database)
        process = self._process
        return Part(
            name="Prefect's temporary server",
            alive=lambda: process.poll() is None,
            ours=True,
            log=str(self._log),
        )

    def _without_copy(self) -> None:
        """Remove the database, as the copy may be why the server exited."""
        if self._copied:
            for part in self._folder.glob(f"{self._database.name}*"):
                part.unlink()
        self._copied = False

    def known_to(self, flow: Any) -> Any:
        return flow


_Server = _UsersServer | _TemporaryServer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
