"""What a run will cost: checkpoints and bytes counted; measuring.py estimates the seconds."""

import functools
from dataclasses import dataclass

from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.schedules import checkpoint_steps, steps_per_epoch
from specdyn.storage.places import Store
from specdyn.tasks.asked import of_network
from specdyn.tasks.evaluation.examples import ExamplesKey, count_train_examples, examples_key
from specdyn.tasks.later import Later


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Seconds of one step of training and of all that is asked for of a checkpoint, and of parts of both."""

    step: float
    checkpoint: float
    beginning: float = 0.0
    """Of a training, before its first step and in what this takes longer than others."""
    writing: float = 0.0
    """Of one checkpoint."""
    evaluation: float = 0.0
    """Of all examples of a split, the mean of both."""
    renewal: float = 0.0
    """Of estimating BatchNorm's statistics again."""
    decomposition: float = 0.0
    """Of one matrix, the mean of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What work takes, in units that can be counted."""

    evaluations: int = 0
    """Of a split."""
    decompositions: int = 0
    """Of a layer."""
    renewals: int = 0
    """Estimates of BatchNorm's statistics."""
    updates: float = 0
    """Steps of training, also of the control point of a curve."""
    analysed: int = 0
    """Checkpoints that are analysed in all that is asked for."""
    written: int = 0
    """Checkpoints that are written."""
    begun: int = 0
    """Trainings that are begun, or gone on with."""

    def seconds(self, rates: Rates) -> float:
        """The time that it takes one worker."""
        return (
            self.evaluations * rates.evaluation
            + self.decompositions * rates.decomposition
            + self.renewals * rates.renewal
            + self.updates * rates.step
            + self.analysed * rates.checkpoint
            + self.written * rates.writing
            + self.begun * rates.beginning
        )


def schedule(spec: RunSpec, store: Store) -> tuple[int, ...]:
    """Steps at which the run will keep its weights; NotPrepared where the data set that this takes is not in the store.

    Only early checkpoints depend on the length of an epoch: without them the data are not looked at.
    """
    return checkpoint_steps(spec, steps_of_an_epoch(spec, store) if spec.record.early_checkpoints else 1)


def steps_of_an_epoch(spec: RunSpec, store: Store) -> int:
    """Updates in one epoch; NotPrepared where the data set is not in the store."""
    return steps_per_epoch(spec, train_examples(spec, store))


def train_examples(spec: RunSpec, store: Store) -> int:
    """How many examples a run trains on; NotPrepared where the data set is not in the store."""
    return _train_examples(examples_key(spec, store))


@functools.lru_cache(maxsize=256)
def _train_examples(of: ExamplesKey) -> int:
    """Training examples of every run on this data; counted once, as the specs of a grid share them."""
    return count_train_examples(of.spec, of.store)


def checkpoint_bytes(spec: RunSpec) -> int:
    """Bytes of the tensors of one checkpoint, counted on a network that is built without its weights."""
    size: int = of_network(Later(__name__, "built_bytes"), spec)
    return size


def built_bytes(spec: RunSpec) -> int:
    """The same, counted in this process."""
    import torch

    from specdyn.models.nets.decay_sums import add_decay_sums
    from specdyn.models.nets.matrices import state_bytes

    with torch.device("meta"):
        net = experiment_of(spec).build_net(spec)
        add_decay_sums(spec, net)
        return state_bytes(net)
