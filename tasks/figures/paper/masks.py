"""Lottery tickets beside the dense run: agreement of their singular vectors by rank, layer and step (METHOD 4.7)."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from specdyn.models.nets.layers import short_names
from specdyn.tasks.figures.heatmaps import mesh_by_step
from specdyn.tasks.figures.paper.maps import draw_map
from specdyn.tasks.figures.style import FAINT, legend_below, name_step_axes, panels, styled, title_panel
from specdyn.tasks.figures.sweep_axis import of_all, spread
from specdyn.tasks.figures.tickets import COLORS

MOST_RANKS, MOST_LAYERS, MOST_MASKS = 100, 5, 4


def sparsest(data: xr.Dataset) -> tuple[float, dict[str, list[int]]]:
    """The smallest density of a ticket, and the positions of its tickets by mask."""
    density = float(data["density"].values.min())
    here = data["density"].values == density
    masks = dict.fromkeys(data["mask"].values[here].tolist())
    return density, {mask: np.flatnonzero(here & (data["mask"].values == mask)).tolist() for mask in masks}


@styled
def dense_agreement(tree: xr.DataTree, axis: str = "") -> Figure:
    """Agreement of the sparsest tickets with the dense run at the same step: rank against step, means over tickets.

    Rows are masks, columns layers.
    """
    data = tree.to_dataset()
    density, of_masks = sparsest(data)
    everything = data["layer"].values.tolist()
    masks, layers, short = spread(list(of_masks), MOST_MASKS), spread(everything, MOST_LAYERS), short_names(everything)
    figure, grid = panels(len(masks), len(layers), 1.6, 1.0, sharex=True, sharey="col")
    for row, mask in zip(grid, masks, strict=True):
        values = data["agreement_dense"].isel(ticket=of_masks[mask], rank=slice(MOST_RANKS)).mean("ticket")
        for axes, layer in zip(row, layers, strict=True):
            of_layer = values.sel(layer=layer).dropna("step", how="all").dropna("rank", how="all")
            mesh = mesh_by_step(axes, of_layer.transpose("rank", "step"))
            axes.set_ylim(of_layer.sizes["rank"] + 0.5, 0.5)
        row[0].set_ylabel(f"{mask}\nrank (1 = largest)")
    for axes, layer in zip(grid[0], layers, strict=True):
        title_panel(axes, short[layer])
    name_step_axes(grid, tree)
    figure.colorbar(mesh, ax=grid, label="agreement", aspect=40, pad=0.01)
    left_out = of_all(layers, everything, "layer") + of_all(masks, list(of_masks), "mask")
    figure.suptitle(f"Agreement of tickets with the dense run by rank, density {density:g}{left_out}")
    return figure


@styled
def dense_agreement_scores(tree: xr.DataTree, axis: str = "") -> Figure:
    """The score of that agreement: layer against step, a panel per mask."""
    data = tree.to_dataset()
    density, of_masks = sparsest(data)
    names, masks = data["layer"].values.tolist(), spread(list(of_masks), MOST_MASKS)
    figure, grid = _panels_of_layers(masks, names)
    for axes, mask in zip(grid[0], masks, strict=True):
        score = data["agreement_dense_score"].isel(ticket=of_masks[mask]).mean("ticket").dropna("step", how="all")
        mesh = mesh_by_step(axes, score.transpose("layer", "step"))
    grid[0, 0].set_ylim(len(names) + 0.5, 0.5)
    name_step_axes(grid, tree)
    figure.colorbar(mesh, ax=grid, label="agreement score", pad=0.01)
    left_out = of_all(masks, list(of_masks), "mask")
    figure.suptitle(f"Agreement of tickets with the dense run by layer, density {density:g}{left_out}")
    return figure


@styled
def mask_agreement(tree: xr.DataTree, axis: str = "") -> Figure:
    """Agreement of the dense end with its version under the sparsest masks: layer against rank, a panel per mask."""
    data = tree.to_dataset()
    density, of_masks = sparsest(data)
    names, masks = data["layer"].values.tolist(), spread(list(of_masks), MOST_MASKS)
    values = data["agreement_mask"].isel(rank=slice(MOST_RANKS)).dropna("rank", how="all")
    figure, grid = _panels_of_layers(masks, names)
    for axes, mask in zip(grid[0], masks, strict=True):
        of_mask = values.isel(ticket=of_masks[mask]).mean("ticket").transpose("layer", "rank")
        mesh = draw_map(axes, of_mask.values, of_mask["rank"].values.tolist())
        axes.set_xlabel("rank (1 = largest)")
    figure.colorbar(mesh, ax=grid, label="agreement", pad=0.01)
    left_out = of_all(masks, list(of_masks), "mask")
    figure.suptitle(f"Agreement of the dense end with its masked self, density {density:g}{left_out}")
    return figure


@styled
def mask_agreement_scores(tree: xr.DataTree, axis: str = "") -> Figure:
    """The score of that agreement as bars: a group for each layer, a bar for each mask, chance as dashes."""
    data = tree.to_dataset()
    density, of_masks = sparsest(data)
    names, short = data["layer"].values.tolist(), short_names(data["layer"].values.tolist())
    figure, grid = panels(1, 1, 5.5, 1.8)
    axes, places, width = grid[0, 0], np.arange(len(names)), 0.8 / len(of_masks)
    for i, (mask, tickets) in enumerate(of_masks.items()):
        score = data["agreement_mask_score"].isel(ticket=tickets).mean("ticket").values
        axes.bar(
            places + (i + 0.5) * width - 0.4, score, width, label=f"{mask}, n = {len(tickets)}", color=COLORS[mask]
        )
    axes.hlines(
        data["agreement_null"].mean("ticket").values,
        places - 0.45,
        places + 0.45,
        colors=FAINT,
        linestyles="--",
        label="by chance",
    )
    axes.set_xticks(places, [short[name] for name in names], rotation=30, ha="right")
    axes.set_ylabel("agreement of dense with masked")
    axes.set_ylim(0, 1)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    figure.suptitle(f"Agreement of the dense end with its masked self by layer, density {density:g}")
    return figure


def _panels_of_layers(masks: list[str], names: list[str]) -> tuple[Figure, np.ndarray]:
    """A panel for each mask, with a row for each layer."""
    figure, grid = panels(1, len(masks), 2.2, min(5.0, 0.13 * len(names) + 0.6), sharex=True, sharey=True)
    for axes, mask in zip(grid[0], masks, strict=True):
        axes.set_title(mask)
    short = short_names(names)
    grid[0, 0].set_yticks(range(1, len(names) + 1), [short[name] for name in names])
    return figure, grid
