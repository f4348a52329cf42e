"""What a figure declares: its name, the variables that it needs, and the function that draws it."""

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
    """What it shows, in a few words."""
    needs: tuple[str, ...]
    """A group of the results (`/` for lines and tickets), then the variables that it takes."""
    draw: Callable[[xr.DataTree, str], Figure]
    """The matplotlib figure of results whose rows all have values, by the setting that colours or panels stand for."""
    rows: str = "run"
    """What the results have rows of: `run`, `pair` or `ticket`."""
    along: str = ""
    """Of pairs: what they are drawn along, `split_step` or `size`; those that were perturbed have a size alone."""

    def missing(self, tree: xr.DataTree) -> tuple[str, ...]:
        """What it needs and results lack; empty where it can be drawn."""
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
