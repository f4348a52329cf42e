"""Draws heat maps over time: agreement with the final checkpoint, alignment between layers."""

import math
from collections.abc import Mapping

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from specdyn.models.nets.layers import short_names
from specdyn.storage.schema import SCORE_RANKS
from specdyn.tasks.figures.levels import Level, heading, levels_of, what
from specdyn.tasks.figures.style import WIDEST, name_step_axes, panels, step_axis, step_label, styled, title_panel
from specdyn.tasks.figures.sweep_axis import has, of_all, spread, variable
from specdyn.tasks.spectra.labels import CHANCE_OF

RANKS = 100
MOST_ROWS, MOST_COLUMNS = 6, 5
LABEL = 0.009
"""Of the largest width of a figure that a character of a label beside the panels takes."""
BESIDE = 5
"""Row labels are wrapped like a heading above this many columns."""
COLORS = matplotlib.colormaps["magma"].with_extremes(bad="#e8e8e8")


@styled
def agreement(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """Rows are configurations, columns layers; rank against step."""
    return _diagonals(tree, "layers", "agreement", axis, "Agreement with the final checkpoint")


@styled
def agreement_scores(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """A panel for each level; layer against step."""
    return _scores(tree, "layers", "agreement", axis)


@styled
def alignment(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """Rows are configurations, columns pairs of layers; rank against step."""
    return _diagonals(tree, "pairs", "alignment", axis, "Alignment of layers")


@styled
def alignment_scores(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """A panel for each level; pair against step."""
    return _scores(tree, "pairs", "alignment", axis)


def chance(tree: xr.DataTree, group: str, name: str) -> dict[str, float]:
    """The chance level of a variable for each layer or pair, from `null_levels` (CLAIMS 2.7).

    Omits layers and pairs for which it was not measured, or in which runs differ.
    """
    if not has(tree, group, CHANCE_OF[name]):
        return {}
    levels = variable(tree, group, CHANCE_OF[name]).load()
    (thing,) = set(levels.dims) - {"run"}
    lowest, highest = levels.min("run"), levels.max("run")
    alike = levels[thing].values[(lowest == highest).values]
    return {str(label): float(lowest.sel({thing: label})) for label in alike}


def _diagonals(tree: xr.DataTree, group: str, name: str, axis: str, title: str) -> Figure:
    """Values (run, thing, step, rank): a row per configuration, a column per layer or pair."""
    data, by_chance = variable(tree, group, name), chance(tree, group, name)
    thing = str(data.dims[1])
    everything, all_levels = data[thing].values.tolist(), levels_of(tree, axis)
    names, levels = spread(everything, MOST_COLUMNS), spread(all_levels, MOST_ROWS)
    short = short_names(everything)
    values = data.sel({thing: names}).isel(rank=slice(RANKS)).load()
    figure, grid = panels(len(levels), len(names), 1.6, 1.0, sharex=True, sharey="col")
    for row, level in zip(grid, levels, strict=True):
        for axes, label in zip(row, names, strict=True):
            mesh = mesh_by_step(axes, _mean(values.sel({thing: label}), level).transpose("rank", "step"))
        row[0].set_ylabel(f"{heading(level, BESIDE)}\nrank (1 = largest)")
    for axes, label in zip(grid[0], names, strict=True):
        level_of_chance = f"\nchance {by_chance[label]:.2g}" if label in by_chance else ""
        title_of = short[label].replace(" → ", "\n→ ") + level_of_chance
        title_panel(axes, title_of)
        # A head has fewer ranks than a layer: do not show ranks that it cannot have.
        known = np.flatnonzero(values.sel({thing: label}).notnull().any(["run", "step"]).values)
        axes.set_ylim(max(known, default=0) + 1.5, 0.5)
    figure.colorbar(mesh, ax=grid, label=name, aspect=40, pad=0.01)
    name_step_axes(grid, tree)
    figure.suptitle(f"{title} by rank" + of_all(names, everything, thing) + of_all(levels, all_levels, what(levels)))
    return figure


@styled
def effective_rank_map(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """Effective rank / rank: a panel per configuration, layer against step."""
    return _by_layer(tree, "layers", "effective_rank", axis, {}, "Effective rank / rank of each layer")


@styled
def gini_map(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """Gini coefficient of the singular values: a panel per configuration, layer against step."""
    return _by_layer(tree, "layers", "gini", axis, {}, "Gini coefficient of each layer's singular values")


def _scores(tree: xr.DataTree, group: str, name: str, axis: str) -> Figure:
    thing = "layer" if group == "layers" else "pair"
    title = f"{name.capitalize()} score of each {thing}: mean of the first {SCORE_RANKS} ranks"
    return _by_layer(tree, group, f"{name}_score", axis, chance(tree, group, name), title)


def _by_layer(
    tree: xr.DataTree, group: str, name: str, axis: str, by_chance: Mapping[str, float], title: str
) -> Figure:
    """Values (run, thing, step) from 0 to 1: a panel per configuration, a row of pixels per layer or pair."""
    data = variable(tree, group, name)
    thing = str(data.dims[1])
    names, all_levels = data[thing].values.tolist(), levels_of(tree, axis)
    levels, short = spread(all_levels, MOST_COLUMNS), short_names(names)
    values = data.load()
    figure, grid = panels(1, len(levels), 2.2, min(5.0, 0.13 * len(names) + 0.5), sharex=True, sharey=True)
    labels = [short[label] + (f" ({by_chance[label]:.2g})" if label in by_chance else "") for label in names]
    # The width that the labels next to the panels leave.
    columns = math.ceil(len(levels) / (figure.get_figwidth() / WIDEST - LABEL * max(map(len, labels), default=0)))
    for axes, level in zip(grid[0], levels, strict=True):
        mesh = mesh_by_step(axes, _mean(values, level).transpose(thing, "step"))
        axes.set_title(heading(level, columns))
        if columns > MOST_COLUMNS:
            step_axis(axes, 2)
    grid[0, 0].set_yticks(range(1, len(names) + 1), labels)
    grid[0, 0].set_ylim(len(names) + 0.5, 0.5)
    grid[0, 0].set_ylabel(f"{thing} (chance level)" if by_chance else thing)
    figure.colorbar(mesh, ax=grid, label=name.replace("_", " "), pad=0.01)
    figure.supxlabel(step_label(tree))
    figure.suptitle(title + of_all(levels, all_levels, what(levels)))
    return figure


def _mean(values: xr.DataArray, level: Level) -> xr.DataArray:
    """Mean over the configuration's runs, without steps that have no value."""
    return values.isel(run=list(level.runs)).mean("run").dropna("step", how="all")


def edges(places: np.ndarray) -> np.ndarray:
    """Cell edges for ascending positions, half-way between neighbours; the outer cells end at their positions."""
    return np.concatenate([places[:1], (places[1:] + places[:-1]) / 2, [max(places[-1], places[0] + 1)]])


def mesh_by_step(axes: Axes, values: xr.DataArray) -> QuadMesh:
    """Values (row, step) as cells from 0 to 1; a cell reaches half-way to the neighbouring steps."""
    rows, steps = values.sizes[values.dims[0]], values["step"].values
    if not len(steps):  # one grey column, as matplotlib draws no empty mesh
        steps, values = np.array([0]), xr.DataArray(np.full((rows, 1), np.nan))
    axes.grid(visible=False)
    step_axis(axes, 3)
    return axes.pcolormesh(
        edges(steps),
        np.arange(rows + 1) + 0.5,
        np.ma.masked_invalid(values.values),
        cmap=COLORS,
        vmin=0,
        vmax=1,
        rasterized=True,  # an SVG of every cell would take megabytes
    )
