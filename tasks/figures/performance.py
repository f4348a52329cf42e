"""Loss and error against step, of the whole network and of its halves."""

import itertools
from typing import Any

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specdyn.storage.schema import METRICS_GROUP, SPLITS
from specdyn.tasks.figures.levels import (
    axes_title,
    heading,
    levels_of,
    line_handles,
    panels_of,
    spread_handles,
    what,
)
from specdyn.tasks.figures.style import (
    BOTTOM,
    FULL,
    INK,
    TOP,
    legend_below,
    log_axis,
    name_step_axes,
    panels,
    step_axis,
    styled,
)
from specdyn.tasks.figures.sweep_axis import draw, has, of_all, spread

DASHES: dict[str, Any] = {"train": (0, (2.5, 1.5)), "val": "-"}
WIDTHS = {"train": 1.2, "val": 2.0}
HALVES = {"top": ("top half kept", TOP), "bottom": ("bottom half kept", BOTTOM)}
MOST_ROWS, MOST_COLUMNS, MOST_METRICS = 6, 8, 4
WIDE = 3.2
"""Line width of the whole network, so that it shows under a half that does as well."""


@styled
def performance(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """A column for each metric: train dashed, validation solid, a colour for each value of the first axis.

    Rows are for everything else that varies.
    """
    metrics = tree[METRICS_GROUP].to_dataset()
    # Those of the network as it was saved: metrics of changed weights have further dimensions.
    names = [str(name) for name in metrics.data_vars if set(metrics[name].dims) == {"run", "split", "step"}]
    everything = sorted(names, key=lambda name: name != "loss")
    names = everything[:MOST_METRICS]
    levels = levels_of(tree, axis)
    all_rows = panels_of(levels)
    rows = spread(all_rows, MOST_ROWS)
    figure, grid = panels(len(rows), len(names), 6.5, 4.6 if len(rows) == 1 else 3.4, sharex=True, sharey="col")
    for name, column in zip(names, grid.T, strict=True):
        values = metrics[name].load()
        for axes, row in zip(column, rows, strict=True):
            axes.set_ylabel(values.attrs.get("long_name", name) + _units(values))
            axes.set_title(row)
            step_axis(axes)
            if name == "loss":
                log_axis(axes, values.values)
            for level, split in itertools.product(levels, SPLITS):
                if level.panel == row:
                    of_level = values.isel(run=list(level.runs)).sel(split=split)
                    draw(axes, of_level, level.color, linestyle=DASHES[split], linewidth=WIDTHS[split])
        if column[0].get_yscale() != "log" and not (values < 0).any():
            column[0].set_ylim(bottom=0)
    name_step_axes(grid, tree)
    left_out = of_all(names, everything, "metric") + of_all(rows, all_rows, "row")
    title = " and ".join(names).capitalize().replace("err", "error")
    figure.suptitle(f"{title} by {axes_title(levels)}" + left_out)
    splits = [Line2D([], [], color=INK, linestyle=DASHES[split], label=split) for split in SPLITS]
    legend_below(figure, [*line_handles(levels), *splits, *spread_handles(levels)])
    return figure


def _units(values: xr.DataArray) -> str:
    units = values.attrs.get("units", "1")
    return "" if units == "1" else f" ({units})"


@styled
def pruned_losses(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """The loss of the whole network and of either half of its spectra: rows are splits, columns levels."""
    metrics = tree[METRICS_GROUP].to_dataset()
    pruned = metrics["pruned_loss"].load()
    full = metrics["loss"].load() if has(tree, METRICS_GROUP, "loss") else None
    everything = levels_of(tree, axis)
    levels = spread(everything, MOST_COLUMNS)
    figure, grid = panels(len(SPLITS), len(levels), 3.6, 2.6, sharex=True, sharey="row")
    for row, split in zip(grid, SPLITS, strict=True):
        log_axis(row[0], pruned.values)
        for axes, level in zip(row, levels, strict=True):
            runs = {"run": list(level.runs)}
            if full is not None:
                draw(axes, full.isel(runs).sel(split=split), FULL, linewidth=WIDE)
            for kept, (_, color) in HALVES.items():
                draw(axes, pruned.isel(runs).sel(split=split, kept=kept), color)
            step_axis(axes, 4)
        row[0].set_ylabel(f"{split} loss{_units(pruned)}")
    for axes, level in zip(grid[0], levels, strict=True):
        axes.set_title(heading(level, len(levels)))
    handles = [Line2D([], [], color=FULL, linewidth=WIDE, label="all singular values")] if full is not None else []
    handles += [Line2D([], [], color=color, label=label) for label, color in HALVES.values()]
    name_step_axes(grid, tree)
    figure.suptitle("Loss with half of the singular values" + of_all(levels, everything, what(everything)))
    legend_below(figure, [*handles, *spread_handles(levels)])
    return figure
