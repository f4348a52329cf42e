"""Several sweeps side by side: the mean effective rank of each by weight decay."""

import math
import textwrap
from collections.abc import Sequence

import xarray as xr
from matplotlib.figure import Figure

from tasks.figures.style import name_step_axes, panels, step_axis, styled
from tasks.figures.sweep_axis import axis_title, draw, has, levels_of, variable

COLUMNS = 3
WIDEST = 52
"""Characters of a line over a panel."""


@styled
def overview(trees: Sequence[xr.DataTree], axis: str = "weight_decay") -> Figure:
    """A panel for each sweep: the mean over layers of effective rank / rank against step, a line for each level.

    ValueError where a sweep has no effective ranks.
    """
    columns = min(COLUMNS, len(trees))
    rows = math.ceil(len(trees) / columns)
    figure, grid = panels(rows, columns, 4.6, 3.6, sharey=True)
    for axes, tree in zip(grid.flat, trees, strict=False):
        title = str(tree.attrs.get("title", "sweep"))
        if not has(tree, "layers", "effective_rank"):
            raise ValueError(f"{title}: no effective ranks; analyse it with effective_rank")
        ranks = variable(tree, "layers", "effective_rank").load().mean("layer")
        for level in levels_of(tree, axis):
            draw(axes, ranks.isel(run=list(level.runs)), level.color, label=f"{level.label}, {level.n}")
        axes.set_title(textwrap.fill(" on ".join(part for part in (title, tree.attrs.get("data")) if part), WIDEST))
        axes.set_ylim(0, 1)
        axes.legend(title=axis_title(axis), loc="lower left")
        step_axis(axes, 4)
    name_step_axes(grid)
    for column, axes in enumerate(grid[-1]):
        if column >= len(trees) - columns * (rows - 1):
            axes.remove()
            grid[-2, column].set_xlabel("optimizer steps")
    for axes in grid[:, 0]:
        axes.set_ylabel("effective rank / rank, mean over layers")
    figure.suptitle(f"Effective rank by {axis_title(axis)}")
    return figure
