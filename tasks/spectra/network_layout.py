"""The analysed layers and pairs of a network, the skipped tensors, and the resulting layout of results."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from specdyn.models.experiments.base import Metric, experiment_of
from specdyn.models.nets.layers import layer_depths, layer_kinds, module_kinds, short_names
from specdyn.models.nets.matrices import Entry, LayerPair, Matrix, analysed, inventory
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.wording import plural
from specdyn.storage.results import RunLayout
from specdyn.storage.schema import SHORT_NAME, SPLITS, TOP_RANKS
from specdyn.tasks.asked import of_network
from specdyn.tasks.later import Later
from specdyn.tasks.spectra.analysis import get_analysis


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLayout:
    """The tensors of a network and how they are analysed."""

    entries: tuple[Entry, ...]
    """Every tensor of two or more dimensions: analysed in a named way, or skipped for a reason."""
    pairs: tuple[LayerPair, ...]
    family: str = ""
    """For another program's network: its family, or `unknown`."""
    because: str = ""
    """How the family was recognised, or why it was not."""
    told: tuple[str, ...] = ()
    """Notes on choices among several sets in its files."""

    @property
    def layers(self) -> tuple[Matrix, ...]:
        """The analysed parameters, or their parts, as matrices, in registration order."""
        return analysed(self.entries)

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All matrices to decompose: the layers, then the parts of them that pairs need."""
        parts = [matrix for pair in self.pairs for matrix in (pair.writer, pair.reader)]
        return tuple(dict.fromkeys([*self.layers, *parts]))

    @property
    def attention(self) -> tuple[LayerPair, ...]:
        """The pairs that are compared by head."""
        return tuple(pair for pair in self.pairs if pair.heads)

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each layer; empty if unknown."""
        return tuple(role for e in self.entries for role in e.roles or [""] * len(e.matrices))

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer: embedding, attention, mlp, conv, recurrent or output; empty if unknown."""
        known = [kind for e in self.entries for kind in e.kinds or [""] * len(e.matrices)]
        return layer_kinds(self.layers, self.pairs, known)

    @property
    def depths(self) -> list[int]:
        """The depth of each layer, from the pairs; -1 if no pair has it."""
        return layer_depths(self.layers, self.pairs)

    @property
    def ways(self) -> list[str]:
        """How the parameter of each layer is reshaped to a matrix."""
        return [entry.way for entry in self.entries for _ in entry.matrices]

    @property
    def described(self) -> tuple[str, ...]:
        """Description of another program's network for display."""
        counts = f"{plural(len(self.layers), 'layer')}, {plural(len(self.pairs), 'pair')}"
        return (f"family: {self.family} ({self.because}); {counts}", *self.told)

    def without(self, absent: Collection[str]) -> "NetworkLayout":
        """The layout of a checkpoint that lacks these parameters or has them in another shape."""
        if not absent:
            return self
        return replace(
            self,
            entries=tuple(entry for entry in self.entries if entry.parameter not in absent),
            pairs=tuple(
                pair for pair in self.pairs if not {pair.writer.parameter, pair.reader.parameter} & set(absent)
            ),
        )

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(M, N) of each layer."""
        of_parameters = {entry.parameter: entry.shape for entry in self.entries}
        return tuple(layer.shape(of_parameters[layer.parameter]) for layer in self.layers)

    @property
    def ranks(self) -> int:
        """The largest number of singular values among the layers."""
        return max(min(shape) for shape in self.shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The destination of a run's results."""

    folder: str
    """Folder with one object per block."""
    layout: RunLayout
    contents: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Digests of the checkpoints that determine values, by step and by what analyses depend on.

    With these, each checkpoint has separate objects, one per digest.
    """


def network_layout(spec: RunSpec) -> NetworkLayout:
    """The layout of a spec's network, built without weights, by a delegate process if there is one."""
    found: NetworkLayout = of_network(Later(__name__, "built_layout"), spec)
    return found


def built_layout(spec: RunSpec) -> NetworkLayout:
    """The same, with the network built in this process."""
    import torch

    experiment = experiment_of(spec)
    with torch.device("meta"):
        net = experiment.build_net(spec)
    kinds = module_kinds(net)
    entries = (replace(e, kinds=(kinds.get(e.parameter, ""),)) if e.matrices else e for e in inventory(net))
    return NetworkLayout(entries=tuple(entries), pairs=experiment.layer_pairs(spec, net))


def run_layout(
    layout: NetworkLayout,
    steps: Sequence[int],
    analyses: Sequence[str],
    metrics: Mapping[str, Metric],
    attributes: Mapping[str, Any],
) -> RunLayout:
    """The layout of a network's results: labels of the dimensions, and variables of the analyses."""
    chosen = [get_analysis(name) for name in analyses]
    labels = {**_labels(layout, steps), **{dim: of for analysis in chosen for dim, of in analysis.labels.items()}}
    variables = {
        name: variable
        for analysis in chosen
        for name, variable in analysis.variables_for(metrics).items()
        if all(labels[dim] for dim in variable.dims)
    }
    left_out = [[e.parameter, list(e.shape), e.skipped] for e in layout.entries if e.skipped]
    return RunLayout(
        labels=labels,
        variables=variables,
        attributes={**attributes, "skipped": json.dumps(left_out), **_origin(layout)},
        extras={
            "rows": ("layer", [m for m, _ in layout.shapes]),
            "columns": ("layer", [n for _, n in layout.shapes]),
            "made": ("layer", layout.ways),
            **layer_coordinates(layout),
            **({"role": ("layer", list(layout.roles))} if any(layout.roles) else {}),
            "writer": ("pair", [pair.writer.name for pair in layout.pairs]),
            "reader": ("pair", [pair.reader.name for pair in layout.pairs]),
        },
    )


def layer_coordinates(layout: NetworkLayout) -> dict[str, tuple[str, list[Any]]]:
    """Further coordinates of layers in every kind of cube: short name, kind, depth."""
    names = [layer.name for layer in layout.layers]
    short = short_names(names)
    return {
        SHORT_NAME: ("layer", [short[name] for name in names]),
        "kind": ("layer", layout.kinds),
        "depth": ("layer", layout.depths),
    }


def _origin(layout: NetworkLayout) -> dict[str, str]:
    """The family of another program's network, and how it was recognised."""
    if not layout.family:
        return {}
    return {"family": layout.family, "family_because": layout.because, "told": json.dumps(layout.told)}


def _labels(layout: NetworkLayout, steps: Sequence[int]) -> dict[str, Sequence[Any]]:
    top = range(1, min(TOP_RANKS, layout.ranks) + 1)
    parts = max((pair.parts for pair in layout.pairs), default=1)
    heads = max((pair.heads for pair in layout.attention), default=0)
    return {
        "step": list(steps),
        "layer": [layer.name for layer in layout.layers],
        "pair": [pair.name for pair in layout.pairs],
        "attention": [pair.name for pair in layout.attention],
        "head": list(range(1, heads + 1)),
        "part": list(range(1, parts + 1)) if parts > 1 else [],
        "rank": list(range(1, layout.ranks + 1)),
        "final_rank": list(range(1, layout.ranks + 1)),
        "row": list(top),
        "column": list(top),
        "split": list(SPLITS),
    }
