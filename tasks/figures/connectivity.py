"""Barriers on the line between two runs and agreement of their singular vectors, by where or how they parted."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.figures.style import FAINT, panels, styled

KINDS = {"within": ("one trunk", "#0072b2"), "across": ("two trunks", "#d55e00")}
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
    handles, labels = grid[0, 2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle("Linear mode connectivity by split point")
    return figure


@styled
def by_size(data: xr.Dataset, metric: str) -> Figure:
    """Barrier on validation and agreement against the size of a perturbation, a line for each direction."""
    noisy = data.isel(pair=np.flatnonzero(data["kind"].values == "perturbed"))
    figure, grid = panels(1, 2, 5.0, 4.0)
    colors = dict(zip(("random", "top", "bottom"), ("#222222", "#0072b2", "#d55e00"), strict=True))
    for direction in dict.fromkeys(noisy["direction"].values.tolist()):
        chosen = noisy.isel(pair=np.flatnonzero(noisy["direction"].values == direction))
        barrier = chosen[f"barrier_{metric}"].sel(split="val", kept="all")
        _spread(grid[0, 0], barrier, chosen["size"].values, colors[direction], f"{direction} directions")
        score = chosen["agreement_score"].mean("layer")
        _spread(grid[0, 1], score, chosen["size"].values, colors[direction], f"{direction} directions")
    grid[0, 0].set_ylabel(f"barrier, val {data[metric].attrs['long_name']}")
    grid[0, 1].set_ylabel("agreement of the ends\n(first 10 ranks, mean over layers)")
    grid[0, 1].axhline(float(data["agreement_null"].mean()), color=FAINT, linestyle="--")
    for axes in grid[0]:
        axes.set_xlabel("size of the noise / norm of the layer")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    grid[0, 0].legend()
    figure.suptitle("One perturbation, then two data orders")
    return figure


def _line(axes: Axes, values: xr.DataArray, data: xr.Dataset, kind: str, color: str, label: str, **line: Any) -> None:
    """Mean and range over the pairs of a kind at every split step; nothing where there are none."""
    chosen = np.flatnonzero(data["kind"].values == kind)
    if len(chosen):
        _spread(axes, values.isel(pair=chosen), data["split_step"].values[chosen], color, label, **line)


def _spread(axes: Axes, values: xr.DataArray, at: np.ndarray, color: str, label: str, **line: Any) -> None:
    places = np.unique(at)
    groups = [values.values[at == place] for place in places]
    positions = np.arange(len(places))
    axes.plot(positions, [group.mean() for group in groups], color=color, label=label, marker="o", markersize=4, **line)
    low, high = ([float(of(group)) for group in groups] for of in (np.min, np.max))
    axes.fill_between(positions, low, high, color=color, alpha=0.13, linewidth=0)
    axes.set_xticks(positions, [f"{place:g}" for place in places])
