"""The whole service as a process, as started by `specdyn serve`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from helpers.topology import below, still_runs, wait_until
from specdyn.flows.engine.ready_database import copy_ready

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
STOP_SECONDS = 90.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
IMPATIENT = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3"}
USERS_OWN = ("PREFECT_", "RAY_", "SPECDYN_")


@dataclass(frozen=True, slots=True)
class Served:
    """A running service: its addresses and its log."""

    ui: str
    api: str
    reports: str
    ray: str
    store: Path
    log: Path

    def ask(self, path: str, question: dict[str, Any] | None = None) -> Any:
        """The API's answer to a GET, or to a POST of the question with the token that it asks for."""
        if question is None:
            return _json(f"{self.api}{path}")
        client = "tests"
        token = _json(f"{self.api}/csrf-token?client={client}")["token"]
        headers = {"Content-Type": "application/json", "Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
        return _json(urllib.request.Request(f"{self.api}{path}", json.dumps(question).encode(), headers))

    def flow_runs(self, scheduled: bool = False) -> int:
        """How many flow runs were started by hand, or created by a schedule."""
        return sum(run["auto_scheduled"] is scheduled for run in self.ask("/flow_runs/filter", {}))

    def open_ports(self) -> list[str]:
        """Which of its addresses something listens on."""
        return [url for url in (self.ui, self.reports, f"tcp://{self.ray}") if _listens(url)]


@contextmanager
def served(folder: Path, *options: str, **variables: str) -> Iterator[Served]:
    """Serve a separate store on free ports of this machine; it is an error if anything is left running at the end.

    `variables` are added to its environment.
    """
    with started_service(folder, *options, **variables) as (process, running):
        try:
            yield running
        finally:
            _stop(process, running.log)
    assert not running.open_ports(), f"the service ended and {running.open_ports()} are still served"


@contextmanager
def started_service(
    folder: Path, *options: str, program: Sequence[str] = ("-m", "specdyn"), **variables: str
) -> Iterator[tuple["subprocess.Popen[bytes]", Served]]:
    """A service that may be ended in any way; a second one in the same folder continues from there.

    Its database has all tables already, if such a database is cached.
    """
    log, store, home = folder / "serve.log", folder / "store", folder / "prefect"
    if not home.exists():
        home.mkdir()
        copy_ready(home / "prefect.db")
    arguments = ("serve", "--store", str(store), "--port", "0", "--reports-port", "0", *options)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(USERS_OWN)}
    environment = {**kept, **ONE_THREAD, **IMPATIENT, "PREFECT_HOME": str(home), **variables}
    with log.open("wb") as output:
        command = [sys.executable, *program, *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        said = _wait_until_ready(process, log)
        yield process, Served(said["UI"], said["API"], said["reports"], said["Ray"].split()[0], store, log)
    finally:
        started = below(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: not any(still_runs(*each) for each in started.items()), "all that it started ends", 10.0)


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> dict[str, str]:
    """The service's start-up lines, by their first word."""
    end = time.monotonic() + START_SECONDS
    while True:
        lines = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
        said = {words[0]: words[1] for words in lines if len(words) == 2}
        if "ready" in said:
            return said
        assert process.poll() is None, f"the service ended:\n{log.read_text()}"
        assert time.monotonic() < end, f"the service is not ready:\n{log.read_text()}"
        time.sleep(0.2)


def _stop(process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Stop the service like an operator; AssertionError if it hangs or fails."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"the service did not stop:\n{log.read_text()}") from None
    assert code == 0, f"the service ended with {code}:\n{log.read_text()}"


def _json(request: urllib.request.Request | str) -> Any:
    """The answer's JSON; retries, like Prefect's own client, if the server's database is busy."""
    for _ in range(20):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
            time.sleep(0.5)
    raise AssertionError("the server's database stays busy")


def _listens(url: str) -> bool:
    place = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((place.hostname, place.port)) == 0
