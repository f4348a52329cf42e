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
    """A group of the cube, then one or more of its variables; without them the figure is not drawn."""
    draw: Callable[[xr.DataTree, str], Figure]
    """The matplotlib figure of a cube, whose runs all have values, by the setting that colours or panels stand for."""

    def missing(self, tree: xr.DataTree) -> tuple[str, ...]:
        """The variables that it needs and that a cube lacks."""
        group, *variables = self.needs
        there = tree[group].data_vars if group in tree.children else ()
        return tuple(name for name in variables if name not in there)
