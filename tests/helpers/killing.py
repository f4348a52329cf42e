"""Restarts a command until it succeeds, while its processes are killed one after another."""

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.programs import PARTS, WORKER, Program
from helpers.topology import command_line, wait_until

COMMAND, A_WORKER = "command", "worker"
VICTIMS = (COMMAND, A_WORKER, *PARTS)
LONGEST_PAUSE = 4.0
"""Seconds between a victim's start and its end."""
START_SECONDS = 300.0
"""Seconds for a part to start, even on a busy machine."""
END_SECONDS = 400.0
LEFT_SECONDS = 15.0


@dataclass(slots=True)
class Toll:
    """What was killed, and how often the command was started."""

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    said: list[str] = field(default_factory=list)
    """The output of each start of the command."""


def killed_until_it_ends(
    folder: Path,
    arguments: Sequence[str],
    env: Mapping[str, str],
    draw: random.Random,
    victims: Sequence[str] = VICTIMS,
) -> Toll:
    """Run the command until it succeeds, killing each victim once in random order; nothing must be left over.

    A command that was killed or gave up is restarted immediately. AssertionError if one fails although nothing was
    killed, hangs, or shows a traceback.
    """
    toll, left = Toll(), draw.sample(victims, len(victims))
    with contextlib.ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="killed-", dir="/tmp")))
        programs: list[Program] = []
        while not programs or programs[-1].process.returncode != 0:
            program = Program(folder, tuple(arguments), {**env, "TMPDIR": str(temporary)})
            stack.callback(program.clean)
            programs.append(program)
            toll.starts += 1
            killed = _killed(program, left, draw)
            toll.kills.update(left[:killed])
            del left[:killed]
            code = _ended(program)
            toll.said.append(program.said())
            assert code == 0 or killed, f"it failed with {code}, and nothing was killed:\n{program.said()}"
            assert "Traceback" not in program.said(), program.said()
        until = time.monotonic() + LEFT_SECONDS
        while alive := [command_line(pid) for program in programs for pid in program.running()]:
            assert time.monotonic() < until, alive
            time.sleep(0.1)
        wait_until(lambda: not _besides_logs(temporary), "nothing is left of temporary files", LEFT_SECONDS)
    return toll


def _ended(program: Program) -> int:
    """The code of a program that ends; AssertionError with what it said where it does not."""
    try:
        return program.process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it has not ended after {END_SECONDS:.0f} s:\n{program.said()}") from None


def _besides_logs(temporary: Path) -> list[str]:
    """Temporary files and folders other than the logs that messages name."""
    return [path.name for path in temporary.iterdir() if path.suffix != ".log"]


def _killed(program: Program, victims: Sequence[str], draw: random.Random) -> int:
    """Kill one victim after another, each some time after it starts, until the command ends; returns how many."""
    passed_over: set[int] = set()
    for killed, victim in enumerate(victims):
        pause = draw.uniform(0, LONGEST_PAUSE)
        if not _waited_for(program, victim, passed_over):
            return killed
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.process.wait(pause)
        if not (found := _waited_for(program, victim, passed_over)):
            return killed
        if victim != A_WORKER:  # everything ends with this victim and is started again
            passed_over |= set(program.running())
        os.kill(draw.choice(found), signal.SIGKILL)
        if victim == COMMAND:
            program.process.wait()
            return killed + 1
    return len(victims)


def _waited_for(program: Program, victim: str, passed_over: set[int]) -> list[int]:
    """The processes of that kind as soon as there are any; empty if the command ends first."""
    end = time.monotonic() + START_SECONDS
    while program.process.poll() is None:
        if victim == COMMAND:
            return [program.process.pid]
        running = program.running(WORKER if victim == A_WORKER else PARTS[victim])
        if found := sorted(set(running) - passed_over):
            return found
        assert time.monotonic() < end, f"there is no {victim}:\n{program.said()}"
        time.sleep(0.1)
    return []
