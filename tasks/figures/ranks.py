"""Effective rank of every layer against step."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specdyn.tasks.figures.configurations import runs_of
from specdyn.tasks.figures.levels import Level, axes_title, levels_of, line_handles, panels_of, spread_handles
from specdyn.tasks.figures.style import INK, legend_below, name_step_axes, panels, step_axis, styled
from specdyn.tasks.figures.summary import grok_steps
from specdyn.tasks.figures.sweep_axis import draw, has, of_all, short_names, spread
from specdyn.tasks.spectra.facts import COLLAPSED

MOST_LAYERS, MOST_COLUMNS, MOST_ROWS = 23, 4, 6
COLLAPSE_MARK: Any = {"marker": "x", "color": "#cc3311", "linestyle": "none", "markersize": 5}


@styled
def effective_ranks(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """A panel for the mean over layers and for each layer, a line for each level.

    Where more varies than colours and line styles can say, a row for each further choice, and fewer layers.
    Ticks on the lower edge are the grokking steps of the runs, crosses the steps at which a layer is collapsed.
    """
    data = tree["layers"].to_dataset()
    ranks = data["effective_rank"].load()
    collapsed = data["collapse"].load() == COLLAPSED if has(tree, "layers", "collapse") else None
    everything = ranks["layer"].values.tolist()
    levels = levels_of(tree, axis, dashes=True)
    all_rows = panels_of(levels)
    rows = spread(all_rows, MOST_ROWS)
    names = spread(everything, MOST_LAYERS if len(rows) == 1 else MOST_COLUMNS - 1)
    columns = min(MOST_COLUMNS, len(names) + 1)
    lines = math.ceil((len(names) + 1) / columns)
    figure, grid = panels(len(rows) * lines, columns, 3.5, 2.5, sharex=True, sharey=True)
    groks = False
    for number, row in enumerate(rows):
        chosen = [level for level in levels if level.panel == row]
        own = grid[number * lines : (number + 1) * lines]
        _row(own, data, ranks, collapsed, names, chosen)
        groks |= _mark_groks(tree, chosen, list(own.flat)[: len(names) + 1])
        if row:
            own[0, 0].set_title(f"{row}\nmean over {len(everything)} layers", fontweight="bold")
    name_step_axes(grid)
    for axes in grid[:, 0]:
        axes.set_ylabel("effective rank / rank")
    for axes in list(grid.flat)[len(names) + 1 :] if len(rows) == 1 else []:
        _remove(axes, grid)
    _finish(figure, levels, groks, collapsed is not None and bool(collapsed.any()))
    figure.suptitle(
        f"Effective rank of each layer by {axes_title(levels)}"
        + of_all(names, everything, "layer")
        + of_all(rows, all_rows, "row")
    )
    return figure


def _row(
    grid: np.ndarray,
    data: xr.Dataset,
    ranks: xr.DataArray,
    collapsed: xr.DataArray | None,
    names: Sequence[str],
    levels: Sequence[Level],
) -> None:
    """The mean over all layers, then a panel for each of the layers named."""
    first, *others = grid.flat
    short = short_names(ranks["layer"].values.tolist())
    _panel(first, ranks.mean("layer"), None if collapsed is None else collapsed.any("layer"), levels)
    first.set_title(f"mean over {ranks.sizes['layer']} layers", fontweight="bold")
    for axes, name in zip(others, names, strict=False):
        _panel(axes, ranks.sel(layer=name), None if collapsed is None else collapsed.sel(layer=name), levels)
        axes.set_title(short[name] + _shape(data, name))


def _remove(axes: Axes, grid: np.ndarray) -> None:
    """Take away a panel of the last row that has no layer; the one above it names the step axis."""
    column = list(grid[-1]).index(axes)
    axes.remove()
    if len(grid) > 1:
        grid[-2, column].set_xlabel("optimizer steps")


def _panel(axes: Axes, ranks: xr.DataArray, collapsed: xr.DataArray | None, levels: Sequence[Level]) -> None:
    for level in levels:
        of_level = ranks.isel(run=list(level.runs))
        draw(axes, of_level, level.color, linestyle=level.dash)
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


def _mark_groks(tree: xr.DataTree, levels: Sequence[Level], panels: Sequence[Axes]) -> bool:
    """Tick the grokking steps on the lower edge of every panel; says whether there are any."""
    steps = grok_steps(tree)
    runs = [str(run) for run in runs_of(tree)["run"].values]
    for level in levels:
        groks = [steps[runs[i]] for i in level.runs if runs[i] in steps]
        for axes in panels:
            axes.vlines(groks, 0, 0.09, color=level.color, linewidth=2.2, linestyles=level.dash)
    return bool(steps)


def _finish(figure: Figure, levels: Sequence[Level], groks: bool, collapses: bool) -> None:
    handles = [*line_handles(levels), *spread_handles(levels)]
    if groks:
        tick: Any = {"marker": "|", "markersize": 10, "markeredgewidth": 2.2, "linestyle": "none"}
        handles.append(Line2D([], [], color=INK, label="a run groks", **tick))
    if collapses:
        handles.append(Line2D([], [], label="layer collapsed in a run", **COLLAPSE_MARK))
    legend_below(figure, handles)
