"""Draws lines through means over a few seeds, with bands from the smallest to the largest value."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from specdyn.tasks.figures.configurations import Line

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RANGES = "means of n, bands from the smallest {0} to the largest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Colour and label of lines that belong together."""

    label: str
    color: str
    dash: Any = "-"


def draw_ranges(
    axes: Axes, values: xr.DataArray, lines: Sequence[Line], look: Look, even: Sequence[float] = ()
) -> None:
    """Draw values of one dimension as lines; if there are several, each has a marker and a label.

    `even` are positions to space evenly and label, as some may be at 0 and others at 10,000.
    """
    places = np.unique(even).tolist()
    for line, marker in zip(lines, itertools.cycle(MARKERS), strict=False):
        groups = [values.values[list(items)] for _, items in line.points]
        where = [places.index(at) if places else at for at, _ in line.points]
        axes.plot(
            where,
            [group.mean() for group in groups],
            color=look.color,
            linestyle=look.dash,
            label=", ".join(text for text in (look.label, line.says, line.n) if text),
            marker=marker,
        )
        low, high = ([float(of(group)) for group in groups] for of in (np.min, np.max))
        axes.fill_between(where, low, high, color=look.color, alpha=0.13, linewidth=0)
    if places:
        axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
