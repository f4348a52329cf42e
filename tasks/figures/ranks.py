"""Effective rank of every layer against step."""

import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tasks.facts import COLLAPSED
from tasks.figures.performance import spread_handles
from tasks.figures.style import INK, name_step_axes, panels, step_axis, styled
from tasks.figures.sweep_axis import Level, axis_title, draw, has, levels_of, of_all, runs_of, short_names, spread
from tasks.summary import grok_steps

MOST_LAYERS = 23
COLLAPSE_MARK: Any = {"marker": "x", "color": "#cc3311", "linestyle": "none", "markersize": 5}


@styled
def effective_ranks(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """A panel for the mean over layers and for each layer, a line for each level.

    Ticks on the lower edge are the grokking steps of the runs, crosses the steps at which a layer is collapsed.
    """
    data = tree["layers"].to_dataset()
    ranks = data["effective_rank"].load()
    collapsed = data["collapse"].load() == COLLAPSED if has(tree, "layers", "collapse") else None
    everything = ranks["layer"].values.tolist()
    names, short = spread(everything, MOST_LAYERS), short_names(everything)
    levels = levels_of(tree, axis)
    columns = min(4, len(names) + 1)
    figure, grid = panels(math.ceil((len(names) + 1) / columns), columns, 3.5, 2.5, sharex=True, sharey=True)
    first, *others = grid.flat
    _panel(first, ranks.mean("layer"), None if collapsed is None else collapsed.any("layer"), levels)
    first.set_title(f"mean over {len(everything)} layers", fontweight="bold")
    for axes, name in zip(others, names, strict=False):
        _panel(axes, ranks.sel(layer=name), None if collapsed is None else collapsed.sel(layer=name), levels)
        axes.set_title(short[name] + _shape(data, name))
    name_step_axes(grid)
    for axes in grid[:, 0]:
        axes.set_ylabel("effective rank / rank")
    for axes in others[len(names) :]:
        _remove(axes, grid)
    groks = _mark_groks(tree, levels, list(grid.flat)[: len(names) + 1])
    _finish(figure, axis, levels, groks, collapsed is not None and bool(collapsed.any()))
    figure.suptitle(f"Effective rank of each layer by {axis_title(axis)}" + of_all(names, everything, "layer"))
    return figure


def _remove(axes: Axes, grid: np.ndarray) -> None:
    """Take away a panel of the last row that has no layer; the one above it names the step axis."""
    column = list(grid[-1]).index(axes)
    axes.remove()
    if len(grid) > 1:
        grid[-2, column].set_xlabel("optimizer steps")


def _panel(axes: Axes, ranks: xr.DataArray, collapsed: xr.DataArray | None, levels: list[Level]) -> None:
    for level in levels:
        of_level = ranks.isel(run=list(level.runs))
        draw(axes, of_level, level.color)
        if collapsed is not None:
            at = collapsed.isel(run=list(level.runs)).any("run").values
            axes.plot(of_level["step"].values[at], of_level.mean("run").values[at], **COLLAPSE_MARK)
    axes.set_ylim(0, 1)
    step_axis(axes, 4)
    axes.xaxis.set_tick_params(labelbottom=True)


def _shape(data: xr.Dataset, name: str) -> str:
    """Rows and columns of a layer where the cube says them for all runs alike."""
    if not all(key in data.coords and data[key].dims == ("layer",) for key in ("rows", "columns")):
        return ""
    of_layer = data.sel(layer=name)
    return f"  {int(of_layer['rows'])} × {int(of_layer['columns'])}"


def _mark_groks(tree: xr.DataTree, levels: list[Level], panels: list[Axes]) -> bool:
    """Tick the grokking steps on the lower edge of every panel; says whether there are any."""
    steps = grok_steps(tree)
    runs = [str(run) for run in runs_of(tree)["run"].values]
    for level in levels:
        groks = [steps[runs[i]] for i in level.runs if runs[i] in steps]
        for axes in panels:
            axes.vlines(groks, 0, 0.09, color=level.color, linewidth=2.2)
    return bool(steps)


def _finish(figure: Figure, axis: str, levels: list[Level], groks: bool, collapses: bool) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=level.color, linewidth=2.5, label=f"{axis_title(axis)} {level.label}, {level.n}")
        for level in levels
    ]
    handles += spread_handles(levels)
    if groks:
        tick: Any = {"marker": "|", "markersize": 10, "markeredgewidth": 2.2, "linestyle": "none"}
        handles.append(Line2D([], [], color=INK, label="a run groks", **tick))
    if collapses:
        handles.append(Line2D([], [], label="layer collapsed in a run", **COLLAPSE_MARK))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
