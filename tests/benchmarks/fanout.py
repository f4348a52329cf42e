"""Units a second of our fan-out beside bare Ray's, and what a plan of very many units leaves in Prefect's database.

Both call the same function, which does nothing, and have the same number of calls in flight. Ours are blocks of
analyses: 100 runs of 200 blocks in one plan, through `run_units`, each run a Prefect task. Trainings, of which each is
a Prefect task, are measured beside them. `python -m tests.benchmarks.fanout` does 20,000 units; `--short` a few.
"""

import contextlib
import operator
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of tests import one another by this

from helpers.planned import plan_of
from helpers.prefect_here import prefect_here
from specdyn.tasks.plan.units import Unit, Workers
from specdyn.tasks.work import Work
from tests.benchmarks.measured import table

BLOCKS = 200
ROUNDS = 5
HEADINGS = ("what", "bare Ray", "ours", "ratio", "how")
TABLES = ("flow_run", "task_run", "task_run_state", "artifact", "log", "events")


def spread(workers: Workers, advance: Callable[[int], None], count: int) -> Work:
    """A unit of so many calls."""
    made: list[int] = []
    workers.run_all(operator.index, [(i,) for i in range(count)], lambda one: (made.append(one), advance(1)))
    assert sorted(made) == list(range(count))
    return Work()


def nothing(_number: int) -> Work:
    """A unit that does nothing."""
    return Work(trainings=1)


def analyses(runs: int, blocks: int) -> list[Unit]:
    """A plan of so many runs, each analysed in so many calls."""
    return [
        Unit(
            kind="analyses",
            key=f"run{i}",
            label=f"run {i}",
            needs=(),
            function=spread,
            arguments=(blocks,),
            spreads=True,
            parts=blocks,
        )
        for i in range(runs)
    ]


def trainings(runs: int) -> list[Unit]:
    """A plan of so many trainings."""
    return [
        Unit(kind="trainings", key=f"run{i}", label=f"run {i}", needs=(), function=nothing, arguments=(i,))
        for i in range(runs)
    ]


def bare(count: int, in_flight: int) -> None:
    """That many calls of Ray alone."""
    import ray

    remote = ray.remote(lambda number: number)
    waiting, running = list(range(count)), []
    while waiting or running:
        while waiting and len(running) < in_flight:
            running.append(remote.remote(waiting.pop()))
        finished, running = ray.wait(running)
        ray.get(finished)


def ours(units: Sequence[Unit], executor: Any, store: str) -> None:
    """All units of a plan."""
    from specdyn.flows.engine.units import run_units

    ended = run_units(plan_of(units, store), executor)
    assert len(ended.done) == len(units), ended.failures


def cpu_seconds() -> float:
    """Of this process and Ray's workers so far: what is left of a ratio where others use the machine as well."""
    ticks = 0
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if place.name == str(os.getpid()) or (place / "cmdline").read_bytes().startswith(b"ray::"):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    since, used = time.perf_counter(), cpu_seconds()
    call()
    return time.perf_counter() - since, cpu_seconds() - used


def compared(runs: int, executor: Any, logs: str, rounds: int = ROUNDS) -> tuple[str, ...]:
    """Units a second of both, alternating; the ratios are medians of neighbours."""
    count, in_flight = runs * BLOCKS, 2 * executor.slots
    bare(200, in_flight)
    ours(analyses(1, BLOCKS), executor, logs)
    pairs = [
        (timed(lambda: bare(count, in_flight)), timed(lambda: ours(analyses(runs, BLOCKS), executor, logs)))
        for _ in range(rounds)
    ]
    wall, cpu = (sorted(plain[i] / mine[i] for plain, mine in pairs) for i in (0, 1))
    rates = [f"{count / statistics.median(pair[i][0] for pair in pairs):.0f} units/s" for i in (0, 1)]
    how = f"{count:,} units {rounds} times, alternating: {wall[0]:.2f} to {wall[-1]:.2f}"
    cpu_ratio = f"{statistics.median(cpu):.2f}x by CPU time"
    return (f"{count:,} units", *rates, f"{statistics.median(wall):.2f}x, {cpu_ratio}", how)


