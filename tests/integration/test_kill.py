"""SIGKILL of a training worker and of the whole program; the same command ends with the undisturbed bits."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pipelines import NAME, ROOT, call, command, files
from topology import below, command_line

from storage.leftovers import remove_leftovers

pytestmark = pytest.mark.integration

ARGUMENTS = ("run", NAME, "--preset", "long", "--weight-decays", "1", "--no-report", "--store")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the sweep leaves when nobody kills anything."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    result = call(*ARGUMENTS, str(store), driver=True)
    assert result.returncode == 0, result.stderr
    return products(store)


def products(store: Path) -> dict[str, bytes]:
    """Checkpoints and the chunks of all results: what must be equal; times, logs and unfinished writes apart."""
    remove_leftovers(str(store), older_than=0.0)
    kept = files(store)
    return {
        path: data
        for path, data in kept.items()
        if "/c/" in path or (path.endswith(".safetensors") and "/state/" not in path)
    }


def differing(store: Path, undisturbed: dict[str, bytes]) -> list[str]:
    """The paths of what is missing, too much or not of the same bytes."""
    there = products(store)
    return sorted(path for path in there.keys() | undisturbed.keys() if there.get(path) != undisturbed.get(path))


class Program:
    """The sweep as a process of its own, and everything that it starts."""

    def __init__(self, folder: Path) -> None:
        self.store, self.out = folder / "store", folder / "out"
        self._seen: set[int] = set()
        with self.out.open("wb") as out:
            arguments = command(*ARGUMENTS, str(self.store), driver=True)
            self.process = subprocess.Popen(arguments, cwd=ROOT, stdout=out, stderr=out)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, while the process lives."""
        until = time.monotonic() + 120
        while not condition():
            assert self.process.poll() is None, self.out.read_text()
            assert time.monotonic() < until, self.out.read_text()
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """Processes that work on a unit."""
        self._seen |= below(self.process.pid).keys()
        return [pid for pid in self._seen if command_line(pid).startswith("ray::run_unit")]

    def kill(self) -> None:
        """SIGKILL of the program; what it started is ended by `clean`, or by itself."""
        self._seen |= below(self.process.pid).keys()
        self.process.kill()
        self.process.wait()

    def clean(self) -> None:
        """End whatever is left."""
        self.kill()
        for pid in self._seen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The sweep, started; nothing of it is left afterwards."""
    started = Program(tmp_path)
    yield started
    started.clean()


def checkpoints(store: Path) -> int:
    """How many checkpoints lie in the store."""
    return sum(path.parent.name != "state" for path in store.rglob("step=*.safetensors"))


def test_killed_worker_and_killed_program_lose_nothing(undisturbed: dict[str, bytes], program: Program) -> None:
    store = program.store
    total = sum(path.endswith(".safetensors") for path in undisturbed)
    program.wait_for(lambda: checkpoints(store) >= 3)
    workers = program.workers()
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    before = checkpoints(store)
    assert before < total - 4
    program.wait_for(lambda: checkpoints(store) >= before + 2)
    program.kill()
    assert not list(store.rglob("manifest.json")), "the program was to be killed in training"
    result = call(*ARGUMENTS, str(store), driver=True)
    assert result.returncode == 0, result.stderr
    assert differing(store, undisturbed) == []


def test_killed_between_blocks_the_analysis_goes_on_and_repeats_nothing(
    undisturbed: dict[str, bytes], program: Program
) -> None:
    def markers() -> list[Path]:
        return list(program.store.rglob("*.commits/*/*.json"))

    program.wait_for(lambda: len(markers()) >= 6)
    program.kill()
    program.clean()
    there = {path: path.stat().st_mtime_ns for path in markers()}
    result = call(*ARGUMENTS, str(program.store), driver=True)
    assert result.returncode == 0, result.stderr
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert differing(program.store, undisturbed) == []
