"""What a run will cost: checkpoints and bytes counted, seconds measured on this machine."""

import time
from dataclasses import dataclass

import torch

from models.experiment import get_experiment
from models.matrices import state_bytes
from models.run_spec import RunSpec
from models.schedules import checkpoint_steps, learning_rate_factor
from tasks.anatomy import anatomy
from tasks.environment import pick_device
from tasks.evaluation import Evaluator
from tasks.examples import load_examples
from tasks.one_pass import decompose_into
from tasks.training import Batches, make_optimizer, run_steps

EVALUATIONS = 3
"""Times a checkpoint is evaluated: as it is, top half, bottom half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Seconds of one step of training and of one checkpoint's analysis."""

    step: float
    checkpoint: float


def schedule(spec: RunSpec, store: str) -> tuple[int, ...]:
    """Steps at which the run will keep its weights."""
    experiment = get_experiment(spec.experiment)
    examples = len(load_examples(spec, store)["train"].targets)
    return checkpoint_steps(spec, experiment.steps_per_epoch(spec, examples))


def checkpoint_bytes(spec: RunSpec) -> int:
    """Bytes of the tensors of one checkpoint."""
    return state_bytes(get_experiment(spec.experiment).net(spec))


def measure(spec: RunSpec, store: str, steps: int = 5) -> Rates:
    """Time a few real steps and one real pass over a checkpoint, after a first one to warm up."""
    experiment = get_experiment(spec.experiment)
    device = pick_device()
    net = experiment.net(spec).to(device)
    data = load_examples(spec, store)
    train = data["train"].to(device)
    per_epoch = experiment.steps_per_epoch(spec, len(train.targets))
    optimizer = make_optimizer(spec, net)

    def run(start: int, stop: int) -> float:
        since = time.perf_counter()
        loss = run_steps(
            net,
            optimizer,
            Batches(spec, train, per_epoch),
            lambda outputs, batch: experiment.loss(spec, outputs, batch),
            lambda step: spec.learning_rate * learning_rate_factor(spec, step, per_epoch),
            start,
            stop,
        )
        float(loss)  # waits for the device
        return time.perf_counter() - since

    run(0, 1)
    step = run(1, 1 + steps) / steps
    since = time.perf_counter()
    weights = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
    for _ in decompose_into({}, weights, anatomy(spec), "estimate"):
        pass
    evaluate = Evaluator(experiment, spec, experiment.net(spec), data, torch.device(device))
    for _ in range(EVALUATIONS):
        evaluate(weights)
    return Rates(step=step, checkpoint=time.perf_counter() - since)
