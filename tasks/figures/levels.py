"""Colours, line styles, panels and labels by which figures distinguish the configurations of a sweep."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.colors
import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from specdyn.tasks.figures.configurations import Configuration, configurations_of, counted, runs_of
from specdyn.tasks.figures.style import FAINT

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.3)), (0, (6, 1.3, 1, 1.3)))
"""Line styles that are easy to distinguish."""
CHARACTERS = 96
"""Characters of a line of text across a whole figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One configuration (runs that differ only in their seed) as shown in figures."""

    values: dict[str, str]
    """Its value on each axis, by the axis in words."""
    runs: tuple[int, ...]
    """Positions along `run`, by seed."""
    color: str
    """Colour, by the first axis."""
    dash: Any
    """Line style, by another axis, in figures whose line styles have no other meaning."""
    line: str
    """Label of colour and line style, e.g. `weight decay 0, optimizer sgd`."""
    panel: str
    """Label of the remaining values, for a panel; empty if there are none."""

    @property
    def n(self) -> str:
        """The number of its seeds."""
        return f"n = {len(self.runs)}"


def colors_of(count: int) -> list[str]:
    """Colours of configurations in order, the same in figures and on pages; ranks and heat maps use others."""
    if count == 1:
        return ["#2b5c8a"]
    scale = matplotlib.colormaps["plasma"](np.linspace(0.02, 0.82, count))
    return [matplotlib.colors.to_hex(color) for color in scale]


def levels_of(tree: xr.DataTree, axis: str, dashes: bool = False) -> list[Level]:
    """All configurations of a cube, sorted by the axis and then by other varied settings.

    The first axis is shown by colour from dark to light; with `dashes`, the next axis with few values by line style;
    all others by panels. ValueError if runs have no such axis, or nothing distinguishes two of them.
    """
    grid = configurations_of(runs_of(tree), axis)
    color, *others = grid.axes
    dashed = next((name for name in others if dashes and len(grid.axes[name]) <= len(DASHES)), None)
    rest = [name for name in others if name != dashed]
    shades = grid.axes[color]
    colors = colors_of(len(shades))

    def level(one: Configuration) -> Level:
        of = dict(zip(grid.axes, one.values, strict=True))
        return Level(
            values={axis_title(name): value for name, value in of.items()},
            runs=one.runs,
            color=colors[shades.index(of[color])],
            dash=DASHES[grid.axes[dashed].index(of[dashed])] if dashed else DASHES[0],
            line=_said({name: of[name] for name in (color, dashed) if name}),
            panel=_said({name: of[name] for name in rest}),
        )

    return [level(one) for one in grid.configurations]


def _said(values: dict[str, str]) -> str:
    return ", ".join(f"{axis_title(name)} {value}" for name, value in values.items())


def axis_title(axis: str) -> str:
    """The axis as words."""
    return axis.replace("_", " ")


def axes_title(levels: Sequence[Level]) -> str:
    """All axes as words, e.g. `weight decay, batch size and optimizer`."""
    *most, last = dict.fromkeys(name for level in levels for name in level.values)
    return f"{', '.join(most)} and {last}" if most else last


def heading(level: Level, columns: int) -> str:
    """The heading of one of `columns` panels side by side, including the number of seeds."""
    lines = over(level, columns)
    fits = len(lines.rsplit("\n", 1)[-1]) + len(f", {level.n}") <= _width(columns)
    return f"{lines}, {level.n}" if fits else f"{lines},\n{level.n}"


def over(level: Level, columns: int) -> str:
    """The same without seeds: one line per axis, wrapped if panels are narrow."""
    return "\n".join(textwrap.fill(f"{name} {value}", _width(columns)) for name, value in level.values.items())


def _width(columns: int) -> int:
    """Width of one of `columns` panels, in characters."""
    return CHARACTERS // max(columns, 4)


def panels_of(levels: Sequence[Level]) -> list[str]:
    """Labels of the panels of a line figure; one empty text if colours and line styles suffice."""
    return list(dict.fromkeys(level.panel for level in levels))


def what(levels: Sequence[Level]) -> str:
    """The noun for one of the levels: the only axis, or a configuration."""
    return next(iter(levels[0].values)) if len(levels[0].values) == 1 else "configuration"


def seeds_text(levels: Sequence[Level]) -> str:
    """The number of seeds of each level, e.g. `n = 2` or `n = 1 to 3`."""
    return counted([level.runs for level in levels])


def line_handles(levels: Sequence[Level]) -> list[Line2D | Patch]:
    """A legend entry for each colour and line style, with its number of seeds."""
    alike: dict[str, list[Level]] = {}
    for level in levels:
        alike.setdefault(level.line, []).append(level)
    return [
        Line2D([], [], color=same[0].color, linestyle=same[0].dash, linewidth=1.6, label=f"{line}, {seeds_text(same)}")
        for line, same in alike.items()
    ]


def spread_handles(levels: Sequence[Level]) -> list[Line2D | Patch]:
    """A legend entry for the band, if a level has several seeds."""
    if all(len(level.runs) == 1 for level in levels):
        return []
    return [Patch(color=FAINT, alpha=0.5, linewidth=0, label="± 1 std over seeds")]
