"""What one more run costs a sweep of 10, 100, 1,000 and 10,000: the flow itself, from its plan to its cube.

All runs but one are put into the store as copies of one that was trained and analysed; the flow is called for them and
for one more, which it trains (20 steps of a small network) and analyses. Each call is in a process of its own, whose
peak memory is told. `python -m tests.benchmarks.one_more` does this in a folder up to 10,000 runs, and on an S3 server
20 ms away up to 1,000; with `--short` up to 100.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of tests import one another by this

from helpers.many_runs import SETTINGS, SPEC, put_copies, seeds_of
from helpers.pipelines import ROOT, sweep
from helpers.prefect_here import prefect_here
from specdyn.storage.places import Store
from tests.benchmarks.measured import slow_server, table

IN_A_FOLDER = (10, 100, 1000, 10_000)
ON_S3 = (10, 100, 1000)
SHORT = (10, 100)
SECONDS = 0.02
"""That the server takes for a request."""
ASKED = {"weight_decays": [0.0], "settings": SETTINGS, "analyses": ["spectrum"]}
HEADINGS = ("runs", "add one run", "CPU time", "requests", "sent and received", "peak memory", "before the call")


def called(store: str, runs: int) -> dict[str, float]:
    """Seconds of a call for so many runs, and this process's peak memory in bytes before and after it."""
    started, since, used = _peak(), time.perf_counter(), time.process_time()
    outcome = sweep(store, executor="inline", sweep="many", seeds=list(range(runs)), **ASKED)
    seconds, cpu = time.perf_counter() - since, time.process_time() - used
    assert outcome.measured == runs, outcome
    return {"seconds": seconds, "cpu": cpu, "peak": _peak(), "before": started, "trainings": outcome.work.trainings}


def _peak() -> float:
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_process(store: str, runs: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.one_more", "--call", store, str(runs)]
    env = {**os.environ, "PREFECT_API_URL": _api(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _api() -> str:
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value())


def filled(store: Store, runs: int) -> None:
    """Have a store say that a sweep of so many runs is done, its cube as well."""
    in_process(store.url, 1)
    specs = seeds_of(SPEC, runs)
    put_copies(specs[0], specs[1:], store)
    in_process(store.url, runs)


def cells(runs: int, found: dict[str, float], requests: str = "-", moved: str = "-") -> tuple[str, ...]:
    """A line of the table."""
    assert found["trainings"] == 1
    peak, before = (f"{found[name] / 2**20:.0f} MiB" for name in ("peak", "before"))
    return f"{runs:,}", f"{found['seconds']:.1f} s", f"{found['cpu']:.1f} s", requests, moved, peak, before


def in_a_folder(counts: Sequence[int]) -> list[tuple[str, ...]]:
    """The lines of a local store."""
    lines = []
    for runs in counts:
        with tempfile.TemporaryDirectory() as folder:
            filled(Store(folder), runs)
            lines.append(cells(runs, in_process(folder, runs + 1)))
    return lines


def on_s3(counts: Sequence[int]) -> list[tuple[str, ...]]:
    """The lines of a store on an S3 server, which is slow only while a run is added."""
    lines = []
    with slow_server() as (proxy, server):
        for runs in counts:
            store = Store(server.fresh_store())
            filled(store, runs)
            proxy.forget()
            with proxy.failing(latency=SECONDS):
                found = in_process(store.url, runs + 1)
            moved = f"{(proxy.received + proxy.sent) / 1e6:.2f} MB"
            lines.append(cells(runs, found, f"{proxy.count:,}", moved))
    return lines


def rows() -> list[tuple[str, ...]]:
    """For `make bench`: one more run of a sweep of 100 beside one more of 10."""
    with prefect_here():
        (_, small, *_), (_, large, *_, peak, _) = in_a_folder(SHORT)
    ratio = float(small.split()[0]) / float(large.split()[0])
    how = f"the flow adds a run to a sweep of 10 (plain) and of 100 (ours), in a folder; peak memory {peak}"
    return [("one more run", small, large, f"{ratio:.2f}x", how)]


def main(arguments: Sequence[str]) -> None:
    """Print both tables."""
    if arguments[:1] == ["--call"]:
        print(json.dumps(called(arguments[1], int(arguments[2]))))
        return
    short = "--short" in arguments
    with prefect_here():
        table("In a folder", HEADINGS, in_a_folder(SHORT if short else IN_A_FOLDER))
        table("On S3, 20 ms a request", HEADINGS, on_s3(SHORT if short else ON_S3))


if __name__ == "__main__":
    main(sys.argv[1:])
