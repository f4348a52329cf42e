"""Experiment: what one module in models/experiments, or a plug-in, declares.

A module imports torch where it builds or measures a network, so that presets and names are known without it.
"""

from __future__ import annotations

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
    source: str = ""
    """Digest of the source of a plug-in, which its specs have too; empty for experiments of the package."""

    def preset(self, name: str) -> Preset:
        """The preset of that name; ValueError lists the known ones."""
        require_known(f"preset of {self.name}", name, self.presets)
        return self.presets[name]

    def net(self, spec: RunSpec) -> nn.Module:
        """The network as it is initialised for the spec's seed, on the CPU, with the buffers of what it records."""
        import torch

        from specdyn.models import generators
        from specdyn.models.nets.decay_sums import add_decay_sums

        with generators.kept(torch.device("cpu"), spec.seed):
            net = self.build_net(spec)
        add_decay_sums(spec, net)
        return net


def _of_plugin(declared: object, name: str, source: str) -> Experiment:
    """What a plug-in declares, its presets with the digest of its source."""
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
    """The experiment of a spec; ValueError where its source is another one than the spec is of."""
    found = get_experiment(spec.experiment)
    if found.source != spec.source:
        place = kinds.origin(EXPERIMENTS, found.name) or "the package"
        raise ValueError(
            f"run {spec.run_id} is of {spec.experiment} with source={spec.source!r}, and {place} has "
            f"{found.source!r} now: begin with a preset of what is there now, or put the file back as it was"
        )
    return found


def read_spec(text: str, experiment: str) -> RunSpec:
    """The RunSpec of an experiment from its JSON.

    Where the experiment is not there, or its source is another one, net and data have the settings that the JSON has,
    and its run_id: it is known, and can neither be trained nor analysed.
    """
    try:
        found = get_experiment(experiment)
    except ValueError:
        return from_json(text, plain_kinds(text))
    if found.source != source_in(text):
        return from_json(text, plain_kinds(text))
    return from_json(text, {kind.__name__: kind for kind in found.kinds})


def present_specs(texts: Iterable[str], experiment: str) -> tuple[RunSpec, ...]:
    """The RunSpecs among these that are of the source which the experiment has now; ValueError where there is none."""
    source = get_experiment(experiment).source
    return tuple(read_spec(text, experiment) for text in texts if source_in(text) == source)


def source_in(text: str) -> str:
    """The digest of the source of a plug-in that the JSON of a RunSpec has; empty where it has none."""
    plain = json.loads(text) if '"source":' in text else {}
    return str(plain.get("source", "")) if isinstance(plain, dict) else ""
