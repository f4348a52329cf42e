"""What runs hold, read for their cube: each group of each run with its labels, and variables that are read late."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
import zarr

from specdyn.storage.access import objects
from specdyn.storage.results import read_run
from specdyn.storage.schema import METRICS_GROUP, Variable
from specdyn.storage.zarr_tree import auxiliary_coordinates, dimensions

Array = zarr.Array[Any]

READERS = 8
"""Runs that are read, and whose small arrays are written, at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One run of a sweep."""

    run_id: str
    url: str
    """Its run store."""
    hyperparameters: Mapping[str, Any]
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where it comes from, which decides nothing in it, as what it was computed on."""
    unknown: Mapping[str, frozenset[int] | None] = field(default_factory=dict)
    """Variables that do not count at some steps, or at all where it says None: what stands there is not finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A variable of one run."""

    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    fill: Any
    attributes: Mapping[str, Any]
    read: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunGroup:
    """What one run has in a group; its coordinates are read once."""

    run_id: str
    variables: Mapping[str, Stored]
    labels: Mapping[str, list[Any]]
    """By dimension."""
    extras: Mapping[str, tuple[str, dict[Any, Any], dict[str, Any]]]
    """Further coordinates: name -> (dimension, value by label, attributes)."""

    def labelled(self, name: str) -> xr.DataArray:
        """The values of a variable, read now, with their labels; NaN for what is missing of a count."""
        variable = self.variables[name]
        values = variable.read()
        if (fill := variable.attributes.get("_FillValue")) is not None:
            values = np.where(values == fill, np.nan, values)
        return xr.DataArray(values, {dim: self.labels[dim] for dim in variable.dims}, variable.dims, name)


Facts = Callable[[Mapping[str, RunGroup]], Mapping[str, tuple[Variable, Any]]]
"""What follows from the values of one run, by group: name -> (declaration, value)."""


def read_groups(
    members: Sequence[Member], declared: Mapping[str, Variable], facts: Facts | None
) -> dict[str, list[RunGroup]]:
    """What every run has in each group; several runs are read at a time."""
    runs = [read_run(member.url) for member in members]
    names = list(dict.fromkeys(name for run in runs for name in run))

    def of_run(member: Member, run: Mapping[str, zarr.Group]) -> dict[str, RunGroup]:
        found = {name: _source(member, run.get(name), declared) for name in names}
        return _with_facts(found, facts(found)) if facts else found

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(of_run, members, runs))
    everything = dict.fromkeys([*names, *(name for run in found for name in run)])
    return {
        name: [run.get(name, _source(m, None, {})) for m, run in zip(members, found, strict=True)]
        for name in everything
    }


def _with_facts(found: dict[str, RunGroup], facts: Mapping[str, tuple[Variable, Any]]) -> dict[str, RunGroup]:
    """The groups of a run with facts among the variables of `metrics`."""
    if not facts:
        return found
    before = found.get(METRICS_GROUP)
    labels = {dim: source.labels[dim] for source in found.values() for dim in source.labels}
    dims = {dim for variable, _ in facts.values() for dim in variable.dims}
    run_id = next(iter(found.values())).run_id
    merged = RunGroup(
        run_id=run_id,
        variables={**(before.variables if before else {}), **{n: _fact(*fact) for n, fact in facts.items()}},
        labels={**{dim: labels[dim] for dim in labels if dim in dims}, **(before.labels if before else {})},
        extras=before.extras if before else {},
    )
    return {**found, METRICS_GROUP: merged}


def _fact(variable: Variable, value: Any) -> Stored:
    stored = variable.stored(np.asarray(value))
    return Stored(
        dims=variable.dims,
        dtype=stored.dtype,
        fill=variable.fill,
        attributes=variable.attributes,
        read=lambda: stored,
    )


def _source(member: Member, group: zarr.Group | None, declared: Mapping[str, Variable]) -> RunGroup:
    if group is None:
        return RunGroup(run_id=member.run_id, variables={}, labels={}, extras={})
    with objects.explained(member.url):
        arrays = dict(group.arrays())
        labels = {name: _values(array) for name, array in arrays.items() if dimensions(array) == (name,)}
        extras = {}
        for name in auxiliary_coordinates(group):
            (dim,) = dimensions(arrays[name])
            by_label = dict(zip(labels[dim], _values(arrays[name]), strict=True))
            extras[name] = (dim, by_label, dict(arrays[name].attrs))
    variables = {
        name: _stored(array, member.unknown.get(name, frozenset()), labels.get("step", []), declared.get(name))
        for name, array in arrays.items()
        if name not in labels and name not in extras
    }
    return RunGroup(run_id=member.run_id, variables=variables, labels=labels, extras=extras)


def _stored(array: Array, unknown: frozenset[int] | None, steps: Sequence[int], declared: Variable | None) -> Stored:
    """An array of a run store in its declared dtype, empty where its values do not count."""
    dims = dimensions(array)
    other = declared is not None and np.dtype(declared.dtype) != array.dtype
    attributes = {**array.attrs, **(declared.attributes if declared and other else {})}
    fill = declared.fill if declared and other else array.fill_value

    def read() -> np.ndarray:
        values = np.asarray(array[...])
        if declared and other:
            values = declared.stored(values)
        if unknown is None:
            return np.full_like(values, fill)
        if unknown and "step" in dims:
            places = [i for i, step in enumerate(steps) if step in unknown]
            values[tuple(places if dim == "step" else slice(None) for dim in dims)] = fill
        return values

    dtype = np.dtype(declared.dtype) if declared and other else array.dtype
    return Stored(dims=dims, dtype=dtype, fill=fill, attributes=attributes, read=read)


def _values(array: Array) -> list[Any]:
    values: list[Any] = np.asarray(array[:]).tolist()
    return values
