"""Draws the effective rank of every layer against step."""

import math
from collections.abc import Sequence
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specdyn.models.nets.layers import short_names
from specdyn.tasks.figures.levels import Level, axes_title, levels_of, line_handles, panels_of, spread_handles
from specdyn.tasks.figures.style import (
    INK,
    legend_below,
    name_step_axes,
    panels,
    step_axis,
    step_label,
    styled,
    title_panel,
)
from specdyn.tasks.figures.summary import run_facts
from specdyn.tasks.figures.sweep_axis import draw, has, of_all, spread
from specdyn.tasks.spectra.facts import COLLAPSED

MOST_LAYERS, MOST_COLUMNS, MOST_ROWS = 23, 4, 6
TITLES = {
    "effective_rank": ("Effective rank", "effective rank / rank"),
    "effective_rank_count": ("Values that hold 90 % of the sum", "values / rank"),
    "effective_rank_ratio": ("Stable rank", "stable rank / rank"),
}
FITTING = 22
"""Characters that fit over a panel."""
COLLAPSE_MARK: Any = {"marker": "x", "color": "#cc3311", "linestyle": "none", "markersize": 2.5}
GROK_MARK: Any = {"marker": "|", "color": INK, "linestyle": "none", "markersize": 5, "markeredgewidth": 1.2}


@styled
def effective_ranks(tree: xr.DataTree, axis: str = "weight_decay", name: str = "effective_rank") -> Figure:
    """A panel for the mean over layers and one per layer, a line per configuration.

    If more settings vary than colours and line styles can show, there is a row per further combination, with fewer
    layers. `name` is any variable of layers between 0 and 1, such as `effective_rank_count`. Ticks on the lower edge
    mark the grokking steps of the runs, crosses the steps at which a layer is collapsed.
    """
    data = tree["layers"].to_dataset()
    ranks, groks = data[name].load(), run_facts(tree)["grok_step"]
    known = has(tree, "layers", "collapse")
    collapsed = data["collapse"].load() == COLLAPSED if known else xr.zeros_like(ranks, dtype=bool)
    everything = ranks["layer"].values.tolist()
    levels = levels_of(tree, axis, dashes=True)
    all_rows = panels_of(levels)
    rows = spread(all_rows, MOST_ROWS)
    names = spread(everything, MOST_LAYERS if len(rows) == 1 else MOST_COLUMNS - 1)
    short = short_names(everything)
    mean = f"mean over {len(everything)} layers"
    shown = [(mean, ranks.mean("layer"), collapsed.any("layer"))]
    for label in names:
        of_layer = {"layer": label}
        shown.append((short[label] + _shape(data.sel(of_layer)), ranks.sel(of_layer), collapsed.sel(of_layer)))
    columns = min(MOST_COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure, grid = panels(len(rows) * lines, columns, 1.6, 1.15, sharex=True, sharey=True)
    for row, own in zip(rows, grid.reshape(len(rows), -1), strict=True):
        chosen = [level for level in levels if level.panel == row]
        for axes, (title, of_panel, collapses) in zip(own, shown, strict=False):
            _panel(axes, of_panel, collapses, groks, chosen)
            title_panel(axes, title, FITTING)
        own[0].set_title(f"{row}\n{mean}" if row else mean, fontweight="bold")
    name_step_axes(grid, tree)
    for axes in grid[:, 0]:
        axes.set_ylabel(TITLES[name][1])
    # The last panels may have no layer; the panels above them then label the step axis.
    for column in range(len(shown) - (lines - 1) * columns, columns):
        grid[-1, column].remove()
        grid[-2, column].set_xlabel(step_label(tree))
    marks = (("a run groks", GROK_MARK, groks.notnull()), ("layer collapsed in a run", COLLAPSE_MARK, collapsed))
    handles = [Line2D([], [], label=label, **mark) for label, mark, marked in marks if marked.any()]
    legend_below(figure, [*line_handles(levels), *spread_handles(levels), *handles])
    left_out = of_all(names, everything, "layer") + of_all(rows, all_rows, "row")
    figure.suptitle(f"{TITLES[name][0]} of each layer by {axes_title(levels)}{left_out}")
    return figure


def _panel(
    axes: Axes, ranks: xr.DataArray, collapsed: xr.DataArray, groks: xr.DataArray, levels: Sequence[Level]
) -> None:
    """Values (run, step) as a line per configuration; ticks where its runs grok (run,), crosses where they collapse."""
    for level in levels:
        runs = {"run": list(level.runs)}
        draw(axes, ranks.isel(runs), level.color, linestyle=level.dash)
        if (at := collapsed.isel(runs).any("run").values).any():
            axes.plot(ranks["step"].values[at], ranks.isel(runs).mean("run").values[at], **COLLAPSE_MARK)
        steps = groks.isel(runs).dropna("run").values
        axes.vlines(steps, 0, 0.09, color=level.color, linewidth=1.2, linestyles=level.dash)
    axes.set_ylim(0, 1)
    step_axis(axes, 4)
    axes.xaxis.set_tick_params(labelbottom=True)


def _shape(layer: xr.Dataset) -> str:
    """Rows and columns of a layer, if they are the same for all runs of the cube."""
    if not all(key in layer.coords and not layer[key].dims for key in ("rows", "columns")):
        return ""
    return f"  {int(layer['rows'])} × {int(layer['columns'])}"
