"""Draws several sweeps side by side: the mean effective rank, one line per configuration."""

import math
import textwrap
from collections.abc import Sequence

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from specdyn.tasks.figures.levels import Level, axes_title, levels_of, panels_of
from specdyn.tasks.figures.rows import require_measured
from specdyn.tasks.figures.style import panels, step_axis, step_label, styled
from specdyn.tasks.figures.sweep_axis import axis_of, draw, has, variable

COLUMNS = 3
WIDEST = 29
"""Characters per line above a panel."""
PANEL, LINE = 1.1, 0.13
"""Heights in inches: of a panel with its axis, and of a line of its title or legend."""
BELOW = -23 / 72
"""Inches from a panel to its legend, past the label of the axis."""


@styled
def overview(trees: Sequence[xr.DataTree], axis: str = "") -> Figure:
    """The mean over layers of effective rank / rank against step: panels per sweep, one line per configuration.

    ValueError if a sweep has no effective ranks.
    """
    require_measured(*trees)
    shown = [(tree, panel, levels) for tree in trees for panel, levels in _panels(tree, axis)]
    titles = [_above(tree, panel) for tree, panel, _ in shown]
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    lines = max(title.count("\n") + 1 for title in titles) + max(len(levels) for *_, levels in shown)
    figure, grid = panels(rows, columns, 1.85, PANEL + LINE * lines, sharey=True)
    below = ScaledTranslation(0, BELOW, figure.dpi_scale_trans)
    for axes, title, (tree, _, levels) in zip(grid.flat, titles, shown, strict=False):
        ranks = variable(tree, "layers", "effective_rank").load().mean("layer")
        for level in levels:
            label = f"{level.line}, {level.n}"
            draw(axes, ranks.isel(run=list(level.runs)), level.color, linestyle=level.dash, label=label)
        axes.set_title(title)
        axes.set_ylim(0, 1)
        axes.set_xlabel(step_label(tree))
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=axes.transAxes + below, borderaxespad=0)
        step_axis(axes, 4)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    figure.supylabel("effective rank / rank, mean over layers")
    figure.suptitle(f"Effective rank by {axes_title([level for *_, levels in shown for level in levels])}")
    return figure


def _panels(tree: xr.DataTree, axis: str) -> list[tuple[str, list[Level]]]:
    """The panels of one sweep: title and configurations."""
    if not has(tree, "layers", "effective_rank"):
        raise ValueError(f"{_title(tree)}: no effective ranks; analyse it with effective_rank")
    levels = levels_of(tree, axis or axis_of(tree), dashes=True)
    return [(panel, [level for level in levels if level.panel == panel]) for panel in panels_of(levels)]


def _above(tree: xr.DataTree, panel: str) -> str:
    """The title of a panel: the sweep, its data, and what the panel shows of it."""
    title = " on ".join(part for part in (_title(tree), tree.attrs.get("data")) if part)
    return "\n".join(textwrap.fill(line, WIDEST, break_on_hyphens=False) for line in (title, panel) if line)


def _title(tree: xr.DataTree) -> str:
    return str(tree.attrs.get("title", "sweep"))
