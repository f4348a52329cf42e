"""Draws every singular value of every layer against step."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from specdyn.models.nets.layers import short_names
from specdyn.tasks.figures.levels import Level, levels_of, over, what
from specdyn.tasks.figures.style import log_axis, name_step_axes, panels, step_axis, styled
from specdyn.tasks.figures.sweep_axis import of_all, spread, variable

MOST_LAYERS, MOST_LEVELS = 8, 4
MOST_VECTORS = 64
"""Most lines of a panel that an SVG contains as vectors rather than pixels."""
COLORS = matplotlib.colormaps["viridis_r"]
DEPTH = 1e-6
"""The smallest value shown, as a fraction of the layer's largest, as collapsing values decrease without limit."""


@styled
def singular_values(tree: xr.DataTree, axis: str = "weight_decay", log: bool = True) -> Figure:
    """Rows are layers, columns configurations (their first seed); one line per singular value."""
    data = variable(tree, "layers", "singular_value")
    everything, all_levels = data["layer"].values.tolist(), levels_of(tree, axis)
    names, levels = spread(everything, MOST_LAYERS), spread(all_levels, MOST_LEVELS)
    short = short_names(everything)
    values = data.isel(run=[level.runs[0] for level in levels]).load()
    colors = ScalarMappable(LogNorm(1, max(2, values.sizes["rank"])), COLORS)
    figure, grid = panels(len(names), len(levels), 1.8, 0.85, sharex=True, sharey="row")
    for row, name in zip(grid, names, strict=True):
        of_layer = values.sel(layer=name)
        for column, axes in enumerate(row):
            draw_spectrum(axes, of_layer.isel(run=column), colors)
        limit_spectra(row[0], of_layer.values, log)
        row[0].set_ylabel(f"{short[name]}\nsingular value")
    name_panels(figure, grid, levels, colors, tree)
    figure.suptitle(
        "Singular values of each layer in one run"
        + of_all(names, everything, "layer")
        + of_all(levels, all_levels, what(levels))
    )
    return figure


def name_panels(
    figure: Figure, grid: np.ndarray, levels: Sequence[Level], colors: ScalarMappable, tree: xr.DataTree
) -> None:
    """Add column titles, a colour bar for the ranks, and axis labels."""
    for axes, level in zip(grid[0], levels, strict=True):
        axes.set_title(over(level, len(levels)))
    bar = figure.colorbar(colors, ax=grid, label="rank (1 = largest)", aspect=50, pad=0.01, format="{x:.0f}")
    bar.ax.invert_yaxis()
    name_step_axes(grid, tree)
    figure.align_ylabels(grid[:, 0])


def draw_spectrum(axes: Axes, values: xr.DataArray, colors: ScalarMappable) -> None:
    """Draw a line per rank of values (step, rank), the largest on top; omits steps without values."""
    known = values.dropna("step", how="all").dropna("rank", how="all").transpose("step", "rank")
    steps = known["step"].values
    lines = [np.column_stack([steps, known.values[:, i]]) for i in reversed(range(known.sizes["rank"]))]
    ranks = known["rank"].values[::-1]
    many = len(lines) > MOST_VECTORS
    axes.add_collection(LineCollection(lines, colors=colors.to_rgba(ranks), linewidths=0.4, rasterized=many))
    if len(steps):
        axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    step_axis(axes, 4)


def limit_spectra(axes: Axes, values: np.ndarray, log: bool) -> None:
    """Set the y axis of a row: from 0, or over at most six decades."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive):
        return
    top = positive.max()
    if log:
        log_axis(axes, positive)
        axes.set_ylim(max(positive.min(), DEPTH * top) / 1.3, top * 1.5)
    else:
        axes.set_ylim(0, top * 1.05)
