"""What an analysis beside a recorder costs the process that trains: its CPU seconds with and without, in turns."""

import resource
import statistics
import sys
import tempfile
import time

from specdyn.storage.places import Store
from specdyn.tasks.evaluation.environment import use_threads
from specdyn.tasks.recording.recorder import Recorder
from tests.benchmarks.measured import table
from tests.benchmarks.recording import CASES, Loop

TURNS = 3
EVERY = 25
USUAL_ROUNDS = 8
"""Steps that are recorded in a turn."""


def row(name: str, preset: str, store: Store) -> tuple[str, ...]:
    """CPU seconds of training a turn, and what the analysis itself took."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    steps, loop = EVERY * USUAL_ROUNDS, Loop(name, preset, store)
    loop.run(5, Recorder(str(store), name, enabled=False), 0)
    for turn in range(TURNS):
        for analyse in (False, True) if turn % 2 else (True, False):
            recorder = Recorder(str(store), f"{name}-{turn}-{analyse}", every=EVERY, analyse=analyse)
            before = time.process_time()
            loop.run(steps, recorder, 0)
            seconds[analyse].append(time.process_time() - before)
            recorder.close()
            assert recorder.errors == []
    ratios = [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
    beside = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        f"{name}, {preset}",
        f"{statistics.median(seconds[False]):.2f} s",
        f"{statistics.median(seconds[True]):.2f} s",
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        f"{(beside.ru_utime + beside.ru_stime) / TURNS:.1f} s",
    )


def main(*names: str) -> None:
    """Print a table, one network a call: the last column is of all children so far."""
    use_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lines = [row(name, CASES[name][0], Store(folder)) for name in names]
    headings = ("network", "without analysis", "with", "ratio", "CPU of the analysis")
    table(
        f"CPU seconds of the process that trains {EVERY * USUAL_ROUNDS} steps, 1 thread, {TURNS} turns", headings, lines
    )


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["image_classification"]))
