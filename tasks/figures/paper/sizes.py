"""Draws means over layers with the same number of singular values (METHOD 5)."""

import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from specdyn.tasks.figures.levels import levels_of, line_handles, panels_of, spread_handles, what
from specdyn.tasks.figures.spectra import COLORS, MOST_LAYERS, MOST_LEVELS, draw_spectrum, limit_spectra, name_panels
from specdyn.tasks.figures.style import legend_below, name_step_axes, panels, step_axis, styled
from specdyn.tasks.figures.sweep_axis import draw, of_all, spread, variable


def sizes_of(values: xr.DataArray) -> dict[int, list[int]]:
    """Number of singular values -> positions of the layers with that many, in descending order.

    `values` (run, layer, step, rank) are NaN beyond a layer's rank.
    """
    counts = values.notnull().any(["run", "step"]).sum("rank").values.tolist()
    return {size: [i for i, count in enumerate(counts) if count == size] for size in sorted(set(counts), reverse=True)}


@styled
def singular_values_by_size(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """Rows are sizes, columns configurations; singular values against step, averaged over layers and seeds."""
    values, all_levels = variable(tree, "layers", "singular_value").load(), levels_of(tree, axis)
    sizes, levels = sizes_of(values), spread(all_levels, MOST_LEVELS)
    shown = spread(list(sizes), MOST_LAYERS)
    colors = ScalarMappable(LogNorm(1, max(2, values.sizes["rank"])), COLORS)
    figure, grid = panels(len(shown), len(levels), 1.8, 1.0, sharex=True, sharey="row")
    for row, size in zip(grid, shown, strict=True):
        of_size = values.isel(layer=sizes[size]).mean("layer")
        means = [of_size.isel(run=list(level.runs)).mean("run") for level in levels]
        for axes, mean in zip(row, means, strict=True):
            draw_spectrum(axes, mean, colors)
        limit_spectra(row[0], np.stack([mean.values for mean in means]), log=True)
        count = len(sizes[size])
        row[0].set_ylabel(f"{count} layer{'s' if count > 1 else ''} of rank {size}\nsingular value")
    name_panels(figure, grid, levels, colors, tree)
    figure.suptitle(
        "Singular values, means over layers of one rank and seeds"
        + of_all(shown, list(sizes), "size")
        + of_all(levels, all_levels, what(levels))
    )
    return figure


@styled
def effective_ranks_by_size(tree: xr.DataTree, axis: str = "weight_decay") -> Figure:
    """The mean effective rank of layers against step: a panel for all layers and one per size."""
    ranks, sizes = (
        variable(tree, "layers", "effective_rank").load(),
        sizes_of(variable(tree, "layers", "singular_value")),
    )
    levels = levels_of(tree, axis, dashes=True)
    all_rows = panels_of(levels)
    rows, shown = spread(all_rows, 4), [None, *spread(list(sizes), 3)]
    figure, grid = panels(len(rows), len(shown), 1.8, 1.3, sharex=True, sharey=True)
    for line, row in zip(grid, rows, strict=True):
        for axes, size in zip(line, shown, strict=True):
            of_size = ranks if size is None else ranks.isel(layer=sizes[size])
            for level in levels:
                if level.panel == row:
                    runs = {"run": list(level.runs)}
                    draw(axes, of_size.isel(runs).mean("layer"), level.color, linestyle=level.dash)
            count = of_size.sizes["layer"]
            axes.set_title(f"{count} layers" if size is None else f"{count} of rank {size}")
            axes.set_ylim(0, 1)
            step_axis(axes, 3)
        line[0].set_ylabel(f"{row}\neffective rank / rank" if row else "effective rank / rank")
    name_step_axes(grid, tree)
    legend_below(figure, [*line_handles(levels), *spread_handles(levels)])
    figure.suptitle(
        "Effective rank, means over layers" + of_all(shown[1:], list(sizes), "size") + of_all(rows, all_rows, "row")
    )
    return figure
