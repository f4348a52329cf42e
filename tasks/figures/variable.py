"""Draws any variable of a cube."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specdyn.models.nets.layers import short_names
from specdyn.models.spec.checks import require, require_known
from specdyn.tasks.figures.rows import along_rows, groups_of, require_measured, rows_dim, shades_of
from specdyn.tasks.figures.style import legend_below, panels, step_axis, step_label, styled
from specdyn.tasks.figures.sweep_axis import draw, of_all, spread

ALONG = ("step", "rank", "share", "kept", "alpha", "decile", "row", "component")
"""Preferred dimensions of the horizontal axis, in order."""
PANELS = ("layer", "pair", "attention")
"""Dimensions shown with one panel per label."""
LAST = ("step", "split")
"""Dimensions whose last label is the default: the last step, and the validation set."""
MOST_PANELS, COLUMNS = 12, 4
LOGS = ("", "x", "y", "xy")


@styled
def plot_variable(
    tree: xr.DataTree, name: str, axis: str = "", along: str = "", at: Mapping[str, Any] | None = None, log: str = ""
) -> Figure:
    """A variable as lines along one of its dimensions, a panel per layer or pair, a colour per configuration.

    Lines are means over seeds, bands their spread. `axis` is the setting that orders the colours; `at` selects labels
    of other dimensions (or of the panels, to draw only one) and is shown in the title. `log` is x, y or xy. ValueError
    lists the known names if a variable, dimension or label is unknown.
    """
    require(log in LOGS, "log", log, "x, y or xy")
    require_measured(tree)
    dim = rows_dim(tree)
    known = drawable_variables(tree, dim)
    require_known("variable", name, known)
    data = known[name]
    rows = along_rows(tree, dim)
    assert rows is not None
    groups = groups_of(tree, dim, rows, axis)
    data, title = _chosen(data, dim, dict(at or {}), along)
    others = [str(one) for one in data.dims if one != dim]
    x = along or next((one for one in ALONG if one in others), others[0] if others else "")
    panel = next((one for one in others if one != x), "")
    labels = data[panel].values.tolist() if panel else [None]
    shown = spread(labels, MOST_PANELS)
    columns = min(COLUMNS, len(shown))
    figure, grid = panels(math.ceil(len(shown) / columns), columns, 2.2, 1.25, sharex=True)
    short = short_names(list(map(str, labels))) if panel in PANELS else {}
    colors = shades_of(groups, rows, dim)
    for axes, label in zip(grid.flat, shown, strict=False):
        part = data.sel({panel: label}) if panel else data
        if "y" in log and bool((part > 0).any()):
            axes.set_yscale("log")
        for (_, of_group), color in zip(groups, colors, strict=True):
            values = part.isel({dim: list(of_group)}).rename({dim: "run"})
            _draw(axes, values, x, color, log)
        axes.set_title(short.get(str(label), f"{panel} {label}") if panel else "")
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    for axes in grid[-1]:
        axes.set_xlabel(step_label(tree) if x == "step" else x.replace("_", " "))
    units = data.attrs.get("units", "1")
    for axes in grid[:, 0]:
        axes.set_ylabel("" if units == "1" else units)
    named = [(text, color) for (text, _), color in zip(groups, colors, strict=True)]
    legend_below(figure, [Line2D([], [], color=color, linewidth=1.6, label=text) for text, color in named])
    left_out = of_all(shown, labels, panel) if panel else ""
    figure.suptitle(f"{data.attrs.get('long_name', name)}{title}{left_out}")
    return figure


def drawable_variables(tree: xr.DataTree, dim: str = "") -> dict[str, xr.DataArray]:
    """The numeric variables along the rows of a cube, by name."""
    dim = dim or rows_dim(tree)
    known: dict[str, xr.DataArray] = {}
    for node in tree.subtree:
        if node.path.strip("/") not in ("runs", "sources"):
            found = node.to_dataset(inherit=False)
            known |= {str(key): of for key, of in found.data_vars.items() if dim in of.dims and of.dtype.kind in "fiub"}
    return known


def _chosen(data: xr.DataArray, dim: str, at: dict[str, Any], along: str) -> tuple[xr.DataArray, str]:
    """The variable with all dimensions fixed but the axis and the panels, and a description of the selection."""
    others = [str(one) for one in data.dims if one != dim]
    for one in (*at, *([along] if along else [])):
        require_known(f"dimension of {data.name}", one, others)
    x = along or next((one for one in ALONG if one in others and one not in at), "")
    panel = next((one for one in PANELS if one in others and one not in at and one != x), "")
    said = []
    for one in others:
        if one in (x, panel):
            continue
        labels = data[one].values.tolist() if one in data.coords else list(range(data.sizes[one]))
        if one in at:
            by_text = {str(label): label for label in labels}
            require_known(f"label of {one}", str(at[one]), by_text)
            label = by_text[str(at[one])]
        else:
            label = labels[-1 if one in LAST else 0]
        data = data.sel({one: label}) if one in data.coords else data.isel({one: label})
        said.append(f"{one.replace('_', ' ')} {label}")
    return data, f" ({', '.join(said)})" if said else ""


def _draw(axes: Any, values: xr.DataArray, x: str, color: Any, log: str) -> None:
    """Draw one configuration's line, or its points if there is no axis."""
    if axes.get_yscale() == "log" and not bool((values > 0).any()):
        return
    if not x:
        axes.plot(np.zeros(values.sizes["run"]), values.values, "o", color=color)
        axes.set_xticks([])
        return
    if values[x].dtype.kind not in "fiu":
        places = np.arange(values.sizes[x])
        axes.plot(places, values.mean("run").values, "o-", color=color)
        axes.set_xticks(places, [str(label) for label in values[x].values], rotation=30)
        return
    if "x" in log:
        axes.set_xscale("log")
    lines = values if x == "step" else values.drop_vars("step", errors="ignore").rename({x: "step"})
    draw(axes, lines, color)
    if x == "step" and "x" not in log:
        step_axis(axes, 4)
