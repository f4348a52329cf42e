"""Helpers of figures: variables of a cube, means over seeds, selections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from specdyn.models.spec.run_spec import as_text
from specdyn.tasks.figures.configurations import runs_of, settings_of


def axis_of(tree: xr.DataTree) -> str:
    """The default axis of a cube: weight decay, else the first label by which series differ, else the series."""
    settings = settings_of(runs_of(tree))
    varied = [name for name, values in settings.items() if len(set(map(as_text, values))) > 1]
    usual = [name for name in ("weight_decay", "series") if name in settings]
    return next((name for name in (*usual, *varied, *settings) if name != "seed"), "seed")


def has(tree: xr.DataTree, group: str, name: str) -> bool:
    """Whether a group of the results (`/` for the root) exists and has the variable."""
    return (group == "/" or group in tree.children) and name in tree[group].data_vars


def variable(tree: xr.DataTree, group: str, name: str) -> xr.DataArray:
    """A variable of a group, not loaded."""
    return tree[group].to_dataset()[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Mean over seeds and one standard deviation (ddof 0) around it, clipped to the range of the seeds.

    Clipping keeps bands of bounded metrics within bounds: no error below 0. For a logarithmic axis, mean and
    deviation are of the logarithms, with 0 replaced by the smallest positive value.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def band(values: xr.DataArray, log: bool = False) -> Band:
    """Mean and spread over `run` of values (run, step); omits steps at which no run has a value."""
    by_run = np.ma.masked_invalid(values.transpose("run", "step").values.astype(float))
    known = ~np.ma.getmaskarray(by_run).all(axis=0)
    by_run = by_run[:, known]
    log = log and bool((by_run > 0).any())
    if log:
        by_run = np.ma.log(np.ma.maximum(by_run, by_run[by_run > 0].min()))
    mean, std = by_run.mean(axis=0), by_run.std(axis=0)
    low, high = np.ma.maximum(mean - std, by_run.min(axis=0)), np.ma.minimum(mean + std, by_run.max(axis=0))
    lines = [np.asarray(np.exp(line) if log else line) for line in (mean, low, high)]
    return Band(steps=values["step"].values[known], mean=lines[0], low=lines[1], high=lines[2])


def draw(axes: Axes, values: xr.DataArray, color: Any, **line: Any) -> None:
    """Draw the mean of values (run, step) as a line and, for several runs, their spread as a band."""
    drawn = band(values, log=axes.get_yscale() == "log")
    axes.plot(drawn.steps, drawn.mean, color=color, **line)
    if values.sizes["run"] > 1:
        axes.fill_between(drawn.steps, drawn.low, drawn.high, color=color, alpha=0.16, linewidth=0)


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spaced, including the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def of_all(shown: Sequence[Any], everything: Sequence[Any], what: str) -> str:
    """Suffix of a title if not everything is shown."""
    return "" if len(shown) == len(everything) else f" ({len(shown)} of {len(everything)} {what.replace('_', ' ')}s)"
