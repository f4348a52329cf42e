"""Experiment: what one module in models/experiments declares; found by its file name.

A module imports torch where it builds or measures a network, so that presets and names are known without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import specdyn.models.experiments
from specdyn.models.modules import module_names
from specdyn.models.spec.checks import require_known
from specdyn.models.spec.run_spec import RunSpec, from_json

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from specdyn.models.datasets.decoders.examples import Examples
    from specdyn.models.nets.matrices import LayerPair
    from specdyn.models.spec.data import Read, Shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number measured on a batch of outputs and the examples they belong to."""

    of: Callable[[Tensor, Examples], Tensor]
    """A scalar; where `pooled`, the two numbers (sum, count)."""
    long_name: str
    units: str = "1"
    pooled: bool = False
    """Sum over all batches divided by the count over all batches, instead of the mean over batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named spec with the grid that goes with it."""

    spec: RunSpec
    about: str
    weight_decays: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Other settings that its grid varies, with their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Everything the pipeline needs to know of an experiment."""

    name: str
    title: str
    kinds: tuple[type, ...]
    """The dataclasses that a spec's `net` and `data` may be."""
    presets: Mapping[str, Preset]
    build_net: Callable[[RunSpec], nn.Module]
    """An initialised network on the CPU; called with torch's generator seeded by the spec."""
    examples: Callable[[RunSpec, Mapping[str, np.ndarray]], dict[str, Examples]]
    """Examples of the splits `train` and `val`, made from the arrays of the prepared data set.

    How many there are to train on depends on the spec's `data` and `seed` alone.
    """
    loss: Callable[[RunSpec, Tensor, Examples], Tensor]
    """Scalar loss of a batch from the network's outputs. What is drawn at random comes from torch's generator."""
    metrics: Callable[[RunSpec], dict[str, Metric]]
    layer_pairs: Callable[[RunSpec, nn.Module], tuple[LayerPair, ...]]
    dataset: Callable[[RunSpec], tuple[str, str] | None] = lambda spec: None
    """Name and variant of the data set that `examples` needs; None where it is made from nothing."""
    train_examples: Callable[[RunSpec, Shapes, Read], int] | None = None
    """How many examples there are to train on, by the shapes of the data set's arrays, none where it has no data set;
    None makes them and counts."""
    deviations: tuple[str, ...] = field(default=())
    """Where presets differ from the paper, in a sentence each."""
    usual: str = "sample"
    """The preset to begin with."""

    def preset(self, name: str) -> Preset:
        """The preset of that name; ValueError lists the known ones."""
        require_known(f"preset of {self.name}", name, self.presets)
        return self.presets[name]

    def net(self, spec: RunSpec) -> nn.Module:
        """The network as it is initialised for the spec's seed, on the CPU."""
        import torch

        from specdyn.models import generators

        with generators.kept(torch.device("cpu"), spec.seed):
            return self.build_net(spec)


def experiment_names() -> list[str]:
    """Names of all experiments, without importing them."""
    return module_names(specdyn.models.experiments)


def get_experiment(name: str) -> Experiment:
    """The experiment of that name; ValueError lists the known ones."""
    require_known("experiment", name, experiment_names())
    experiment: Experiment = importlib.import_module(f"specdyn.models.experiments.{name}").EXPERIMENT
    return experiment


def read_spec(text: str, experiment: str) -> RunSpec:
    """The RunSpec of an experiment from its JSON."""
    return from_json(text, {kind.__name__: kind for kind in get_experiment(experiment).kinds})
