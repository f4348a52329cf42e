"""What the library takes: to import, and to analyse a network in memory of a million and of 124 million parameters.

`python -m tests.benchmarks.library`, or with numbers of threads: `python -m tests.benchmarks.library 1 2`.
"""

import statistics
import subprocess
import sys
import time

import torch
from torch import nn

import specdyn as sd
from tests.benchmarks.measured import table

TURNS = 3


def small() -> nn.Module:
    """A million parameters: an MLP of four square layers."""
    return nn.Sequential(*(nn.Linear(512, 512, bias=False) for _ in range(4)))


def large() -> nn.Module:
    """124 million parameters: GPT-2, small, as it is initialised."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config())


def imported() -> float:
    """Seconds of `import specdyn` in a process of its own, less those of an empty program."""

    def seconds(program: str) -> float:
        since = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        return time.perf_counter() - since

    return min(seconds("import specdyn") for _ in range(TURNS)) - min(seconds("") for _ in range(TURNS))


def main(*threads: int) -> None:
    """Print a table."""
    print(f"import specdyn: {1000 * imported():.0f} ms")
    sd.table(nn.Linear(8, 8), progress=False)  # what is imported once
    sd.analyse(nn.Linear(8, 8), progress=False)
    rows = []
    for net, turns in ((small(), TURNS), (large(), 1)):
        count = sum(parameter.numel() for parameter in net.parameters())
        for number in threads:
            torch.set_num_threads(number)
            took: dict[str, list[float]] = {}
            for name, call in (("table", sd.table), ("analyse", sd.analyse)):
                for _ in range(turns):
                    wall, cpu = time.perf_counter(), time.process_time()
                    call(net, progress=False)
                    took.setdefault(f"{name}, wall", []).append(time.perf_counter() - wall)
                    took.setdefault(f"{name}, CPU", []).append(time.process_time() - cpu)
            seconds = (f"{1000 * statistics.median(of):,.0f} ms" for of in took.values())
            rows.append((f"{count / 1e6:.1f} million", str(number), *seconds))
    headings = ("parameters", "threads", "sd.table", "its CPU", "sd.analyse", "its CPU")
    table("Analysis in memory", headings, rows)


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:]) if len(sys.argv) > 1 else (1, 2)))
