"""`python -m tests.benchmarks.gpu`: measures on the GPU and prints Markdown; `--short` does a little of it anywhere."""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import torch

from specdyn.tasks.evaluation.environment import fix_cublas_workspace, pick_device, use_threads
from tests.benchmarks.gpu import drivers, kernels, paper, shares, steps
from tests.benchmarks.gpu.machine import Budget, Keep, Table, describe

PARTS: dict[str, Callable[[torch.device, bool, Budget, Keep], Table]] = {
    "kernels": kernels.measure,
    "drivers": drivers.measure,
    "training": steps.measure,
    "shares": shares.measure,
    "paper-0": functools.partial(paper.measure, weight_decay=0.0),
    "paper-1": functools.partial(paper.measure, weight_decay=1.0),
}
SECONDS = {"kernels": 65.0, "drivers": 30.0, "training": 115.0, "shares": 40.0, "paper-0": 155.0, "paper-1": 155.0}
TOGETHER = (("kernels",), ("drivers",), ("training",), ("shares",), ("paper-0", "paper-1"))
"""Parts that run at the same time: the last two leave most of a GPU idle."""
ALL_SECONDS = 470.0
GRACE = 1.15
"""How much longer than its time a part may take, for what cannot be interrupted."""
ROOT = Path(__file__).parents[3]


def run_part(name: str, short: bool, seconds: float) -> None:
    """One part, in this process; prints its table after each row, as JSON in a line."""
    use_threads(1 if short else min(8, os.cpu_count() or 1))
    warnings.simplefilter("ignore")
    device = pick_device()

    def keep(table: Table) -> None:
        print(json.dumps(asdict(table)), flush=True)

    keep(PARTS[name](device, short, Budget(seconds), keep))


def in_process(name: str, short: bool, left: float) -> Table:
    """One part in a process of its own, ended where it takes too long; what it did not come to is left out by name."""
    given = min(SECONDS[name], left / GRACE)
    command = [sys.executable, "-m", __package__, "--part", name, "--seconds", str(given), *(["--short"] * short)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as part:
        try:
            printed, errors = part.communicate(timeout=min(GRACE * given + 15, left))
            problem = f"failed: {errors.strip().splitlines()[-1] if errors.strip() else part.returncode}"
        except subprocess.TimeoutExpired:
            part.kill()
            printed, problem = part.communicate()[0], "did not end within its time"
    tables = [line for line in printed.splitlines() if line.startswith("{")]
    table = read_table(tables[-1]) if tables else Table(title=name, headings=("-",))
    if part.returncode:
        table.left_out.append(f"the rest of {name}, which {problem}")
    return table


def read_table(text: str) -> Table:
    """A table from the JSON that a part prints."""
    body = json.loads(text)
    rows = [tuple(row) for row in body["rows"]]
    return Table(title=body["title"], headings=tuple(body["headings"]), rows=rows, left_out=body["left_out"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 where there is no GPU and the short form was not asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--short", action="store_true", help="small networks and few steps, also on a CPU")
    parser.add_argument("--describe", action="store_true", help="only say what would be used")
    parser.add_argument("--part", choices=PARTS, help="one part, in this process, as JSON")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for that part")
    given = parser.parse_args(arguments)
    fix_cublas_workspace()
    if given.part:
        run_part(given.part, given.short, given.seconds)
        return 0
    print(describe(pick_device()), flush=True)
    if pick_device().type != "cuda" and not given.short:
        print(f"torch {torch.__version__} sees no GPU here: nothing to measure (--short runs a little on the CPU)")
        return 2
    if given.describe:
        return 0
    since = time.monotonic()
    for names in TOGETHER:
        left = max(1.0, ALL_SECONDS - (time.monotonic() - since))
        with ThreadPoolExecutor(len(names)) as pool:
            for table in pool.map(lambda name, left=left: in_process(name, given.short, left), names):  # type: ignore[misc]
                print("\n" + table.markdown(), flush=True)
    print(f"Measured in {time.monotonic() - since:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
