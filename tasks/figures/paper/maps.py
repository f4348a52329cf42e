"""Heat maps whose columns are any values side by side: split steps, sizes of a perturbation, ranks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from specdyn.tasks.figures.heatmaps import COLORS

MOST_TICKS = 8


def draw_map(axes: Axes, values: np.ndarray, places: Sequence[float]) -> QuadMesh:
    """Values (row, place) from 0 to 1 as cells of one size, row 1 on top; places are named below, NaN is grey."""
    rows, columns = values.shape
    axes.grid(visible=False)
    every = max(1, -(-columns // MOST_TICKS))
    axes.set_xticks(range(0, columns, every), [f"{place:g}" for place in places[::every]])
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) + 0.5
    mesh = axes.pcolormesh(*edges, np.ma.masked_invalid(values), cmap=COLORS, vmin=0, vmax=1, rasterized=True)
    axes.set_ylim(rows + 0.5, 0.5)
    return mesh
