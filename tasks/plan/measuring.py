"""Seconds that steps, evaluations and decompositions take, measured on this machine."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.places import Store
from specdyn.tasks.evaluation.environment import pick_device
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.plan.cost import Rates
from specdyn.tasks.spectra.decomposition import decompose
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.spectra.one_pass import decompose_into
from specdyn.tasks.training.numerics import numerics
from specdyn.tasks.training.training import Loop

EVALUATIONS = 3
"""Times a checkpoint is evaluated: as it is, top half, bottom half."""
LONG = 2.0
"""Seconds of a step that is not worth repeating for an estimate."""


def measure(spec: RunSpec, store: Store, threads: int | None = None, steps: int = 5) -> Rates:
    """Time a few real steps, one real pass over a checkpoint and the evaluation of a batch of each split.

    With as many threads as a unit of work will have; None leaves them as they are.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        return _measured(spec, store, steps)
    finally:
        torch.set_num_threads(before)


def _measured(spec: RunSpec, store: Store, steps: int) -> Rates:
    experiment = experiment_of(spec)
    device = pick_device()
    net = experiment.net(spec).to(device)
    data = load_examples(spec, store)
    # Taken before the steps: with some settings a few of them suffice to leave no finite weight.
    weights = {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}
    step = _seconds_a_step(Loop(experiment, spec, net, data["train"].to(device)), spec, device, steps)
    decompose(torch.eye(2))  # the first call of LAPACK takes long
    since = time.perf_counter()
    matrices = sum(1 for _ in decompose_into({}, weights, network_layout(spec), "estimate"))
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
    experiment = experiment_of(spec)
    first = {split: examples.take(slice(0, spec.record.eval_batch_size)) for split, examples in data.items()}
    evaluate = Evaluator(experiment, spec, experiment.net(spec), first, device)

    def run(renormalise: bool) -> float:
        since = time.perf_counter()
        evaluate(weights, renormalise=renormalise)
        return time.perf_counter() - since

    run(False)
    plain = run(False)
    train, val = (len(data[split].targets) for split in ("train", "val"))
    share = (min(train, spec.record.eval_examples or train) + val) / sum(len(batch.targets) for batch in first.values())
    renewal = max(0.0, run(True) - plain) * train / len(first["train"].targets)
    return plain * share / len(data), renewal
