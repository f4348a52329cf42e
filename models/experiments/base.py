"""Experiment: the declaration in a module of models/experiments or a plug-in.

A module imports torch only where it builds or measures a network, so that presets and names are known without it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from specdyn.models.plugins import kinds
from specdyn.models.spec.checks import require, require_known
from specdyn.models.spec.run_spec import RunSpec, from_json, plain_kinds

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
    """Returns a scalar, or if `pooled` the two numbers (sum, count)."""
    long_name: str
    units: str = "1"
    pooled: bool = False
    """Sum over all batches divided by the count over all batches, instead of the mean over batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named spec with its grid."""

    spec: RunSpec
    about: str
    weight_decays: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Further settings that its grid varies, with their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Everything the pipeline needs to know about an experiment."""

    name: str
    title: str
    kinds: tuple[type, ...]
    """The dataclasses that a spec's `net` and `data` may be."""
    presets: Mapping[str, Preset]
    build_net: Callable[[RunSpec], nn.Module]
    """An initialised network on the CPU; called with torch's generator seeded by the spec."""
    examples: Callable[[RunSpec, Mapping[str, np.ndarray]], dict[str, Examples]]
    """Returns the splits `train` and `val`, made from the arrays of the prepared data set.

    The number of training examples depends only on the spec's `data` and `seed`.
    """
    loss: Callable[[RunSpec, Tensor, Examples], Tensor]
    """Returns the scalar loss of a batch from the network's outputs. Random draws use torch's generator."""
    metrics: Callable[[RunSpec], dict[str, Metric]]
    layer_pairs: Callable[[RunSpec, nn.Module], tuple[LayerPair, ...]]
    dataset: Callable[[RunSpec], tuple[str, str] | None] = lambda spec: None
    """Returns name and variant of the data set that `examples` needs; None if the data are generated."""
    train_examples: Callable[[RunSpec, Shapes, Read], int] | None = None
    """Returns the number of training examples from the shapes of the data set's arrays (none without a data set);
    if None, the examples are made and counted."""
    deviations: tuple[str, ...] = field(default=())
    """Differences between presets and the paper, one sentence each."""
    usual: str = "sample"
    """The default preset."""
    source: str = ""
    """Digest of the source of a plug-in, also part of its specs; empty for experiments of the package."""

    def preset(self, name: str) -> Preset:
        """The preset of that name; ValueError lists the known ones."""
        require_known(f"preset of {self.name}", name, self.presets)
        return self.presets[name]

    def net(self, spec: RunSpec) -> nn.Module:
        """The network initialised with the spec's seed, on the CPU, with the buffers that the spec records."""
        import torch

        from specdyn.models import generators
        from specdyn.models.nets.decay_sums import add_decay_sums

        with generators.kept(torch.device("cpu"), spec.seed):
            net = self.build_net(spec)
        add_decay_sums(spec, net)
        return net


def _of_plugin(declared: object, name: str, source: str) -> Experiment:
    """The experiment of a plug-in, with the digest of its source in its presets."""
    found = kinds.named(declared, name, Experiment)
    require(found.usual in found.presets, "usual", found.usual, f"one of its presets {', '.join(found.presets)}")
    for kind in found.kinds:
        frozen = is_dataclass(kind) and vars(kind)["__dataclass_params__"].frozen
        require(frozen, "kinds", kind, "frozen dataclasses")
        for one in fields(kind):
            where, allowed = f"the type of {one.name} in {kind.__name__}", "a type, so no `annotations` of __future__"
            require(not isinstance(one.type, str), where, one.type, allowed)
    presets = {}
    for key, preset in found.presets.items():
        spec = preset.spec
        require(spec.experiment == name, f"experiment of preset {key}", spec.experiment, repr(name))
        for part in (spec.net, spec.data):
            known = ", ".join(kind.__name__ for kind in found.kinds)
            require(type(part) in found.kinds, f"preset {key}", part, f"net and data of its kinds {known}")
        presets[key] = replace(preset, spec=replace(spec, source=source))
    return replace(found, presets=presets, source=source)


EXPERIMENTS = kinds.Kind(
    group="experiments", noun="experiment", package="specdyn.models.experiments", checked=_of_plugin
)


def experiment_names() -> list[str]:
    """Names of all experiments, without importing them."""
    return kinds.names(EXPERIMENTS)


def get_experiment(name: str) -> Experiment:
    """The experiment of that name; ValueError lists the known ones."""
    return kinds.get(EXPERIMENTS, name)


def experiment_of(spec: RunSpec) -> Experiment:
    """The experiment of a spec; ValueError if its source differs from the one recorded in the spec."""
    found = get_experiment(spec.experiment)
    if found.source != spec.source:
        place = kinds.origin(EXPERIMENTS, found.name) or "the package"
        raise ValueError(
            f"run {spec.run_id} is of {spec.experiment} with source={spec.source!r}, but {place} now has "
            f"{found.source!r}: start from a preset of the present file, or restore the file as it was"
        )
    return found


def read_spec(text: str, experiment: str) -> RunSpec:
    """The RunSpec of an experiment from its JSON.

    If the experiment is missing, or its source has changed, the spec keeps the run_id, and net and data keep the
    settings of the JSON: the run can be listed, but neither trained nor analysed.
    """
    try:
        found = get_experiment(experiment)
    except ValueError:
        return from_json(text, plain_kinds(text))
    if found.source != source_in(text):
        return from_json(text, plain_kinds(text))
    return from_json(text, {kind.__name__: kind for kind in found.kinds})


def present_specs(texts: Iterable[str], experiment: str) -> tuple[RunSpec, ...]:
    """The RunSpecs among these that match the experiment's present source; ValueError if there are none."""
    source = get_experiment(experiment).source
    read = read_spec if source else _read_once  # a plug-in that is imported again has other classes
    return tuple(read(text, experiment) for text in texts if source_in(text) == source)


@functools.lru_cache(maxsize=2**15)
def _read_once(text: str, experiment: str) -> RunSpec:
    """The same as `read_spec`; a call reads the record of its study several times."""
    return read_spec(text, experiment)


def source_in(text: str) -> str:
    """The digest of a plug-in's source in the JSON of a RunSpec; empty if there is none."""
    plain = json.loads(text) if '"source":' in text else {}
    return str(plain.get("source", "")) if isinstance(plain, dict) else ""
