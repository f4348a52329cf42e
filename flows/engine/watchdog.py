"""Ends everything that a command started once the command is gone, however it ended; runs as a separate process.

It holds the reading end of a pipe whose other end only the command has: when the command ends, the pipe closes, even by
SIGKILL, on Linux and macOS. It uses only the standard library, so it starts in 20 ms.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time

POLL_SECONDS = 1.0
KILL_SECONDS = 3.0


def marked(mark: str) -> list[int]:
    """Other processes that were started with `mark`, a NAME=VALUE, in their environment, except zombies."""
    if not os.path.isdir("/proc/self"):
        command = ["ps", "axEww", "-o", "pid=,command="]
        lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        found = [int(line.split(maxsplit=1)[0]) for line in lines if mark in line.split()]
    else:
        found = [int(name) for name in os.listdir("/proc") if name.isdigit() and mark.encode() in _environment(name)]
    return [pid for pid in found if pid != os.getpid()]


def _environment(pid: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def kill_marked(mark: str) -> None:
    """Kill every process with the mark, repeatedly until there is none, as they may start others."""
    end = time.monotonic() + KILL_SECONDS
    while (found := marked(mark)) and time.monotonic() < end:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def main() -> None:
    """Wait for the command to end; arguments are the mark, the folder to remove and the command's pid."""
    mark, folder, command = sys.argv[1:4]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A process forked from the command also holds the pipe, so the parent is checked, too.
    while os.getppid() == int(command):
        if select.select([0], [], [], POLL_SECONDS)[0]:
            break
    kill_marked(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
