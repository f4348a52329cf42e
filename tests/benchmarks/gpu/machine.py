"""What a measurement was made on, how time is taken on it, and tables of figures."""

import math
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Figures of one part, and what it had no time for or could not do."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table, and below it what was left out."""
        lines = [f"**{self.title}**", "", *map(_line, (self.headings, ("---",) * len(self.headings), *self.rows))]
        return "\n".join([*lines, "", *(f"Left out: {reason}.\n" for reason in self.left_out)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"


Keep = Callable[[Table], None]
"""Is given a part's table after each row, so that none is lost where the part does not come to its end."""


def no_need(table: Table) -> None:
    """For who waits for the whole table."""


@dataclass(slots=True)
class Budget:
    """Seconds that a part may take, counted from when it is made."""

    seconds: float
    since: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that are left, 0 or more."""
        return max(0.0, self.seconds - (time.monotonic() - self.since))

    def share(self, of: int) -> "Budget":
        """A budget of an equal part of what is left."""
        return Budget(self.left / max(1, of))


def describe(device: torch.device) -> str:
    """Device, card, driver, versions and CPU, in one line."""
    cpu = f"{processor()}, {os.cpu_count()} cores"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    if device.type != "cuda":
        return f"CPU: {cpu}; {torch.get_num_threads()} threads; {versions}"
    card = torch.cuda.get_device_properties(device)
    memory = f"{card.total_memory / 2**30:.0f} GiB"
    return f"GPU: {card.name}, {memory}, driver {driver()}, CUDA {torch.version.cuda}; CPU: {cpu}; {versions}"


def processor() -> str:
    """The name of this machine's processor."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def driver() -> str:
    """The version of NVIDIA's driver; `unknown` where nvidia-smi does not tell."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else "unknown"


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], T], device: torch.device, rounds: int = 1) -> tuple[float, T]:
    """Wall time of the fastest of several rounds, and the result of the last."""
    best = math.inf
    for _ in range(rounds):
        synchronise(device)
        since = time.perf_counter()
        result = work()
        synchronise(device)
        best = min(best, time.perf_counter() - since)
    return best, result


def forget_peak(device: torch.device) -> None:
    """Give back cached memory, and count its peak from here on."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> str:
    """Most of the GPU's memory that was in use since `forget_peak`."""
    return f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB" if device.type == "cuda" else "-"


def reason(error: BaseException) -> str:
    """An error in one line."""
    lines: list[Any] = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]
