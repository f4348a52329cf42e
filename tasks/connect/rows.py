"""Lines and tickets as rows of a cube: labels, variables, and derived barriers."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from specdyn.models.experiments.base import experiment_of
from specdyn.models.nets.matrices import Matrix
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.schedules import step_coordinates
from specdyn.storage.results import RunLayout
from specdyn.storage.rows import Facts
from specdyn.storage.schema import Variable
from specdyn.tasks.connect.declared import labels_of, variables_of
from specdyn.tasks.connect.matching import has_groups
from specdyn.tasks.connect.meter import STORED, has_statistics
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.paths import barrier, instability
from specdyn.tasks.connect.variables import LINE, TICKET
from specdyn.tasks.spectra.analysis import Analysis
from specdyn.tasks.spectra.network_layout import layer_coordinates, network_layout
from specdyn.tasks.training.branches import maskable

if TYPE_CHECKING:
    import xarray as xr
    from torch import nn


def line_analyses(pair: Pair, net: "nn.Module") -> tuple[Analysis, ...]:
    """The analyses of a line: the requested ones, and matching if the network's units are known."""
    left_out = {"curve": not pair.curve_steps, "layers": not pair.layerwise, "matched": not has_groups(net)}
    return tuple(analysis for analysis in LINE if not left_out.get(analysis.name))


def line_layout(pair: Pair) -> RunLayout:
    """Labels and variables of a line; the same object for lines with equal ones."""
    plain = replace(pair.a, seed=0, start=None)
    return _line_layout(replace(pair, a=plain, b=plain, kind="", curve_steps=int(pair.curve_steps > 0)))


@functools.lru_cache(maxsize=64)
def _line_layout(pair: Pair) -> RunLayout:
    experiment, layout = experiment_of(pair.a), network_layout(pair.a)
    with torch.device("meta"):
        net = experiment.build_net(pair.a)
    analyses, renewed = line_analyses(pair, net), has_statistics(net)
    variables = variables_of(analyses, experiment.metrics(pair.a))
    layers = [layer.name for layer in layout.layers]
    return RunLayout(
        labels={"alpha": list(pair.alphas), **_labels(analyses, layers, layout.ranks)},
        variables={name: found for name, found in variables.items() if renewed or not name.startswith(STORED)},
        attributes={},
        extras=layer_coordinates(layout),
    )


@functools.lru_cache(maxsize=64)
def ticket_layout(spec: RunSpec, steps: tuple[int, ...], examples: int) -> RunLayout:
    """Labels and variables of a ticket with checkpoints at these steps and that many training examples.

    Its seed and start do not matter.
    """
    layers, ranks = masked_layers(spec)
    return RunLayout(
        labels={"step": list(steps), **_labels(TICKET, [layer.name for layer in layers], ranks)},
        variables=variables_of(TICKET, experiment_of(spec).metrics(spec)),
        attributes={},
        extras=step_coordinates(spec, steps, examples),
    )


def masked_layers(spec: RunSpec) -> tuple[Sequence[Matrix], int]:
    """The layers that a ticket compares, and the largest rank among them."""
    layers, layout = maskable(spec), network_layout(spec)
    shapes = dict(zip(layout.layers, layout.shapes, strict=True))
    return layers, max(min(shapes[layer]) for layer in layers)


def _labels(analyses: Sequence[Analysis], layers: Sequence[str], ranks: int) -> dict[str, Sequence[Any]]:
    plain = {dim: list(labels) for dim, labels in labels_of(analyses).items()}
    return {"layer": list(layers), "rank": list(range(1, ranks + 1)), **plain}


DERIVED = {"barrier": barrier, "instability": instability}


def _declared(variables: Mapping[str, Variable]) -> dict[str, Variable]:
    curves = {name: of for name, of in variables.items() if "alpha" in of.dims and "rank" not in of.dims}
    return {
        f"{kind}_{name}": replace(
            of, dims=tuple(dim for dim in of.dims if dim != "alpha"), long_name=f"{kind} of {of.long_name}"
        )
        for name, of in curves.items()
        for kind in DERIVED
    }


def _computed(line: "Mapping[Any, xr.DataArray]") -> dict[str, np.ndarray]:
    curves = {name: of for name, of in line.items() if "alpha" in of.dims and "rank" not in of.dims}
    return {
        f"{kind}_{name}": derive(of.transpose(..., "alpha").values)
        for name, of in curves.items()
        for kind, derive in DERIVED.items()
    }


BARRIERS = Facts(declare=_declared, compute=_computed)
"""Barrier and instability of every curve of a line, signed (METHOD 4.8)."""
