"""What a run will cost: checkpoints and bytes counted, seconds measured on this machine."""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.matrices import state_bytes
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.schedules import checkpoint_steps, steps_per_epoch
from specdyn.tasks.evaluation.environment import pick_device
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.spectra.decomposition import decompose
from specdyn.tasks.spectra.network_layout import anatomy
from specdyn.tasks.spectra.one_pass import decompose_into
from specdyn.tasks.training.numerics import numerics
from specdyn.tasks.training.training import Loop

EVALUATIONS = 3
"""Times a checkpoint is evaluated: as it is, top half, bottom half."""
LONG = 2.0
"""Seconds of a step that is not worth repeating for an estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Seconds of one step of training and of one checkpoint's analysis, and of the parts of this."""

    step: float
    checkpoint: float
    evaluation: float = 0.0
    """Of all examples of a split, the mean of both."""
    renewal: float = 0.0
    """Of estimating BatchNorm's statistics anew."""
    decomposition: float = 0.0
    """Of one matrix, the mean of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """What decides how many training examples there are."""

    experiment: str
    data: Any
    store: str
    spec: RunSpec = field(compare=False)


def schedule(spec: RunSpec, store: str) -> tuple[int, ...]:
    """Steps at which the run will keep its weights; NotPrepared where its data set is not in the store."""
    return checkpoint_steps(spec, steps_of_an_epoch(spec, store))


def steps_of_an_epoch(spec: RunSpec, store: str) -> int:
    """Updates in one epoch; NotPrepared where the data set is not in the store."""
    examples = _train_examples(_Data(experiment=spec.experiment, data=spec.data, store=store, spec=spec))
    return steps_per_epoch(spec, examples)


@functools.lru_cache(maxsize=256)
def _train_examples(of: _Data) -> int:
    """Training examples of every run on this data; counted once, as the specs of a grid share them."""
    return len(load_examples(of.spec, of.store)["train"].targets)


def checkpoint_bytes(spec: RunSpec) -> int:
    """Bytes of the tensors of one checkpoint."""
    return state_bytes(get_experiment(spec.experiment).net(spec))


def measure(spec: RunSpec, store: str, steps: int = 5, threads: int | None = None) -> Rates:
    """Time a few real steps, one real pass over a checkpoint and the evaluation of a batch of each split.

    With as many threads as a unit of work will have; None leaves them as they are.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        return _measured(spec, store, steps)
    finally:
        torch.set_num_threads(before)


def _measured(spec: RunSpec, store: str, steps: int) -> Rates:
    experiment = get_experiment(spec.experiment)
    device = pick_device()
    net = experiment.net(spec).to(device)
    data = load_examples(spec, store)
    # Taken before the steps: with some settings a few of them suffice to leave no finite weight.
    weights = {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}
    step = _seconds_a_step(Loop(experiment, spec, net, data["train"].to(device)), spec, device, steps)
    decompose(torch.eye(2))  # the first call of LAPACK takes long
    since = time.perf_counter()
    matrices = sum(1 for _ in decompose_into({}, weights, anatomy(spec), "estimate"))
    decomposing = time.perf_counter() - since
    evaluation, renewal = _seconds_of_evaluations(spec, data, weights, device)
    return Rates(
        step=step,
        checkpoint=decomposing + EVALUATIONS * len(data) * evaluation + (EVALUATIONS - 1) * renewal,
        evaluation=evaluation,
        renewal=renewal,
        decomposition=decomposing / matrices,
    )


def _seconds_a_step(loop: Loop, spec: RunSpec, device: torch.device, steps: int) -> float:
    """Of several steps after one to warm up; of that one alone where it takes long."""

    def run(start: int, stop: int) -> float:
        since = time.perf_counter()
        float(loop.run(start, stop))  # waits for the device
        return time.perf_counter() - since

    with numerics(spec, device):
        first = run(0, 1)
        return first if first > LONG else run(1, 1 + steps) / steps


def _seconds_of_evaluations(
    spec: RunSpec, data: Mapping[str, Examples], weights: Mapping[str, Tensor], device: torch.device
) -> tuple[float, float]:
    """Of one split, and of BatchNorm's statistics, from the time that the first batch of each split takes."""
    experiment = get_experiment(spec.experiment)
    first = {split: examples.take(slice(0, spec.eval_batch_size)) for split, examples in data.items()}
    evaluate = Evaluator(experiment, spec, experiment.net(spec), first, device)

    def run(renormalise: bool) -> float:
        since = time.perf_counter()
        evaluate(weights, renormalise=renormalise)
        return time.perf_counter() - since

    run(False)
    plain = run(False)
    train, val = (len(data[split].targets) for split in ("train", "val"))
    share = (min(train, spec.eval_examples or train) + val) / sum(len(batch.targets) for batch in first.values())
    renewal = max(0.0, run(True) - plain) * train / len(first["train"].targets)
    return plain * share / len(data), renewal
