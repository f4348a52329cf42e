"""ReportFigure: the declaration of a figure, with its name, variables and drawing function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFigure:
    """A figure of a study."""

    name: str
    title: str
    """What it shows, in a few words, for lists."""
    needs: tuple[str, ...]
    """A group of the results (`/` for lines and tickets), then the variables that it needs."""
    draw: Callable[[xr.DataTree, str], Figure]
    """Draws the matplotlib figure from results whose rows all have values, and the setting shown by colour or panel."""
    rows: str = "run"
    """The rows of the results: `run`, `pair` or `ticket`."""
    along: str = ""
    """For pairs: the horizontal axis, `split_step` or `size` (perturbed pairs have only a size)."""

    def missing(self, tree: xr.DataTree) -> tuple[str, ...]:
        """What it needs but the results lack; empty if it can be drawn."""
        from specdyn.tasks.figures.paper.lines import families
        from specdyn.tasks.figures.rows import rows_dim
        from specdyn.tasks.figures.sweep_axis import has

        group, *variables = self.needs
        if rows_dim(tree) != self.rows:
            return tuple(variables)
        lacking = tuple(name for name in variables if not has(tree, group, name))
        if not lacking and self.along and not families(tree.to_dataset(), self.along):
            return (f"pairs along {self.along}",)
        return lacking
