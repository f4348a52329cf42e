"""Draws barriers between two runs and agreement of their singular vectors, by split point or perturbation."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from specdyn.storage.schema import SPLITS
from specdyn.tasks.figures.configurations import lines_of
from specdyn.tasks.figures.ranges import RANGES, Look, draw_ranges
from specdyn.tasks.figures.rows import IDS, SEEDS
from specdyn.tasks.figures.style import FAINT, legend_below, panels, styled

KINDS = {"within": ("one trunk", "#0072b2"), "across": ("two trunks", "#d55e00")}
DIRECTIONS = {"random": "#222222", "top": "#0072b2", "bottom": "#d55e00"}
APART = SEEDS["pair"], IDS["pair"]
"""The seeds of a pair, and the coordinates that identify it."""
AGREEMENT = "agreement, first 10 ranks"
LINES: dict[str, tuple[str, Any]] = {"": ("", "-"), "matched_": (", units matched", (0, (1, 1.2)))}


def metric_of(data: xr.Dataset) -> str:
    """The metric in figures of lines and tickets: the loss, if it is measured."""
    metrics = [str(name) for name in data.data_vars if "split" in data[name].dims and f"barrier_{name}" in data]
    metrics += [str(name) for name in data.data_vars if data[name].dims == ("ticket", "step", "split")]
    return "loss" if "loss" in metrics else metrics[0]


@styled
def by_split(tree: xr.DataTree, axis: str = "") -> Figure:
    """Barrier of the loss on both splits, and agreement, against the split point."""
    data = tree.to_dataset()
    metric = metric_of(data)
    figure, grid = panels(1, 3, 1.85, 1.6)
    # Perturbed pairs are in the other figure, by the size of the noise.
    plain = data.isel(pair=np.flatnonzero(data["kind"].values != "perturbed"))
    steps = plain["split_step"].values.tolist()
    for kind, (label, color) in KINDS.items():
        chosen = plain.isel(pair=np.flatnonzero(plain["kind"].values == kind))
        if not chosen.sizes["pair"]:
            continue
        lines = lines_of(chosen, "pair", "split_step", *APART)
        for prefix, (extra, dash) in LINES.items():
            look = Look(label=label + extra, color=color, dash=dash)
            if (name := f"barrier_{prefix}{metric}") in chosen:
                barrier = chosen[name].sel(kept="all") if "kept" in chosen[name].dims else chosen[name]
                for axes, split in zip(grid[0], SPLITS, strict=False):
                    draw_ranges(axes, barrier.sel(split=split), lines, look, steps)
            if (name := f"{prefix}agreement_score") in chosen:
                draw_ranges(grid[0, 2], chosen[name].mean("layer"), lines, look, steps)
    for axes, split in zip(grid[0], SPLITS, strict=False):
        axes.axhline(0, color=FAINT, linewidth=0.5)
        axes.set_title(f"barrier, {split} {data[metric].attrs['long_name']}")
    chance = float(data["agreement_null"].mean())
    grid[0, 2].axhline(chance, color=FAINT, linestyle="--", label="two random matrices")
    grid[0, 2].set_title(AGREEMENT)
    grid[0, 2].set_ylim(bottom=0)
    grid[0, 1].set_xlabel("split point (step)")
    legend_below(figure, grid[0, 2].get_legend_handles_labels()[0], RANGES.format("pair"))
    figure.suptitle("Linear mode connectivity by split point")
    return figure


@styled
def by_size(tree: xr.DataTree, axis: str = "") -> Figure:
    """Barrier on validation and agreement against the size of a perturbation, one line per direction."""
    data = tree.to_dataset()
    metric = metric_of(data)
    noisy = data.isel(pair=np.flatnonzero(data["kind"].values == "perturbed"))
    figure, grid = panels(1, 2, 2.4, 1.6)
    sizes = noisy["size"].values.tolist()
    for direction in dict.fromkeys(noisy["direction"].values.tolist()):
        chosen = noisy.isel(pair=np.flatnonzero(noisy["direction"].values == direction))
        lines = lines_of(chosen, "pair", "size", *APART)
        look = Look(label=f"{direction} directions", color=DIRECTIONS[direction])
        draw_ranges(grid[0, 0], chosen[f"barrier_{metric}"].sel(split="val", kept="all"), lines, look, sizes)
        draw_ranges(grid[0, 1], chosen["agreement_score"].mean("layer"), lines, look, sizes)
    grid[0, 0].set_title(f"barrier, val {data[metric].attrs['long_name']}")
    grid[0, 1].set_title(AGREEMENT)
    grid[0, 1].axhline(float(data["agreement_null"].mean()), color=FAINT, linestyle="--")
    for axes in grid[0]:
        axes.set_xlabel("size of the noise / norm of the layer")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    grid[0, 0].legend(title=RANGES.format("pair"))
    figure.suptitle("One perturbation, then two data orders")
    return figure
