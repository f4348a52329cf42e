"""How figures tell the configurations of a sweep apart: a colour, a line style, a panel, and what they are called."""

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
"""As many line styles as can be told apart."""
CHARACTERS = 96
"""Of a line of text over the whole width of a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One configuration, runs that differ in their seed alone, as figures show it."""

    values: dict[str, str]
    """What it has on each axis, by the axis in words."""
    runs: tuple[int, ...]
    """Positions along `run`, by seed."""
    color: str
    """By the first axis."""
    dash: Any
    """By another axis, of figures whose line styles say nothing else."""
    line: str
    """What colour and dash stand for, e.g. `weight decay 0, optimizer sgd`."""
    panel: str
    """What is left of the values, for a panel to say; empty where nothing is."""

    @property
    def n(self) -> str:
        """How many seeds stand behind it."""
        return f"n = {len(self.runs)}"


def colors_of(count: int) -> list[str]:
    """Colours of configurations in their order, the same in figures and on pages; ranks and heat maps have others."""
    if count == 1:
        return ["#2b5c8a"]
    scale = matplotlib.colormaps["plasma"](np.linspace(0.02, 0.82, count))
    return [matplotlib.colors.to_hex(color) for color in scale]


def levels_of(tree: xr.DataTree, axis: str, dashes: bool = False) -> list[Level]:
    """All configurations of a cube, sorted by the axis and by what else varies.

    The first axis is a colour from dark to light, with `dashes` the next one of few values a line style; panels say
    all others. ValueError where runs have no such axis, or nothing tells two of them apart.
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
    """What stands over one of so many panels side by side, with its seeds."""
    lines = over(level, columns)
    fits = len(lines.rsplit("\n", 1)[-1]) + len(f", {level.n}") <= _width(columns)
    return f"{lines}, {level.n}" if fits else f"{lines},\n{level.n}"


def over(level: Level, columns: int) -> str:
    """The same without its seeds: a line for each axis, broken where panels are narrow."""
    return "\n".join(textwrap.fill(f"{name} {value}", _width(columns)) for name, value in level.values.items())


def _width(columns: int) -> int:
    """Of one of so many panels, in characters."""
    return CHARACTERS // max(columns, 4)


def panels_of(levels: Sequence[Level]) -> list[str]:
    """What the panels of a figure of lines stand for, one empty text where colours and dashes say everything."""
    return list(dict.fromkeys(level.panel for level in levels))


def what(levels: Sequence[Level]) -> str:
    """What one of the levels is: a value of the only axis, or a configuration."""
    return next(iter(levels[0].values)) if len(levels[0].values) == 1 else "configuration"


def seeds_text(levels: Sequence[Level]) -> str:
    """How many seeds stand behind each level, e.g. `n = 2` or `n = 1 to 3`."""
    return counted([level.runs for level in levels])


def line_handles(levels: Sequence[Level]) -> list[Line2D | Patch]:
    """An entry of the legend for each colour and line style, with how many seeds stand behind it."""
    alike: dict[str, list[Level]] = {}
    for level in levels:
        alike.setdefault(level.line, []).append(level)
    return [
        Line2D([], [], color=same[0].color, linestyle=same[0].dash, linewidth=1.6, label=f"{line}, {seeds_text(same)}")
        for line, same in alike.items()
    ]


def spread_handles(levels: Sequence[Level]) -> list[Line2D | Patch]:
    """What the band is, where a level has several seeds."""
    if all(len(level.runs) == 1 for level in levels):
        return []
    return [Patch(color=FAINT, alpha=0.5, linewidth=0, label="± 1 std over seeds")]
