"""The command as a process of its own, with everything that it starts: watched, killed in parts, cleaned up."""

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
"""Words of the command line of each part."""
WORKER = "ray::run_unit"
"""The same of a worker of Ray that has a unit of work."""


class Program:
    """The command as a process of its own, and everything that it starts, known by a variable of the environment."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], env: Mapping[str, str], driver: bool = False) -> None:
        name, value = "SPECDYN_TESTED", uuid.uuid4().hex
        self._mark, self._out = f"{name}={value}", folder / f"said-{value}"
        with self._out.open("wb") as out:
            environment = {**os.environ, **env, name: value}
            self.process = subprocess.Popen(
                command(*arguments, driver=driver), cwd=ROOT, env=environment, stdout=out, stderr=out
            )

    def said(self) -> str:
        """All that it has printed."""
        return self._out.read_text()

    def lines(self) -> list[str]:
        """What it has printed of ends and beginnings."""
        return [line for line in self.said().splitlines() if KEPT in line or "C++" in line or "state-dump" in line]

    def wait_for(self, condition: Callable[[], bool], pause: float = 0.02) -> None:
        """Wait until the condition holds, while the process lives; with a pause between looks that cost something."""
        until = time.monotonic() + 180
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(pause)

    def running(self, words: str = "") -> list[int]:
        """Its processes whose command line has the words."""
        return [pid for pid in marked(self._mark) if words in command_line(pid)]

    def folder(self) -> Path:
        """The folder of its sockets, logs and database."""
        (raylet,) = self.running(PARTS["raylet"])
        found = re.search(r"--raylet_socket_name=(\S+)/r/session_", command_line(raylet))
        assert found
        return Path(found[1])

    def end(self, number: signal.Signals) -> int:
        """Signal the command alone; returns its code once nothing of it is left, which takes seconds."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Its code, once nothing of it is left; AssertionError where something is after that time."""
        until = time.monotonic() + seconds
        code = self.process.wait(seconds)
        while left := [command_line(pid) for pid in self.running()]:
            assert time.monotonic() < until, left
            time.sleep(0.1)
        return code

    def clean(self) -> None:
        """End whatever is left, and remove the logs that it named."""
        self.process.kill()
        self.process.wait()
        for pid in self.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for line in self.lines():
            if AGAIN in line:
                Path(line.split(AGAIN)[1]).unlink()
