"""Starts several commands at the same moment, with a shared Prefect server."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from helpers.pipelines import ROOT, at_server, command


@contextmanager
def at_once(folder: Path, commands: Sequence[Sequence[str]]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """The commands as processes that use the tests' Prefect server; each writes its output to a file in the folder."""
    environment = {**os.environ, **at_server()}
    with ExitStack() as stack:
        processes = []
        for i, arguments in enumerate(commands):
            out = stack.enter_context(said(folder, i).open("wb"))
            process = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=out, stderr=out, env=environment)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        yield processes


def said(folder: Path, i: int) -> Path:
    """The file with the output of the command of that number."""
    return folder / f"said-{i}"


def ended_well(folder: Path, commands: Sequence[Sequence[str]], seconds: float) -> list[str]:
    """Start the commands at once; returns the output of each. AssertionError if one fails or hangs."""
    with at_once(folder, commands) as processes:
        codes = [process.wait(timeout=seconds) for process in processes]
    told = [said(folder, i).read_text() for i in range(len(commands))]
    assert codes == [0] * len(commands), "\n".join(told)
    return told
