"""Lines whose points are means over a few seeds, with all that was found between the smallest and the largest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from specdyn.tasks.figures.configurations import Line

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RANGES = "means of n, bands from the smallest {0} to the largest"


def draw_ranges(
    axes: Axes,
    values: xr.DataArray,
    lines: Sequence[Line],
    color: str,
    label: str,
    even: Sequence[float] = (),
    **line: Any,
) -> None:
    """Values of one dimension as lines of a colour; where there are several, each has a marker and says what it is.

    `even` are places to put side by side and to name, as some lie at 0 and some at 10,000.
    """
    places = np.unique(even).tolist()
    for number, one in enumerate(lines):
        groups = [values.values[list(items)] for _, items in one.points]
        where = [places.index(at) if places else at for at, _ in one.points]
        said = ", ".join(text for text in (label, one.says, one.n) if text)
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(where, [group.mean() for group in groups], color=color, label=said, marker=marker, ms=4, **line)
        low, high = ([float(of(group)) for group in groups] for of in (np.min, np.max))
        axes.fill_between(where, low, high, color=color, alpha=0.13, linewidth=0)
    if places:
        axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
