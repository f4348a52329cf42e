"""Agreement with the final checkpoint and alignment between layers, as heat maps over time."""

import math
from collections.abc import Mapping

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from specdyn.storage.schema import SCORE_RANKS
from specdyn.tasks.figures.levels import Level, heading, levels_of, what
from specdyn.tasks.figures.style import name_step_axes, panels, step_axis, styled
from specdyn.tasks.figures.sweep_axis import has, of_all, short_names, spread, variable

RANKS = 100
MOST_ROWS, MOST_COLUMNS = 8, 8
BESIDE = 5
"""What stands beside a row is broken like a heading over one of so many columns."""
COLORS = matplotlib.colormaps["magma"].with_extremes(bad="#e8e8e8")


@styled
def agreement(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """Rows are levels, columns layers; rank against step."""
    data = tree["layers"].to_dataset()
    return _diagonals(tree, data["agreement"], axis, "Agreement with the final checkpoint", agreement_chance(data))


@styled
def agreement_scores(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """A panel for each level; layer against step."""
    data = tree["layers"].to_dataset()
    return _scores(tree, data["agreement_score"], axis, "Agreement score", agreement_chance(data))


@styled
def alignment(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """Rows are levels, columns pairs of layers; rank against step."""
    return _diagonals(tree, variable(tree, "pairs", "alignment"), axis, "Alignment of layers", alignment_chance(tree))


@styled
def alignment_scores(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """A panel for each level; pair against step."""
    return _scores(tree, variable(tree, "pairs", "alignment_score"), axis, "Alignment score", alignment_chance(tree))


def agreement_chance(layers: xr.Dataset) -> dict[str, float]:
    """(2 / pi) / sqrt(M N) of each layer whose shape the cube says (CLAIMS 2.7)."""
    if not all(key in layers.coords and layers[key].dims == ("layer",) for key in ("rows", "columns")):
        return {}
    sizes = layers["rows"].values * layers["columns"].values
    return {
        str(name): 2 / math.pi / math.sqrt(size)
        for name, size in zip(layers["layer"].values, sizes.tolist(), strict=True)
        if size
    }


def alignment_chance(tree: xr.DataTree) -> dict[str, float]:
    """sqrt(2 / (pi d)) of each pair whose shared width d the cube says (CLAIMS 2.7).

    It is the input width of the layer that reads; of a head's queries and keys the width of the head.
    """
    layers = tree["layers"].to_dataset() if "layers" in tree.children else xr.Dataset()
    if "columns" not in layers.coords or layers["columns"].dims != ("layer",):
        return {}
    inputs = dict(zip(map(str, layers["layer"].values), layers["columns"].values.tolist(), strict=True))
    chance = {}
    for pair in map(str, tree["pairs"].to_dataset()["pair"].values.tolist()):
        reader, _, part = pair.split(" -> ")[-1].partition("[")
        width = _head_width(tree, pair) if part == "query]" else inputs.get(reader)
        if width:
            chance[pair] = math.sqrt(2 / math.pi / width)
    return chance


def _head_width(tree: xr.DataTree, pair: str) -> int:
    """How many ranks a pair of queries and keys has: a head is wider in inputs than in outputs."""
    if not has(tree, "pairs", "alignment"):
        return 0
    return _known_ranks(variable(tree, "pairs", "alignment").sel(pair=pair).isel(run=slice(1)).load())


def _diagonals(tree: xr.DataTree, data: xr.DataArray, axis: str, title: str, chance: Mapping[str, float]) -> Figure:
    """Values (run, thing, step, rank): a row for each level, a column for each layer or pair."""
    thing = str(data.dims[1])
    everything, all_levels = data[thing].values.tolist(), levels_of(tree, axis)
    names, levels = spread(everything, MOST_COLUMNS), spread(all_levels, MOST_ROWS)
    short = short_names(everything)
    values = data.sel({thing: names}).isel(rank=slice(RANKS)).load()
    figure, grid = panels(len(levels), len(names), 3.0, 2.2, sharex=True, sharey="col")
    for row, level in zip(grid, levels, strict=True):
        for axes, name in zip(row, names, strict=True):
            mesh = _mesh(axes, _mean(values.sel({thing: name}), level).transpose("rank", "step"))
        row[0].set_ylabel(f"{heading(level, BESIDE)}\nrank (1 = largest)")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(_title(short[name], chance.get(name)))
        axes.set_ylim(max(1, _known_ranks(values.sel({thing: name}))) + 0.5, 0.5)
    figure.colorbar(mesh, ax=grid, label=title.split(maxsplit=1)[0].lower(), aspect=40, pad=0.01)
    name_step_axes(grid)
    figure.suptitle(f"{title} by rank" + of_all(names, everything, thing) + of_all(levels, all_levels, what(levels)))
    return figure


def _scores(tree: xr.DataTree, data: xr.DataArray, axis: str, title: str, chance: Mapping[str, float]) -> Figure:
    """Values (run, thing, step): a panel for each level, a row of pixels for each layer or pair."""
    thing = str(data.dims[1])
    names, all_levels = data[thing].values.tolist(), levels_of(tree, axis)
    levels, short = spread(all_levels, MOST_COLUMNS), short_names(names)
    values = data.load()
    figure, grid = panels(1, len(levels), 4.2, min(8.0, 0.34 * len(names) + 1.2), sharex=True, sharey=True)
    for axes, level in zip(grid[0], levels, strict=True):
        mesh = _mesh(axes, _mean(values, level).transpose(thing, "step"))
        axes.set_title(heading(level, len(levels)))
    labels = [short[name] + (f" ({chance[name]:.2g})" if name in chance else "") for name in names]
    grid[0, 0].set_yticks(range(1, len(names) + 1), labels)
    grid[0, 0].set_ylim(len(names) + 0.5, 0.5)
    grid[0, 0].set_ylabel(f"{thing} (chance level)" if chance else thing)
    figure.colorbar(mesh, ax=grid, label=title.lower(), pad=0.01)
    name_step_axes(grid)
    figure.suptitle(
        f"{title} of each {thing}: mean of the first {SCORE_RANKS} ranks" + of_all(levels, all_levels, what(levels))
    )
    return figure


def _mean(values: xr.DataArray, level: Level) -> xr.DataArray:
    """Mean over the level's runs, without steps that have no value."""
    return values.isel(run=list(level.runs)).mean("run").dropna("step", how="all")


def _mesh(axes: Axes, values: xr.DataArray) -> QuadMesh:
    """Values (row, step) as cells from 0 to 1; a cell reaches half-way to the neighbouring steps."""
    rows, steps = values.sizes[values.dims[0]], values["step"].values
    if not len(steps):
        steps, values = np.array([0]), xr.DataArray(np.full((rows, 1), np.nan))
    edges = np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, [max(steps[-1], steps[0] + 1)]])
    axes.grid(visible=False)
    step_axis(axes, 3)
    return axes.pcolormesh(
        edges, np.arange(rows + 1) + 0.5, np.ma.masked_invalid(values.values), cmap=COLORS, vmin=0, vmax=1
    )


def _title(name: str, chance: float | None) -> str:
    return name.replace(" → ", "\n→ ") + ("" if chance is None else f"\nchance {chance:.2g}")


def _known_ranks(values: xr.DataArray) -> int:
    """The last rank that has a value in any run."""
    known = values.notnull().any([dim for dim in values.dims if dim != "rank"]).values
    return int(np.flatnonzero(known)[-1]) + 1 if known.any() else 0
