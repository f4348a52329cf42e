"""Draws loss and error against step, for the whole network and for either half of its spectra."""

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
WIDTHS = {"train": 0.8, "val": 1.2}
HALVES = {"top": ("top half kept", TOP), "bottom": ("bottom half kept", BOTTOM)}
MOST_ROWS, MOST_COLUMNS, MOST_METRICS = 6, 4, 3
WIDE = 1.8
"""Line width of the whole network, so that it is visible below a half that performs equally."""


@styled
def performance(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """A column per metric: train dashed, validation solid, a colour per value of the first axis.

    Rows show everything else that varies.
    """
    metrics = tree[METRICS_GROUP].to_dataset()
    # Metrics of the unmodified network: those of modified weights have further dimensions.
    names = [str(name) for name in metrics.data_vars if set(metrics[name].dims) == {"run", "split", "step"}]
    everything = sorted(names, key=lambda name: name != "loss")
    names = everything[:MOST_METRICS]
    levels = levels_of(tree, axis)
    all_rows = panels_of(levels)
    rows = spread(all_rows, MOST_ROWS)
    figure, grid = panels(len(rows), len(names), 2.7, 1.7 if len(rows) == 1 else 1.3, sharex=True, sharey="col")
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
    title = " and ".join(map(_called, names))
    figure.suptitle(f"{title[0].upper()}{title[1:]} by {axes_title(levels)}" + left_out)
    splits = [Line2D([], [], color=INK, linestyle=DASHES[split], label=split) for split in SPLITS]
    legend_below(figure, [*line_handles(levels), *splits, *spread_handles(levels)])
    return figure


def _called(metric: str, begins: bool = False) -> str:
    """A metric's name in words."""
    name = {"err": "error", "cer": "CER", "wer": "WER"}.get(metric, metric)
    return name[0].upper() + name[1:] if begins else name


@styled
def errors(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """Training and validation error against step, a panel per split, a line per configuration."""
    values = tree[METRICS_GROUP].to_dataset()["err"].load()
    levels = levels_of(tree, axis, dashes=True)
    all_rows = panels_of(levels)
    rows = spread(all_rows, MOST_ROWS)
    figure, grid = panels(len(rows), len(SPLITS), 2.7, 1.5, sharex=True, sharey=True)
    for line, row in zip(grid, rows, strict=True):
        for axes, split in zip(line, SPLITS, strict=True):
            for level in levels:
                if level.panel == row:
                    of_level = values.isel(run=list(level.runs)).sel(split=split)
                    draw(axes, of_level, level.color, linestyle=level.dash)
            axes.set_title(f"{row}, {split}" if row else split)
            axes.set_ylim(0, 1)
            step_axis(axes)
        line[0].set_ylabel("error")
    name_step_axes(grid, tree)
    legend_below(figure, [*line_handles(levels), *spread_handles(levels)])
    figure.suptitle(f"Error by {axes_title(levels)}" + of_all(rows, all_rows, "row"))
    return figure


def _units(values: xr.DataArray) -> str:
    units = values.attrs.get("units", "1")
    return "" if units == "1" else f" ({units})"


@styled
def pruned_metrics(tree: xr.DataTree, axis: str = "weight_decay", metric: str = "loss") -> Figure:
    """A metric of the whole network and of either half of its spectra: rows are splits, columns configurations."""
    metrics = tree[METRICS_GROUP].to_dataset()
    pruned = metrics[f"pruned_{metric}"].load()
    full = metrics[metric].load() if has(tree, METRICS_GROUP, metric) else None
    everything = levels_of(tree, axis)
    levels = spread(everything, MOST_COLUMNS)
    figure, grid = panels(len(SPLITS), len(levels), 1.8, 1.1, sharex=True, sharey="row")
    for row, split in zip(grid, SPLITS, strict=True):
        if metric == "loss":
            log_axis(row[0], pruned.values)
        else:
            row[0].set_ylim(bottom=0)
        for axes, level in zip(row, levels, strict=True):
            runs = {"run": list(level.runs)}
            if full is not None:
                draw(axes, full.isel(runs).sel(split=split), FULL, linewidth=WIDE)
            for kept, (_, color) in HALVES.items():
                draw(axes, pruned.isel(runs).sel(split=split, kept=kept), color)
            step_axis(axes, 4)
        row[0].set_ylabel(f"{split} {_called(metric)}{_units(pruned)}")
    for axes, level in zip(grid[0], levels, strict=True):
        axes.set_title(heading(level, len(levels)))
    handles = [Line2D([], [], color=FULL, linewidth=WIDE, label="all singular values")] if full is not None else []
    handles += [Line2D([], [], color=color, label=label) for label, color in HALVES.values()]
    name_step_axes(grid, tree)
    figure.suptitle(
        f"{_called(metric, begins=True)} with half of the singular values"
        + of_all(levels, everything, what(everything))
    )
    legend_below(figure, [*handles, *spread_handles(levels)])
    return figure
