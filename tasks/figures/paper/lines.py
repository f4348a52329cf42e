"""Draws lines between two runs: barriers of the pruned networks, and agreement of the ends by rank and layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from specdyn.models.nets.layers import short_names
from specdyn.storage.schema import SPLITS
from specdyn.tasks.figures.configurations import Line, lines_of
from specdyn.tasks.figures.connectivity import APART, KINDS, metric_of
from specdyn.tasks.figures.paper.maps import draw_map
from specdyn.tasks.figures.ranges import RANGES, Look, draw_ranges
from specdyn.tasks.figures.style import BOTTOM, FAINT, FULL, TOP, legend_below, panels, styled, title_panel
from specdyn.tasks.figures.sweep_axis import of_all, spread

KEPT = {"all": ("all singular values", FULL), "top": ("top half kept", TOP), "bottom": ("bottom half kept", BOTTOM)}
PLACES = {"split_step": "step at which the branches part", "size": "size of the noise / norm of the layer"}
"""Axis titles of the coordinates along which pairs can be drawn."""
MOST_RANKS, MOST_LAYERS, MOST_ROWS = 100, 5, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Pairs of one kind that differ only in their seeds and along the horizontal axis."""

    label: str
    pairs: tuple[int, ...]
    """Positions along `pair`."""


def families(data: xr.Dataset, along: str) -> list[Family]:
    """Pairs by kind if `along` is `split_step`, by direction if it is `size`."""
    noisy = data["kind"].values == "perturbed"
    by = data["direction"].values if along == "size" else data["kind"].values
    chosen = noisy if along == "size" else ~noisy
    names: Mapping[str, str] = {kind: label for kind, (label, _) in KINDS.items()}
    return [
        Family(
            label=f"{one} directions" if along == "size" else names.get(one, one),
            pairs=tuple(np.flatnonzero(chosen & (by == one)).tolist()),
        )
        for one in dict.fromkeys(by[chosen].tolist())
    ]


@styled
def barriers_by_split(tree: xr.DataTree, axis: str = "") -> Figure:
    """Barriers against the split step, for the whole network and for either half of its spectra."""
    return _barriers(tree, "split_step", "Barriers of the whole and the pruned networks by split point")


@styled
def barriers_by_size(tree: xr.DataTree, axis: str = "") -> Figure:
    """The same against the size of a perturbation."""
    return _barriers(tree, "size", "Barriers of the whole and the pruned networks by size of a perturbation")


@styled
def ends_by_split(tree: xr.DataTree, axis: str = "") -> Figure:
    """Agreement of the ends by rank and split step: rows are kinds of pairs, columns layers; means over pairs."""
    return _diagonals(tree, "split_step")


@styled
def ends_by_size(tree: xr.DataTree, axis: str = "") -> Figure:
    """The same by size of a perturbation; rows are directions."""
    return _diagonals(tree, "size")


@styled
def end_scores_by_split(tree: xr.DataTree, axis: str = "") -> Figure:
    """Agreement score of the ends by layer and split step, a panel for each kind of pairs."""
    return _scores(tree, "split_step")


@styled
def end_scores_by_size(tree: xr.DataTree, axis: str = "") -> Figure:
    """The same by size of a perturbation."""
    return _scores(tree, "size")


def _barriers(tree: xr.DataTree, along: str, title: str) -> Figure:
    data = tree.to_dataset()
    metric = metric_of(data)
    barrier = data[f"barrier_{metric}"]
    shown = families(data, along)
    figure, grid = panels(len(SPLITS), len(shown), 1.85, 1.2, sharex=True, sharey="row")
    for column, family in zip(grid.T, shown, strict=True):
        chosen = data.isel(pair=list(family.pairs))
        lines, places = lines_of(chosen, "pair", along, *APART), chosen[along].values.tolist()
        for axes, split in zip(column, SPLITS, strict=True):
            for kept, (label, color) in KEPT.items():
                if kept in barrier["kept"].values:
                    of_kept = barrier.isel(pair=list(family.pairs)).sel(split=split, kept=kept)
                    draw_ranges(axes, of_kept, lines, Look(label=label, color=color), places)
            axes.axhline(0, color=FAINT, linewidth=0.5)
        column[0].set_title(family.label)
        column[-1].set_xlabel(PLACES[along])
    for axes, split in zip(grid[:, 0], SPLITS, strict=True):
        axes.set_ylabel(f"barrier, {split} {data[metric].attrs.get('long_name', metric)}")
    legend_below(figure, grid[0, 0].get_legend_handles_labels()[0], RANGES.format("pair"))
    figure.suptitle(title)
    return figure


def _rows(data: xr.Dataset, along: str) -> list[tuple[str, xr.Dataset, Line]]:
    """A row per family and per combination of other varied settings, such as the weight decay."""
    rows = []
    for family in families(data, along):
        chosen = data.isel(pair=list(family.pairs))
        for line in lines_of(chosen, "pair", along, *APART):
            rows.append((f"{family.label}, {line.says}" if line.says else family.label, chosen, line))
    return rows


def _means(values: xr.DataArray, line: Line) -> np.ndarray:
    """Means over the pairs at each point of a line: values (pair, thing) to (thing, point)."""
    return np.stack([values.isel(pair=list(items)).mean("pair").values for _, items in line.points], axis=1)


def _diagonals(tree: xr.DataTree, along: str) -> Figure:
    data = tree.to_dataset()
    everything, all_rows = data["layer"].values.tolist(), _rows(data, along)
    layers, rows, short = spread(everything, MOST_LAYERS), spread(all_rows, MOST_ROWS), short_names(everything)
    figure, grid = panels(len(rows), len(layers), 1.6, 1.1, sharey="col")
    for line, (label, chosen, points) in zip(grid, rows, strict=True):
        for axes, layer in zip(line, layers, strict=True):
            values = chosen["agreement"].sel(layer=layer).isel(rank=slice(MOST_RANKS)).dropna("rank", how="all")
            mesh = draw_map(axes, _means(values, points), [place for place, _ in points.points])
        line[0].set_ylabel(f"{label}\nrank (1 = largest)")
    for axes, layer in zip(grid[0], layers, strict=True):
        title_panel(axes, short[layer])
    figure.supxlabel(PLACES[along])
    figure.colorbar(mesh, ax=grid, label="agreement of the ends", aspect=40, pad=0.01)
    left_out = of_all(layers, everything, "layer") + of_all(rows, all_rows, "row")
    figure.suptitle(f"Agreement of the ends by rank, means over pairs{left_out}")
    return figure


def _scores(tree: xr.DataTree, along: str) -> Figure:
    data = tree.to_dataset()
    names, all_rows = data["layer"].values.tolist(), _rows(data, along)
    rows, short = spread(all_rows, MOST_ROWS), short_names(names)
    figure, grid = panels(1, len(rows), 2.2, min(5.0, 0.13 * len(names) + 0.6), sharey=True)
    for axes, (label, chosen, points) in zip(grid[0], rows, strict=True):
        mesh = draw_map(axes, _means(chosen["agreement_score"], points), [place for place, _ in points.points])
        axes.set_title(label)
    grid[0, 0].set_yticks(range(1, len(names) + 1), [short[name] for name in names])
    figure.supxlabel(PLACES[along])
    figure.colorbar(mesh, ax=grid, label="agreement score of the ends", pad=0.01)
    figure.suptitle(f"Agreement of the ends by layer, means over pairs{of_all(rows, all_rows, 'panel')}")
    return figure
