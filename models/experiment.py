"""Experiment: what one module in models/experiments declares; found by its file name."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

import models.experiments
from models.checks import require_known
from models.matrices import LayerPair
from models.run_spec import RunSpec, from_json


class Examples(NamedTuple):
    """Inputs and targets of one split, aligned along their first axis."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Examples":
        """The same examples on a device."""
        return Examples(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number measured on a batch: a scalar tensor from outputs and targets."""

    of: Callable[[Tensor, Tensor], Tensor]
    long_name: str
    units: str = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named spec with the grid that goes with it."""

    spec: RunSpec
    about: str
    weight_decays: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)


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
    load_data: Callable[[RunSpec], dict[str, Examples]]
    """Examples of the splits `train` and `val`."""
    loss: Callable[[RunSpec, Tensor, Tensor], Tensor]
    metrics: Callable[[RunSpec], dict[str, Metric]]
    layer_pairs: Callable[[RunSpec, nn.Module], tuple[LayerPair, ...]]
    deviations: tuple[str, ...] = field(default=())
    """Where presets differ from the paper, in a sentence each."""

    def preset(self, name: str) -> Preset:
        """The preset of that name; ValueError lists the known ones."""
        require_known(f"preset of {self.name}", name, self.presets)
        return self.presets[name]

    def net(self, spec: RunSpec) -> nn.Module:
        """The network as it is initialised for the spec's seed, on the CPU."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            return self.build_net(spec)

    def steps_per_epoch(self, spec: RunSpec, examples: int) -> int:
        """Updates in one pass over that many training examples, the last partial batch counted."""
        return -(-examples // (spec.batch_size or examples))


def experiment_names() -> list[str]:
    """Names of all experiments, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(models.experiments.__path__))


def get_experiment(name: str) -> Experiment:
    """The experiment of that name; ValueError lists the known ones."""
    require_known("experiment", name, experiment_names())
    experiment: Experiment = importlib.import_module(f"models.experiments.{name}").EXPERIMENT
    return experiment


def read_spec(text: str, experiment: str) -> RunSpec:
    """The RunSpec of an experiment from its JSON."""
    return from_json(text, {kind.__name__: kind for kind in get_experiment(experiment).kinds})
