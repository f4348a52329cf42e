"""Draws lottery tickets by density: their final metrics, and agreement with the dense run."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from specdyn.tasks.figures.configurations import lines_of
from specdyn.tasks.figures.connectivity import metric_of
from specdyn.tasks.figures.ranges import RANGES, Look, draw_ranges
from specdyn.tasks.figures.rows import SEEDS
from specdyn.tasks.figures.style import FAINT, legend_below, log_axis, panels, styled

COLORS = {
    "magnitude": "#0072b2",
    "random": "#d55e00",
    "reinit": "#009e73",
    "shuffled": "#882255",
    "iterative": "#56b4e9",
}


@styled
def by_density(tree: xr.DataTree, axis: str = "") -> Figure:
    """Final metrics on both splits, agreement with the dense run, and of the dense end with its masked version."""
    data = tree.to_dataset()
    metric = metric_of(data)
    figure, grid = panels(1, 4, 1.4, 1.5)
    last = data.isel(step=-1)
    shown = [
        (last[metric].sel(split="train"), f"train {data[metric].attrs['long_name']} at the end"),
        (last[metric].sel(split="val"), f"val {data[metric].attrs['long_name']} at the end"),
        (last["agreement_dense_score"].mean("layer"), "agreement with\nthe dense run"),
        (data["agreement_mask_score"].mean("layer"), "agreement of dense\nwith masked"),
    ]
    kept = np.unique(data["density"].values)
    for axes, (values, title) in zip(grid[0], shown, strict=True):
        for kind in dict.fromkeys(data["mask"].values.tolist()):
            chosen = {"ticket": np.flatnonzero(data["mask"].values == kind)}
            lines = lines_of(data.isel(chosen), "ticket", "density", SEEDS["ticket"])
            draw_ranges(axes, values.isel(chosen), lines, Look(label=kind, color=COLORS[kind]))
        axes.set_xscale("log")
        axes.set_xticks(kept, [f"{place:g}" for place in kept])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("weights kept")
        axes.set_title(title)
    for axes, (values, _) in zip(grid[0, :2], shown[:2], strict=True):
        log_axis(axes, values.values)
    for axes in grid[0, 2:]:
        axes.axhline(float(data["agreement_null"].mean()), color=FAINT, linestyle="--", label="by chance")
        axes.set_ylim(bottom=0)
    legend_below(figure, grid[0, 3].get_legend_handles_labels()[0], RANGES.format("ticket"))
    figure.suptitle("Lottery tickets by the share of the weights that is kept")
    return figure
