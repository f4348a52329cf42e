"""Counts the cost of runs in steps, checkpoints and bytes; measuring.py estimates the seconds."""

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
    """Seconds per training step and per analysed checkpoint, and of parts of both."""

    step: float
    checkpoint: float
    beginning: float = 0.0
    """Start of a training: set-up, and the extra time of the first step."""
    writing: float = 0.0
    """Per checkpoint written."""
    evaluation: float = 0.0
    """Evaluation of one split, the mean of both."""
    renewal: float = 0.0
    """Re-estimation of BatchNorm's statistics."""
    decomposition: float = 0.0
    """Decomposition of one matrix, the mean of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of work, in countable units."""

    evaluations: int = 0
    """Evaluations of a split."""
    decompositions: int = 0
    """Decompositions of a layer."""
    renewals: int = 0
    """Re-estimations of BatchNorm's statistics."""
    updates: float = 0
    """Training steps, including those of a curve's control point."""
    analysed: int = 0
    """Analysed checkpoints."""
    written: int = 0
    """Written checkpoints."""
    begun: int = 0
    """Trainings started or resumed."""

    def seconds(self, rates: Rates) -> float:
        """The time for one worker."""
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
    """Steps at which the run keeps its weights; NotPrepared if this needs a data set that is not in the store.

    Only early checkpoints depend on the length of an epoch, so the data are needed only for these.
    """
    return checkpoint_steps(spec, steps_of_an_epoch(spec, store) if spec.record.early_checkpoints else 1)


def steps_of_an_epoch(spec: RunSpec, store: Store) -> int:
    """Updates per epoch; NotPrepared if the data set is not in the store."""
    return steps_per_epoch(spec, train_examples(spec, store))


def train_examples(spec: RunSpec, store: Store) -> int:
    """The number of training examples of a run; NotPrepared if the data set is not in the store."""
    return _train_examples(examples_key(spec, store))


@functools.lru_cache(maxsize=256)
def _train_examples(of: ExamplesKey) -> int:
    """The number of training examples of runs on this data; cached, as the specs of a grid share it."""
    return count_train_examples(of.spec, of.store)


def checkpoint_bytes(spec: RunSpec) -> int:
    """Bytes of the tensors of one checkpoint, counted on a network built without weights."""
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
