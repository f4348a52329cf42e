"""Runs the command as a process with everything that it starts: watches it, kills parts, cleans up."""

import contextlib
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from helpers.pipelines import ROOT, command
from helpers.topology import command_line
from specdyn.flows.engine.watchdog import marked

STOP_SECONDS = 5.0
KEPT = "finished work is kept"
AGAIN = "starting again from there; its log is "
PARTS = {"raylet": "/raylet/raylet ", "GCS": "/gcs/gcs_server ", "Prefect": "prefect.server.api.server:create_app"}
"""Words in the command line of each part."""
WORKER = "ray::run_unit"
"""The same for a Ray worker that runs a unit of work."""


class Program:
    """The command as a process, and everything that it starts, identified by an environment variable."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], env: Mapping[str, str], driver: bool = False) -> None:
        name, value = "SPECDYN_TESTED", uuid.uuid4().hex
        self._mark, self._out = f"{name}={value}", folder / f"said-{value}"
        with self._out.open("wb") as out:
            environment = {**os.environ, **env, name: value}
            self.process = subprocess.Popen(
                command(*arguments, driver=driver), cwd=ROOT, env=environment, stdout=out, stderr=out
            )

    def said(self) -> str:
        """Its output so far."""
        return self._out.read_text()

    def lines(self) -> list[str]:
        """The lines of its output about stopping and restarting."""
        return [line for line in self.said().splitlines() if KEPT in line or "C++" in line or "state-dump" in line]

    def wait_for(self, condition: Callable[[], bool], pause: float = 0.02) -> None:
        """Wait until the condition holds while the process lives; `pause` is for expensive conditions."""
        until = time.monotonic() + 180
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(pause)

    def running(self, words: str = "") -> list[int]:
        """Its processes whose command line contains the words."""
        return [pid for pid in marked(self._mark) if words in command_line(pid)]

    def folder(self) -> Path:
        """The folder of its sockets, logs and database."""
        (raylet,) = self.running(PARTS["raylet"])
        found = re.search(r"--raylet_socket_name=(\S+)/r/session_", command_line(raylet))
        assert found
        return Path(found[1])

    def end(self, number: signal.Signals) -> int:
        """Signal only the command; returns its exit code once nothing of it is left, which takes seconds."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit code, once nothing of it is left; AssertionError if something is after that time."""
        until = time.monotonic() + seconds
        code = self.process.wait(seconds)
        while left := [command_line(pid) for pid in self.running()]:
            assert time.monotonic() < until, left
            time.sleep(0.1)
        return code

    def clean(self) -> None:
        """End everything that is left, and remove the logs that it named."""
        self.process.kill()
        self.process.wait()
        for pid in self.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for line in self.lines():
            if AGAIN in line:
                Path(line.split(AGAIN)[1]).unlink()
