"""How well 1, 2 and 4 workers are kept busy, by units of fixed length: such that sleep, and such that compute.

Efficiency is what the units take by themselves over what the workers had: units x seconds / (workers x wall time).
Computing units are compared with one worker of the same run; this says nothing beyond the cores that the machine has.
`python -m tests.benchmarks.workers`.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of tests import one another by this

from tests.benchmarks.measured import table

WORKERS = (1, 2, 4)
UNITS = 48
SECONDS = 0.25
LOOPS = 4_000_000
HEADINGS = ("workers", "sleeping: wall", "efficiency", "computing: wall", "efficiency")


def sleep(seconds: float) -> float:
    """A unit that waits."""
    time.sleep(seconds)
    return seconds


def compute(loops: int) -> float:
    """A unit that counts; returns the CPU time that it took."""
    since = time.process_time()
    for _ in range(loops):
        pass
    return time.process_time() - since


def wall(executor: Any, function: Callable[[Any], float], value: float, units: int) -> float:
    """Seconds of so many units, once all workers have begun."""
    executor.run_all(function, [(0.01 if function is sleep else 1000,)] * (4 * executor.slots), lambda _: None)
    since, made = time.perf_counter(), list[float]()
    executor.run_all(function, [(value,)] * units, made.append)
    assert len(made) == units
    return time.perf_counter() - since


def measured(workers: int) -> tuple[float, float]:
    """Seconds of sleeping and of computing units on so many workers."""
    import specdyn.flows  # noqa: F401 - sets what Ray reads at import
    from specdyn.flows.engine.executor import RayExecutor
    from specdyn.flows.engine.processes import started
    from specdyn.flows.engine.ray_cluster import ray, start_here
    from specdyn.flows.resources import Resources

    start_here(started().ray_folder, num_cpus=workers)
    try:
        executor = RayExecutor(Resources())
        return wall(executor, sleep, SECONDS, UNITS), wall(executor, compute, LOOPS, UNITS)
    finally:
        ray.shutdown()


def lines() -> list[tuple[str, ...]]:
    """The table."""
    found = {workers: measured(workers) for workers in WORKERS}
    alone = found[1][1]
    return [
        (
            str(workers),
            f"{slept:.2f} s",
            f"{100 * UNITS * SECONDS / (workers * slept):.0f} %",
            f"{computed:.2f} s",
            f"{100 * alone / (workers * computed):.0f} %" if workers <= (os.cpu_count() or 1) else "more than cores",
        )
        for workers, (slept, computed) in found.items()
    ]


def rows() -> list[tuple[str, ...]]:
    """For `make bench`: efficiency of two workers."""
    _, two, _ = lines()
    return [
        ("two workers", "100 %", two[2], "", f"efficiency on {UNITS} units that sleep {SECONDS} s; computing {two[4]}")
    ]


def main(_arguments: Sequence[str]) -> None:
    """Print the table."""
    table(f"{UNITS} units of {SECONDS} s on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", HEADINGS, lines())


if __name__ == "__main__":
    main(sys.argv[1:])
