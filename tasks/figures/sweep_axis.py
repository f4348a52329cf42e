"""What figures take from a cube: the levels of the swept hyper-parameter, means over seeds, short names."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes


def has(tree: xr.DataTree, group: str, name: str) -> bool:
    """Whether a group of the results is there and has the variable."""
    return group in tree.children and name in tree[group].data_vars


def variable(tree: xr.DataTree, group: str, name: str) -> xr.DataArray:
    """A variable of a group, not yet read."""
    return tree[group].to_dataset()[name]


def runs_of(tree: xr.DataTree) -> xr.Dataset:
    """The coordinates of the runs of a sweep cube: ids and hyper-parameters; ValueError if it is no cube."""
    for group in tree.children.values():
        if "run" in group.dims:
            data = group.to_dataset()
            return data[[name for name in data.coords if data[name].dims == ("run",)]]
    raise ValueError("no dimension 'run' in any group: expected a sweep cube, not the store of one run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One value of the swept hyper-parameter, e.g. a weight decay."""

    label: str
    runs: tuple[int, ...]
    """Positions along `run`, by seed."""
    color: tuple[float, float, float, float]

    @property
    def n(self) -> str:
        """How many runs stand behind the level."""
        return f"n = {len(self.runs)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Mean over seeds and one standard deviation (ddof 0) around it, cut to the range of the seeds.

    The cut keeps bands of bounded metrics inside their bounds: no error below 0. For a logarithmic axis mean and
    deviation are of the logarithms; a value of 0 counts as the smallest positive one there.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def levels_of(tree: xr.DataTree, axis: str) -> list[Level]:
    """The levels of the axis, ascending; colours go from dark to light. ValueError where runs have no such axis."""
    runs = runs_of(tree)
    if axis not in runs:
        raise ValueError(f"axis={axis!r} is not known, expected one of: {', '.join(map(str, runs.coords))}")
    values = runs[axis].values.tolist()
    seeds = runs["seed"].values.tolist() if "seed" in runs else [0] * len(values)
    # NaN, a run without the hyper-parameter, differs from itself: it goes last.
    order = sorted(range(len(values)), key=lambda i: (values[i] != values[i], values[i], seeds[i]))
    groups = [(label, tuple(group)) for label, group in itertools.groupby(order, lambda i: as_text(values[i]))]
    colors = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.85, len(groups)) if len(groups) > 1 else [0.3])
    return [
        Level(label=label, runs=group, color=tuple(color)) for (label, group), color in zip(groups, colors, strict=True)
    ]


def as_text(value: Any) -> str:
    """A hyper-parameter as the reader would write it."""
    if isinstance(value, float):
        return "not set" if math.isnan(value) else f"{value:g}"
    return str(value) or "not set"


def axis_title(axis: str) -> str:
    """The axis as words."""
    return axis.replace("_", " ")


def heading(level: Level, axis: str, columns: int) -> str:
    """What stands over a column of panels, on two lines where columns are narrow."""
    between = " " if columns <= 4 else "\n"
    return f"{axis_title(axis)}{between}{level.label}, {level.n}"


def seeds_text(levels: Sequence[Level]) -> str:
    """How many runs stand behind each level, e.g. `n = 2` or `n = 1 to 3`."""
    counts = sorted({len(level.runs) for level in levels})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def band(values: xr.DataArray, log: bool = False) -> Band:
    """Mean and spread over `run` of values (run, step); steps at which no run has a value are left out."""
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
    """The mean of values (run, step) as a line and, of several runs, their spread as a band."""
    drawn = band(values, log=axes.get_yscale() == "log")
    axes.plot(drawn.steps, drawn.mean, color=color, **line)
    if values.sizes["run"] > 1:
        axes.fill_between(drawn.steps, drawn.low, drawn.high, color=color, alpha=0.16, linewidth=0)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names of parameters without `weight`, cut to what tells them apart: `linear1`, `3.linear1`, `features.0`.

    A part in brackets is kept and both sides of a pair `a -> b` are cut: `in_proj[value] → out_proj`.
    """
    sides = [side for name in names for side in name.split(" -> ")]
    forms = {base: _forms(base) for base in dict.fromkeys(side.partition("[")[0] for side in sides)}
    uses = Counter(form for of_base in forms.values() for form in of_base)

    def cut(side: str) -> str:
        base, bracket, part = side.partition("[")
        return next((form for form in forms[base] if uses[form] == 1), base) + bracket + part

    return {name: " → ".join(cut(side) for side in name.split(" -> ")) for name in names}


def _forms(base: str) -> list[str]:
    """Ways to write a parameter's name, shortest first; none is a bare number."""
    parts = base.removesuffix(".weight").removesuffix("_weight").split(".")
    numbers = [part for part in parts[:-1] if part.isdigit()]
    endings = [parts[-k:] for k in range(1, len(parts) + 1)]
    forms = [".".join(form) for form in (parts[-1:], [*numbers, parts[-1]], *endings)]
    return [form for form in dict.fromkeys(forms) if not form.replace(".", "").isdigit()]


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def of_all(shown: Sequence[Any], everything: Sequence[Any], what: str) -> str:
    """What a title adds where not everything is shown."""
    return "" if len(shown) == len(everything) else f" ({len(shown)} of {len(everything)} {what.replace('_', ' ')}s)"
