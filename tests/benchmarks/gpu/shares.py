"""What runs that share a GPU cost one another: one alone, then four at once with a quarter of its memory each."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from specdyn.models.experiments.base import get_experiment
from specdyn.storage.places import Store
from specdyn.tasks.evaluation.environment import pick_device, use_gpu_share, use_threads
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.training.numerics import numerics
from specdyn.tasks.training.training import Loop
from tests.benchmarks.gpu.machine import Budget, Keep, Table, forget_peak, no_need, peak, synchronise

HEADINGS = ("runs at once", "steps/s of each", "of all", "of all, to one alone", "peak memory of each")
TOGETHER = (1, 4)
START_SECONDS = 60.0
"""How much longer than it measures a process may take, to import torch and to start CUDA."""
ROOT = Path(__file__).parents[3]


def measure(device: torch.device, short: bool, budget: Budget, keep: Keep = no_need) -> Table:
    """A row for each number of runs, which are of the paper's modular addition, each in a process of its own."""
    table = Table(title="Runs that share a device", headings=HEADINGS)
    alone = 0.0
    for i, count in enumerate(TOGETHER):
        own = budget.share(len(TOGETHER) - i)
        if own.left < 1:
            table.left_out.append(f"{count} runs at once, for lack of time")
            continue
        given = 0.3 if short else own.left / 3
        found = at_once(count, short, given, own.left if not short else START_SECONDS)
        if len(found) < count:
            table.left_out.append(f"{count - len(found)} of {count} runs at once, which failed or took too long")
        if not found:
            continue
        rates, together = [rate for rate, _ in found], sum(rate for rate, _ in found)
        alone = alone or together
        shown = ", ".join(f"{rate:.0f}" for rate in rates)
        table.rows.append((str(count), shown, f"{together:.0f}", f"{together / alone:.2f}x", found[0][1]))
        keep(table)
    return table


def at_once(count: int, short: bool, given: float, limit: float) -> list[tuple[float, str]]:
    """Steps a second and peak memory of runs that start together; those that fail are left out."""
    command = [sys.executable, "-m", __name__, str(given), str(1 / count), *(["--short"] * short)]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(count)
    ]
    until, found = time.monotonic() + limit, []
    for process in started:
        with process:
            try:
                printed = process.communicate(timeout=max(0.1, until - time.monotonic()))[0]
            except subprocess.TimeoutExpired:
                process.kill()
                continue
        if process.returncode == 0:
            rate, most = json.loads(printed.splitlines()[-1])
            found.append((float(rate), str(most)))
    return found


def train_for(given: float, share: float, short: bool) -> tuple[float, str]:
    """Steps a second over so many seconds, in this process, and its peak memory."""
    use_threads(1)
    device = pick_device()
    use_gpu_share(share)
    experiment = get_experiment("modular_addition")
    spec = experiment.preset("smoke" if short else "paper").spec
    data = load_examples(spec, Store(os.devnull))["train"].to(device)
    loop = Loop(experiment, spec, experiment.net(spec).to(device).train(), data)
    made = 0
    with numerics(spec, device):
        loop.run(0, 3)
        synchronise(device)
        forget_peak(device)
        since = time.perf_counter()
        while time.perf_counter() - since < given:
            loop.run(made, made + 10)
            synchronise(device)
            made += 10
        taken = time.perf_counter() - since
    return made / taken, peak(device)


if __name__ == "__main__":
    print(json.dumps(train_for(float(sys.argv[1]), float(sys.argv[2]), "--short" in sys.argv)))
