"""Draws several sweeps side by side: the mean effective rank, one line per configuration."""

import math
import textwrap
from collections.abc import Sequence

import xarray as xr
from matplotlib.figure import Figure

from specdyn.tasks.figures.levels import Level, axes_title, levels_of, panels_of
from specdyn.tasks.figures.rows import require_measured
from specdyn.tasks.figures.style import name_step_axes, panels, step_axis, step_label, styled
from specdyn.tasks.figures.sweep_axis import axis_of, draw, has, variable

COLUMNS = 3
WIDEST = 36
"""Characters per line above a panel."""


@styled
def overview(trees: Sequence[xr.DataTree], axis: str = "") -> Figure:
    """The mean over layers of effective rank / rank against step: panels per sweep, one line per configuration.

    ValueError if a sweep has no effective ranks.
    """
    require_measured(*trees)
    shown = [(tree, panel, levels) for tree in trees for panel, levels in _panels(tree, axis)]
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, grid = panels(rows, columns, 1.85, 1.5, sharey=True)
    for axes, (tree, panel, levels) in zip(grid.flat, shown, strict=False):
        ranks = variable(tree, "layers", "effective_rank").load().mean("layer")
        for level in levels:
            label = f"{level.line}, {level.n}"
            draw(axes, ranks.isel(run=list(level.runs)), level.color, linestyle=level.dash, label=label)
        title = " on ".join(part for part in (_title(tree), tree.attrs.get("data")) if part)
        axes.set_title("\n".join(textwrap.fill(line, WIDEST) for line in (title, panel) if line))
        axes.set_ylim(0, 1)
        axes.legend(loc="lower left")
        step_axis(axes, 4)
    name_step_axes(grid, *trees)
    for column, axes in enumerate(grid[-1]):
        if column >= len(shown) - columns * (rows - 1):
            axes.remove()
            grid[-2, column].set_xlabel(step_label(*trees))
    for axes in grid[:, 0]:
        axes.set_ylabel("effective rank / rank, mean over layers")
    figure.suptitle(f"Effective rank by {axes_title([level for *_, levels in shown for level in levels])}")
    return figure


def _panels(tree: xr.DataTree, axis: str) -> list[tuple[str, list[Level]]]:
    """The panels of one sweep: title and configurations."""
    if not has(tree, "layers", "effective_rank"):
        raise ValueError(f"{_title(tree)}: no effective ranks; analyse it with effective_rank")
    levels = levels_of(tree, axis or axis_of(tree), dashes=True)
    return [(panel, [level for level in levels if level.panel == panel]) for panel in panels_of(levels)]


def _title(tree: xr.DataTree) -> str:
    return str(tree.attrs.get("title", "sweep"))
