"""Groups runs that differ only in their seed: these share a line, a heat map or a band."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specdyn.models.spec.run_spec import NOT_SET, as_text
from specdyn.storage.schema import PROVENANCE

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The runs with the same settings except the seed."""

    values: tuple[str, ...]
    """The runs' value on each axis of their grid, as text."""
    runs: tuple[int, ...]
    """Positions of the runs along their dimension, by seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All configurations of a cube, sorted along its axes."""

    axes: dict[str, tuple[str, ...]]
    """Varied settings, the requested one first, with ascending values; only the requested one if none varies."""
    configurations: tuple[Configuration, ...]


def configurations_of(runs: xr.Dataset, first: str, seeds: Sequence[str] = ("seed",)) -> Grid:
    """Group runs by all their settings but the seeds; each group is sorted by its seeds.

    `runs` has one dimension and a coordinate along it for each setting; its index and coordinates marked as provenance
    are ignored. `first` is the first axis, which may be a seed: then each seed is a configuration. ValueError if runs
    have no such axis, or if two runs of one configuration have the same seeds.
    """
    settings, seeds = settings_of(runs), [name for name in seeds if name in runs.coords and name != first]
    if first not in settings:
        raise ValueError(f"axis={first!r} is not known, expected one of: {', '.join(settings)}")
    texts = {name: [as_text(value) for value in values] for name, values in settings.items()}
    varied = [name for name in texts if name not in seeds and len(set(texts[name])) > 1]
    axes = sorted(varied, key=lambda name: (name != first, name)) or [first]
    ascending = {name: _ascending(settings[name]) for name in (*axes, *seeds)}
    ranks = {name: [ascending[name].index(text) for text in texts[name]] for name in ascending}

    def place(run: int, names: Sequence[str]) -> tuple[int, ...]:
        return tuple(ranks[name][run] for name in names)

    order = sorted(range(len(texts[first])), key=lambda run: (place(run, axes), place(run, seeds)))
    groups = [tuple(group) for _, group in itertools.groupby(order, lambda run: place(run, axes))]
    for run, other in itertools.chain.from_iterable(map(itertools.pairwise, groups)):
        if place(run, seeds) == place(other, seeds):
            raise ValueError(_same(runs, run, other, {name: texts[name][run] for name in seeds}))
    return Grid(
        axes={name: ascending[name] for name in axes},
        configurations=tuple(
            Configuration(values=tuple(texts[name][group[0]] for name in axes), runs=group) for group in groups
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points along one setting that agree in all others; each is a configuration."""

    says: str
    """This line's values of the other settings that vary among lines; empty if none does."""
    points: tuple[tuple[float, tuple[int, ...]], ...]
    """Each value of the setting, ascending, with the positions of the items of all seeds."""

    @property
    def n(self) -> str:
        """The number of seeds behind each point."""
        return counted([items for _, items in self.points])


def lines_of(data: xr.Dataset, dim: str, along: str, seeds: Sequence[str], ids: Sequence[str] = ()) -> list[Line]:
    """The lines along a setting as which to draw the items of a dimension, by its coordinates.

    `ids` name coordinates that only identify items. ValueError as in `configurations_of`.
    """
    items = data[[name for name in data.coords if data[name].dims == (dim,)]]
    grid = configurations_of(items.drop_vars(ids), along, seeds)
    lines: dict[str, list[tuple[float, tuple[int, ...]]]] = {}
    for one in grid.configurations:
        has = zip(grid.axes, one.values, strict=True)
        says = ", ".join(f"{axis.replace('_', ' ')} {value}" for axis, value in has if axis != along)
        lines.setdefault(says, []).append((float(data[along].values[one.runs[0]]), one.runs))
    return [Line(says=says, points=tuple(points)) for says, points in lines.items()]


def counted(groups: Sequence[Sequence[int]]) -> str:
    """The number of seeds behind each group, e.g. `n = 2` or `n = 1 to 3`."""
    counts = sorted({len(group) for group in groups})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def runs_of(tree: xr.DataTree) -> xr.Dataset:
    """The coordinates of the runs of a sweep cube: ids and hyper-parameters; ValueError if it is not a cube."""
    for group in tree.children.values():
        if "run" in group.dims:
            data = group.to_dataset()
            return data[[name for name in data.coords if data[name].dims == ("run",)]]
    raise ValueError("no dimension 'run' in any group: expected a sweep cube, not the store of one run")


def settings_of(runs: xr.Dataset) -> dict[str, list[Any]]:
    """Every setting, seeds too, with its value for each run."""
    return {
        str(name): coordinate.values.tolist()
        for name, coordinate in runs.coords.items()
        if name not in runs.dims and coordinate.ndim == 1 and coordinate.attrs.get("role") != PROVENANCE
    }


def _ascending(values: Sequence[Any]) -> tuple[str, ...]:
    """The distinct values as text: numbers, then words, then unset ones."""
    by_text = {as_text(value): value for value in values}
    ordered = sorted(by_text, key=lambda text: (text == NOT_SET, isinstance(by_text[text], str), by_text[text]))
    return tuple(ordered)


def _same(runs: xr.Dataset, run: int, other: int, seeds: dict[str, str]) -> str:
    (dim,) = runs.dims
    names = [str(runs[dim].values[i]) for i in (run, other)] if dim in runs.coords else [str(run), str(other)]
    shared = " and ".join(f"{name} {text}" for name, text in seeds.items())
    return (
        f"runs {' and '.join(names)} have the same settings{f' and {shared}' if shared else ''}: nothing distinguishes "
        "them, and they are not two seeds to average; leave one out, or add the setting in which they differ"
    )
