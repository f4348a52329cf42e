"""Measures the seconds of steps, evaluations and decompositions on this machine."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import Metric, experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access.errors import NoSpace
from specdyn.storage.checkpoints import write_checkpoint
from specdyn.storage.places import Store
from specdyn.storage.schema import SPLITS
from specdyn.tasks.evaluation.environment import pick_device
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.plan.cost import Rates
from specdyn.tasks.spectra.analysis import Evaluate, get_analysis
from specdyn.tasks.spectra.decomposition import Factors, decompose
from specdyn.tasks.spectra.network_layout import NetworkLayout, Target, network_layout, run_layout
from specdyn.tasks.spectra.one_pass import Pass, decompose_into, measure_block
from specdyn.tasks.training.numerics import numerics
from specdyn.tasks.training.training import Loop

LONG = 2.0
"""Seconds above which a measurement is not repeated."""
REPEATS = 5


def measure(
    spec: RunSpec, store: Store, threads: int | None = None, analyses: tuple[str, ...] = (), steps: int = 5
) -> Rates:
    """Time a few steps, writing a checkpoint, analysing one, and evaluating a batch of each split.

    Uses `threads` threads, as a unit of work will; None leaves them unchanged.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        return _measured(spec, store, analyses, steps)
    finally:
        torch.set_num_threads(before)


def _measured(spec: RunSpec, store: Store, analyses: tuple[str, ...], steps: int) -> Rates:
    experiment, began = experiment_of(spec), time.perf_counter()
    device = pick_device()
    net = experiment.net(spec).to(device)
    data = load_examples(spec, store)
    # Copied before the steps: with some settings, a few steps suffice to make weights infinite.
    weights = {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}
    loop, building = Loop(experiment, spec, net, data["train"].to(device)), time.perf_counter() - began
    first, step = _seconds_of_steps(loop, spec, device, steps)
    decompose(torch.eye(2))  # the first call of LAPACK is slow
    since, layout, factors = time.perf_counter(), network_layout(spec), dict[str, Factors]()
    matrices = sum(1 for _ in decompose_into(factors, weights, layout, "estimate"))
    decomposing = time.perf_counter() - since
    evaluation, renewal = _seconds_of_evaluations(spec, data, weights, device)
    passing, evaluated = _seconds_of_a_pass(spec, layout, analyses, weights, factors) if analyses else (0.0, [])
    return Rates(
        step=step,
        beginning=building + max(0.0, first - step),  # other processes may slow down the later steps
        writing=_seconds_of_a_put(spec, weights),
        checkpoint=passing + len(evaluated) * len(data) * evaluation + sum(evaluated) * renewal,
        evaluation=evaluation,
        renewal=renewal,
        decomposition=decomposing / matrices,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Three:
    """A series of three checkpoints, so that the second is neither first nor last, without data."""

    weights_of: Sequence[Mapping[str, Tensor]]
    metrics: Mapping[str, Metric]
    evaluated: list[bool]
    """One entry per call of the evaluator: whether BatchNorm's statistics are to be re-estimated."""
    name: str = "estimate"
    steps: tuple[int, ...] = (0, 1, 2)

    def weights(self, step: int) -> Mapping[str, Tensor]:
        """Weights in memory."""
        return self.weights_of[step]

    def absent(self, step: int, layout: NetworkLayout) -> frozenset[str]:
        """None."""
        return frozenset()

    def evaluator(self) -> Evaluate:
        """Returns zeros immediately, as only the number of evaluations is needed."""

        def evaluate(weights: Mapping[str, Tensor], renormalise: bool = False) -> dict[str, np.ndarray]:
            self.evaluated.append(renormalise)
            return {name: np.zeros(len(SPLITS), np.float32) for name in self.metrics}

        return evaluate


def _seconds_of_a_pass(
    spec: RunSpec,
    layout: NetworkLayout,
    analyses: tuple[str, ...],
    weights: Mapping[str, Tensor],
    factors: Mapping[str, Factors],
) -> tuple[float, list[bool]]:
    """Seconds of all analyses of one checkpoint except evaluations; and for each evaluation, if it re-estimates."""
    experiment = experiment_of(spec)
    metrics, other = experiment.metrics(spec), experiment.net(replace(spec, seed=spec.seed + 1)).state_dict()
    series = _Three(weights_of=(weights, other, weights), metrics=metrics, evaluated=[])
    target = Target(folder="", layout=run_layout(layout, series.steps, analyses, metrics, {}))
    chosen = [get_analysis(name) for name in analyses]

    def run() -> float:
        series.evaluated.clear()
        anchors = {0: factors, 2: factors}
        work = Pass(series=series, layout=layout, target=target, analyses=chosen, scratch=dict, anchors=anchors)
        since = time.perf_counter()
        measure_block(work, (1,))
        return time.perf_counter() - since

    first = run()  # also imports the analyses' modules
    return (first if first > LONG else _least(run)), series.evaluated


def _seconds_of_steps(loop: Loop, spec: RunSpec, device: torch.device, steps: int) -> tuple[float, float]:
    """Seconds of the first step, which is slower, and of a later one; only of the first if it is very slow."""

    def run(start: int, stop: int) -> float:
        since = time.perf_counter()
        float(loop.run(start, stop))  # synchronises with the device
        return time.perf_counter() - since

    with numerics(spec, device):
        first = run(0, 1)
        return first, (first if first > LONG else _least(lambda: run(1, 1 + steps)) / steps)


def _least(run: Callable[[], float]) -> float:
    """The least of a few measurements, the one that other processes delayed least; fewer if they take long."""
    measured = [run()]
    while len(measured) < REPEATS and sum(measured) < LONG / REPEATS:
        measured.append(run())
    return min(measured)


def _seconds_of_a_put(spec: RunSpec, weights: Mapping[str, Tensor]) -> float:
    """Of a checkpoint, in a temporary folder; zero where it takes none, as what fails is to be the work itself."""
    with contextlib.suppress(NoSpace, OSError), tempfile.TemporaryDirectory() as folder:
        since = time.perf_counter()
        write_checkpoint(Store(folder).run_of(spec), 0, weights)
        return time.perf_counter() - since
    return 0.0


def _seconds_of_evaluations(
    spec: RunSpec, data: Mapping[str, Examples], weights: Mapping[str, Tensor], device: torch.device
) -> tuple[float, float]:
    """Seconds per split, and for BatchNorm's statistics, extrapolated from the first batch of each split."""
    experiment = experiment_of(spec)
    first = {split: examples.take(slice(0, spec.record.eval_batch_size)) for split, examples in data.items()}
    evaluate = Evaluator(experiment, spec, experiment.net(spec), first, device)

    def run(renormalise: bool) -> float:
        since = time.perf_counter()
        evaluate(weights, renormalise=renormalise)
        return time.perf_counter() - since

    run(False)
    plain = _least(lambda: run(False))
    train, val = (len(data[split].targets) for split in ("train", "val"))
    share = (min(train, spec.record.eval_examples or train) + val) / sum(len(batch.targets) for batch in first.values())
    renewal = max(0.0, _least(lambda: run(True)) - plain) * train / len(first["train"].targets)
    return plain * share / len(data), renewal
