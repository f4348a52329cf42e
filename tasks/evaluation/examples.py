"""Loads a run's training and validation examples from the prepared data in the store."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from specdyn.models.datasets.base import get_dataset
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.places import Store
from specdyn.tasks.data.prepare import load, shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesKey:
    """Identifies the examples of a spec: equal for specs with the same examples."""

    experiment: str
    data: Any
    seed: int
    store: Store
    spec: RunSpec = field(compare=False)


def examples_key(spec: RunSpec, store: Store) -> ExamplesKey:
    """The key of the examples of a spec."""
    return ExamplesKey(experiment=spec.experiment, data=spec.data, seed=spec.seed, store=store, spec=spec)


def load_examples(spec: RunSpec, store: Store) -> dict[str, Examples]:
    """Examples of the splits `train` and `val`; NotPrepared if the data set is not in the store yet."""
    experiment = experiment_of(spec)
    needed = experiment.dataset(spec)
    return experiment.examples(spec, {} if needed is None else load(store, get_dataset(*needed)))


def count_train_examples(spec: RunSpec, store: Store) -> int:
    """The number of training examples, from the shapes of the data if the experiment supports it; NotPrepared."""
    experiment = experiment_of(spec)
    needed = experiment.dataset(spec)
    if experiment.train_examples is None:
        return len(load_examples(spec, store)["train"].targets)
    if needed is None:
        return experiment.train_examples(spec, {}, lambda name: np.empty(0))
    dataset = get_dataset(*needed)
    return experiment.train_examples(spec, shapes(store, dataset), lambda name: load(store, dataset, name)[name])
