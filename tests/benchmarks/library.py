"""What the library takes: to import, and to analyse a network in memory of a million and of 124 million parameters.

`python -m tests.benchmarks.library`, or one network with numbers of threads: `... library large 1 2`.
"""

import subprocess
import sys
import time

import torch
from torch import nn

import specdyn as sd

TURNS = 3


def small() -> nn.Module:
    """A million parameters: an MLP of four square layers."""
    return nn.Sequential(*(nn.Linear(512, 512, bias=False) for _ in range(4)))


def large() -> nn.Module:
    """124 million parameters: GPT-2, small, as it is initialised."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config())


NETS = {"small": (small, TURNS), "large": (large, 1)}
"""Each with how often it is measured; the quickest counts."""


def imported() -> float:
    """Seconds of `import specdyn` in a process of its own, the least of several."""
    program = "import time; t = time.perf_counter(); import specdyn; print(time.perf_counter() - t)"
    asked = [sys.executable, "-c", program]
    return min(float(subprocess.run(asked, check=True, capture_output=True).stdout) for _ in range(TURNS))


def main(names: list[str], threads: list[int]) -> None:
    """Print a line for each measurement as it is done."""
    print(f"import specdyn: {1000 * imported():.0f} ms", flush=True)
    sd.table(nn.Linear(8, 8), progress=False)  # what is imported once
    sd.analyse(nn.Linear(8, 8), progress=False)
    for name in names:
        build, turns = NETS[name]
        net = build()
        count = sum(parameter.numel() for parameter in net.parameters()) / 1e6
        for number in threads:
            torch.set_num_threads(number)
            for call in (sd.table, sd.analyse):
                took = []
                for _ in range(turns):
                    wall, cpu = time.perf_counter(), time.process_time()
                    call(net, progress=False)
                    took.append((time.perf_counter() - wall, time.process_time() - cpu))
                wall, cpu = map(min, zip(*took, strict=True))
                said = f"{1000 * wall:,.0f} ms, {1000 * cpu:,.0f} ms of CPU"
                print(f"sd.{call.__name__}, {count:.1f} million parameters, {number} threads: {said}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        [word for word in given if word in NETS] or list(NETS),
        [int(word) for word in given if word.isdigit()] or [1, 2],
    )
