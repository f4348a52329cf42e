"""What recording costs a training loop: the loop's own wait, and the CPU time of the thread that writes.

The plainest loop of each experiment's network, with and without a recorder at its usual schedule, in turns.
"""

import statistics
import sys
import tempfile
import time

import torch
from torch import nn

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import get_experiment
from specdyn.storage.places import Store
from specdyn.tasks.data.prepare import require_data
from specdyn.tasks.evaluation.environment import use_threads
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.recording.recorder import Recorder
from specdyn.tasks.recording.schedule import USUAL
from tests.benchmarks.measured import table

CASES = {
    "modular_addition": ("paper", 2),
    "image_classification": ("sample", 1),
    "image_generation": ("sample", 1),
    "speech_recognition": ("sample", 1),
    "language_modelling": ("sample", 1),
}
"""The preset of each experiment, and how often the usual schedule comes round in a turn."""
TURNS = 2


class Loop:
    """Training steps as one would write them first."""

    def __init__(self, name: str, preset: str, store: Store) -> None:
        self.experiment = get_experiment(name)
        self.spec = self.experiment.preset(preset).spec
        if needed := self.experiment.dataset(self.spec):
            require_data(store, get_dataset(*needed))
        self.data = load_examples(self.spec, store)["train"]
        self.net: nn.Module = self.experiment.net(self.spec).train()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4)
        count = len(self.data.targets)
        self.size = self.spec.batch_size or count

    def run(self, steps: int, recorder: Recorder, before: int) -> float:
        """Wall seconds a step; the recorder is told of each."""
        draw = torch.Generator().manual_seed(0)
        since = time.perf_counter()
        for step in range(before + 1, before + steps + 1):
            batch = self.data.take(torch.randint(len(self.data.targets), (self.size,), generator=draw))
            loss = self.experiment.loss(self.spec, self.net(batch.inputs), batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            recorder.step(step, self.net, train_loss=loss)
        return (time.perf_counter() - since) / steps


def row(name: str, preset: str, rounds: int, store: Store) -> tuple[str, ...]:
    """The loop's own wait, the CPU time of all that recording does, and wall time with over that without."""
    loop, steps = Loop(name, preset, store), rounds * USUAL
    off = Recorder(str(store), name, enabled=False)
    loop.run(5, off, 0)
    seconds: dict[str, list[float]] = {"off": [], "on": []}
    beside = 0.0
    with Recorder(str(store), name) as on:
        for turn in range(TURNS):
            for kind, recorder in (("off", off), ("on", on)) if turn % 2 else (("on", on), ("off", off)):
                others = time.process_time() - time.thread_time()
                seconds[kind].append(loop.run(steps, recorder, turn * steps))
                beside += time.process_time() - time.thread_time() - others
    ratios = [a / b for a, b in zip(seconds["on"], seconds["off"], strict=True)]
    spent = steps * sum(seconds["on"])
    assert on.errors == []
    return (
        f"{name}, {preset}",
        f"{sum(tensor.nbytes for tensor in loop.net.state_dict().values()) / 1e6:.1f} MB",
        f"{1000 * statistics.median(seconds['off']):.1f} ms",
        f"{100 * on._busy / spent:.2f} %",
        f"{100 * (on._busy + beside) / spent:.2f} %",
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
    )


def main(*names: str) -> None:
    """Print a table."""
    use_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lines = [row(name, *case, Store(folder)) for name, case in CASES.items() if not names or name in names]
    headings = ("network", "checkpoint", "training step", "loop waits", "with the thread", "wall time with / without")
    table(f"Recording every {USUAL} steps, 1 thread, {TURNS} turns of each", headings, lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