@contextlib.contextmanager
def most_threads() -> Iterator[list[int]]:
    """The most threads of this process within the block, looked at five times a second."""
    found, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            found[0] = max(found[0], threading.active_count())

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()


def whole(name: str, units: Sequence[Unit], executor: Any, logs: str, database: Path) -> tuple[str, ...]:
    """One large plan: its rate, and what it adds to Prefect's database."""
    from helpers.topology import wait_until

    before, size, parts = counted(database), bytes_of(database), sum(unit.parts for unit in units)
    with most_threads() as threads:
        seconds, _ = timed(lambda: ours(units, executor, logs))
    # What tasks did comes to the database by a queue.
    tasks = before["task_run"] + len(units)
    wait_until(lambda: counted(database)["task_run"] >= tasks, f"{tasks} task runs in {database}", 120.0)
    added = {name: rows - before[name] for name, rows in counted(database).items() if rows - before[name]}
    rows = ", ".join(f"{count:,} {name}" for name, count in added.items())
    grown = f"{(bytes_of(database) - size) / 1e6:.1f} MB"
    return name, f"{parts / seconds:.0f}", str(len(units)), str(threads[0]), rows, grown


def counted(database: Path) -> dict[str, int]:
    """Rows of the tables that grow."""
    with contextlib.closing(sqlite3.connect(database)) as found:
        return {name: found.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}


def bytes_of(database: Path) -> int:
    """Of the database and what it has not written into it yet."""
    return sum(part.stat().st_size for part in database.parent.glob(f"{database.name}*"))


def asked(api: str) -> list[tuple[str, str]]:
    """Milliseconds of what the UI asks the server for, each the slowest of three."""
    lines = []
    for path in ("flow_runs/filter", "task_runs/filter", "artifacts/latest/filter", "artifacts/filter", "logs/filter"):
        request = urllib.request.Request(f"{api}/{path}", b'{"limit": 200}', {"Content-Type": "application/json"})
        taken = []
        for _ in range(3):
            since = time.perf_counter()
            with urllib.request.urlopen(request) as answer:
                answer.read()
            taken.append(time.perf_counter() - since)
        lines.append((f"POST /api/{path}", f"{1000 * max(taken):.0f} ms"))
    return lines


@contextlib.contextmanager
def opened() -> Iterator[tuple[Path, Any, str]]:
    """A Prefect server's database, an executor on two CPUs, and a folder for logs."""
    from prefect.settings import PREFECT_LOGGING_LEVEL, temporary_settings

    from specdyn.flows.engine.executor import RayExecutor
    from specdyn.flows.engine.processes import started
    from specdyn.flows.engine.ray_cluster import ray, start_here
    from specdyn.flows.resources import Resources

    with (
        tempfile.TemporaryDirectory() as logs,
        prefect_here() as database,
        temporary_settings({PREFECT_LOGGING_LEVEL: "ERROR"}),
    ):
        start_here(started().ray_folder, num_cpus=2)
        try:
            yield database, RayExecutor(Resources()), logs
        finally:
            ray.shutdown()


def rows() -> list[tuple[str, ...]]:
    """For `make bench`: units a second."""
    from prefect import flow

    with opened() as (_, executor, logs):
        line: tuple[str, ...] = flow(lambda: compared(5, executor, logs), name="compared")()
    return [("fan-out", *line[1:])]


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    from prefect import flow
    from prefect.settings import PREFECT_API_URL

    runs, single, rounds = (3, 30, 2) if "--short" in arguments else (100, 2000, ROUNDS)
    with opened() as (database, executor, logs):

        def measure() -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
            ratio = compared(min(runs, 10), executor, logs, rounds)
            plans = [
                whole(f"{runs * BLOCKS:,} blocks of {runs} runs", analyses(runs, BLOCKS), executor, logs, database),
                whole(f"{single:,} trainings", trainings(single), executor, logs, database),
            ]
            return [ratio], plans

        ratios, plans = flow(measure, name="measure")()
        table("Fan-out", HEADINGS, ratios)
        table("One plan", ("plan", "units/s", "Prefect tasks", "most threads", "rows", "database"), plans)
        table("What the UI asks then", ("request", "slowest of 3"), asked(str(PREFECT_API_URL.value())))


if __name__ == "__main__":
    main(sys.argv[1:])
