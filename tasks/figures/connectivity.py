"""Barriers on the line between two runs and agreement of their singular vectors, by where or how they parted."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specdyn.tasks.figures.configurations import lines_of
from specdyn.tasks.figures.ranges import RANGES, draw_ranges
from specdyn.tasks.figures.style import FAINT, legend_below, panels, styled

KINDS = {"within": ("one trunk", "#0072b2"), "across": ("two trunks", "#d55e00")}
APART = ("trunk_a", "trunk_b", "order_a", "order_b"), ("run_a", "run_b")
"""The seeds of a pair, and what tells pairs apart."""
LINES: dict[str, tuple[str, Any]] = {"": ("", "-"), "matched_": (", units matched", (0, (1, 1.2)))}


@styled
def by_split(data: xr.Dataset, metric: str) -> Figure:
    """Barrier of a metric on both splits, and agreement, against the step at which the branches part."""
    figure, grid = panels(1, 3, 4.6, 4.0)
    plain = data.isel(pair=np.flatnonzero(data["kind"].values != "perturbed"))
    for axes, split in zip(grid[0], ("train", "val"), strict=False):
        for kind, (label, color) in KINDS.items():
            for prefix, (extra, style) in LINES.items():
                name = f"barrier_{prefix}{metric}"
                if name in plain:
                    values = plain[name].sel(split=split)
                    values = values.sel(kept="all") if "kept" in values.dims else values
                    _line(axes, values, plain, kind, color, label + extra, linestyle=style)
        axes.axhline(0, color=FAINT, linewidth=0.8)
        axes.set_ylabel(f"barrier, {split} {data[metric].attrs['long_name']}")
    for kind, (label, color) in KINDS.items():
        for prefix, (extra, style) in LINES.items():
            if (name := f"{prefix}agreement_score") in plain:
                _line(grid[0, 2], plain[name].mean("layer"), plain, kind, color, label + extra, linestyle=style)
    chance = float(data["agreement_null"].mean())
    grid[0, 2].axhline(chance, color=FAINT, linestyle="--", label="two random matrices")
    grid[0, 2].set_ylabel("agreement of the ends\n(first 10 ranks, mean over layers)")
    grid[0, 2].set_ylim(bottom=0)
    for axes in grid[0]:
        axes.set_xlabel("step at which the branches part")
    legend_below(figure, grid[0, 2].get_legend_handles_labels()[0], RANGES.format("pair"))
    figure.suptitle("Linear mode connectivity by split point")
    return figure


@styled
def by_size(data: xr.Dataset, metric: str) -> Figure:
    """Barrier on validation and agreement against the size of a perturbation, a line for each direction."""
    noisy = data.isel(pair=np.flatnonzero(data["kind"].values == "perturbed"))
    figure, grid = panels(1, 2, 5.0, 4.0)
    sizes = noisy["size"].values.tolist()
    colors = dict(zip(("random", "top", "bottom"), ("#222222", "#0072b2", "#d55e00"), strict=True))
    for direction in dict.fromkeys(noisy["direction"].values.tolist()):
        chosen = noisy.isel(pair=np.flatnonzero(noisy["direction"].values == direction))
        barrier = chosen[f"barrier_{metric}"].sel(split="val", kept="all")
        lines, label = lines_of(chosen, "pair", "size", *APART), f"{direction} directions"
        draw_ranges(grid[0, 0], barrier, lines, colors[direction], label, sizes)
        score = chosen["agreement_score"].mean("layer")
        draw_ranges(grid[0, 1], score, lines, colors[direction], label, sizes)
    grid[0, 0].set_ylabel(f"barrier, val {data[metric].attrs['long_name']}")
    grid[0, 1].set_ylabel("agreement of the ends\n(first 10 ranks, mean over layers)")
    grid[0, 1].axhline(float(data["agreement_null"].mean()), color=FAINT, linestyle="--")
    for axes in grid[0]:
        axes.set_xlabel("size of the noise / norm of the layer")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    grid[0, 0].legend(title=RANGES.format("pair"))
    figure.suptitle("One perturbation, then two data orders")
    return figure


def _line(axes: Axes, values: xr.DataArray, data: xr.Dataset, kind: str, color: str, label: str, **line: Any) -> None:
    """The pairs of a kind against their split step; nothing where there are none."""
    chosen = np.flatnonzero(data["kind"].values == kind)
    if len(chosen):
        lines = lines_of(data.isel(pair=chosen), "pair", "split_step", *APART)
        draw_ranges(axes, values.isel(pair=chosen), lines, color, label, data["split_step"].values.tolist(), **line)
