"""What a command starts ends with it, however it ends; and it says in one sentence what it could not go on without."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from specdyn.flows.engine.processes import MOST_RESTARTS, Part, Started, started

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 20.0
"""In which everything has to be over."""
PROGRAM = """
import hashlib, os, subprocess, sys, time
from specdyn.flows.engine.processes import NotStarted, Part, Supervisor

supervisor = Supervisor("The work")
log = supervisor.all.folder / "child.log"
log.write_text("why it died")
with supervisor.at_work(native_log=True):
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", {child!r}], start_new_session=True)
    part = Part(name="The child", alive=lambda: child.poll() is None, ours={ours}, log=str(log))
    with supervisor.all.needed(part):
        os.write(2, b"a hundred lines of C++")
        print(os.getpid(), child.pid, supervisor.all.folder, flush=True)
        {work}
"""
SLEEPS = "import time; time.sleep(600)"
IN_C_CODE = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
"""Minutes in which the main thread sees no signal."""


class Program:
    """A supervised program that starts a child, and what it says of itself."""

    def __init__(self, child: str = SLEEPS, ours: bool = True, work: str = IN_C_CODE) -> None:
        command = [sys.executable, "-c", PROGRAM.format(child=child, ours=ours, work=work)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.pid, self.child, folder = self.process.stdout.readline().split()
        self.folder = Path(folder)

    def left(self) -> list[str]:
        """What there still is of what it started."""
        runs = command_line(self.child).startswith(sys.executable)
        return [*(["child"] if runs else []), *(["folder"] if self.folder.exists() else [])]


def command_line(pid: str) -> str:
    return subprocess.run(["ps", "-o", "command=", "-p", pid], capture_output=True, text=True, check=False).stdout


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Starts programs, and kills them in the end."""
    with contextlib.ExitStack() as stack:

        def start(**options: str | bool) -> Program:
            made = Program(**options)  # type: ignore[arg-type]
            stack.enter_context(made.process)
            stack.callback(made.process.kill)
            return made

        yield start


@pytest.mark.parametrize(("number", "by"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_ends_all_in_one_line_also_while_the_main_thread_is_in_c_code(
    number: signal.Signals, by: str, program: Callable[..., Program]
) -> None:
    started = program()
    assert started.left() == ["child", "folder"]
    started.process.send_signal(number)
    _, said = started.process.communicate(timeout=SECONDS)
    assert started.process.returncode == 128 + number
    assert started.left() == []
    assert said == f"The work was stopped by {by}: finished work is kept, the same command continues from there\n"


@pytest.mark.parametrize(
    "work",
    [IN_C_CODE, "os.fork() or (time.sleep(8), os._exit(0)); time.sleep(600)"],
    ids=["alone", "with a forked process"],
)
def test_killed_at_once_nothing_is_left(work: str, program: Callable[..., Program]) -> None:
    started = program(work=work)
    os.kill(started.process.pid, signal.SIGKILL)
    wait_until(lambda: started.left() == [])
    assert started.process.wait(SECONDS) == -signal.SIGKILL


def test_the_end_of_the_program_is_the_end_of_all(program: Callable[..., Program]) -> None:
    started = program(work="pass")
    _, said = started.process.communicate(timeout=SECONDS)
    assert (started.process.returncode, said, started.left()) == (0, "", [])


def test_a_part_of_its_own_that_dies_is_started_again_so_many_times(program: Callable[..., Program]) -> None:
    started = program(child="import time; time.sleep(0.1)")
    out, said = started.process.communicate(timeout=(MOST_RESTARTS + 1) * SECONDS)
    assert started.process.returncode == 1
    lines = [line.split("; its log is ") for line in said.splitlines()]
    died = "The work: The child has died: finished work is kept, "
    again, over = "starting again from there", "the same command continues from there"
    assert [line for line, _ in lines] == [died + again] * MOST_RESTARTS + [died + over]
    for _, log in lines:
        assert Path(log).read_text() == "why it died"
        Path(log).unlink()
    rounds = [line.split() for line in out.splitlines()]
    assert [pid for pid, _, _ in rounds] == [started.pid] * MOST_RESTARTS, "the command stays the same process"
    folders = {str(started.folder), *(folder for _, _, folder in rounds)}
    assert len(folders) == MOST_RESTARTS + 1
    assert not [folder for folder in folders if Path(folder).exists()]


def test_what_does_not_start_is_tried_again_so_many_times(program: Callable[..., Program]) -> None:
    started = program(work="raise NotStarted('The cluster did not start')")
    _, said = started.process.communicate(timeout=(MOST_RESTARTS + 1) * SECONDS)
    lines = said.splitlines()
    tried = "The work: The cluster did not start: finished work is kept, starting again from there"
    assert lines[:MOST_RESTARTS] == [tried] * MOST_RESTARTS
    assert tried not in lines[MOST_RESTARTS:]
    assert lines[-1].endswith("NotStarted: The cluster did not start")
    assert (started.process.returncode, started.left()) == (1, [])


def test_without_a_part_that_others_run_the_program_ends(program: Callable[..., Program]) -> None:
    started = program(child="pass", ours=False)
    _, said = started.process.communicate(timeout=SECONDS)
    sentence, log = said.strip().split("; its log is ")
    assert sentence == (
        "The work: The child does not answer any more: finished work is kept, the same command continues from there"
    )
    assert started.process.returncode == 1
    Path(log).unlink()


def test_a_part_may_be_away_for_as_long_as_it_has_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = {100.0: True, 101.0: False, 115.0: False, 115.5: True, 116.0: False, 130.0: False, 131.0: False}
    seen = []
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    part = Part(name="cluster", alive=lambda: moments[now], ours=False, patience=15.0)
    with started().needed(part):
        for now in moments:  # noqa: B007 - the clock reads it
            seen.append(started().lost())
    assert seen == [None] * 6 + [part]
    assert started().lost() is None


def test_what_one_process_starts_it_starts_under_one_mark() -> None:
    assert started() is started()
    assert isinstance(started(), Started)
