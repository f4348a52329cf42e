"""The sweep cube: run stores gathered into one Zarr laid out for queries; written by one process."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr

from storage import locations
from storage.results import read_run
from storage.schema import DIMENSIONS, PROVENANCE, SCHEMA_VERSION
from storage.zarr_tree import ZarrTree, add_auxiliary, add_coordinate, auxiliary_coordinates, dimensions

Array = zarr.Array[Any]

SMALL = 256 * 1024
"""Size of a run's array below which it is one chunk, in bytes."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What one run has in a group; its coordinates are read once."""

    run_id: str
    variables: Mapping[str, Array]
    labels: Mapping[str, list[Any]]
    """By dimension."""
    extras: Mapping[str, tuple[str, dict[Any, Any], dict[str, Any]]]
    """Further coordinates: name -> (dimension, value by label, attributes)."""


def write_cube(url: str, members: Sequence[Member], attributes: Mapping[str, Any]) -> None:
    """Rebuild the cube at `url` from the run stores of its members.

    Labels of each dimension are the union over the runs; what a run lacks is NaN (0 for integers).
    The root's metadata is removed first and put last, so a cube that opens is whole.
    """
    tree = ZarrTree({"schema_version": SCHEMA_VERSION, "Conventions": "CF-1.11", **attributes})
    groups = _read_groups(members)
    labels = {name: _union(sources) for name, sources in groups.items()}
    for name, sources in groups.items():
        _add_group(tree.root.create_group(name), sources, labels[name], members)
    tree.consolidate()
    objects = tree.objects()
    root = objects.pop("zarr.json")
    locations.delete(f"{url}/zarr.json")
    locations.delete(url)
    locations.write_all(url, objects)
    with locations.explained(url):
        for name, sources in groups.items():
            _fill_group(f"{url}/{name}", sources, labels[name])
    locations.write(f"{url}/zarr.json", root)


def _read_groups(members: Sequence[Member]) -> dict[str, list[Source]]:
    """What every run has in each group; several runs are read at a time."""
    runs = [read_run(member.url) for member in members]
    groups: dict[str, list[Source]] = {}
    with ThreadPoolExecutor(READERS) as pool:
        for name in dict.fromkeys(name for run in runs for name in run):
            groups[name] = list(pool.map(_source, members, [run.get(name) for run in runs]))
    return groups


def _source(member: Member, group: zarr.Group | None) -> Source:
    if group is None:
        return Source(run_id=member.run_id, variables={}, labels={}, extras={})
    with locations.explained(member.url):
        arrays = dict(group.arrays())
        labels = {name: _values(array) for name, array in arrays.items() if dimensions(array) == (name,)}
        extras = {}
        for name in auxiliary_coordinates(group):
            (dim,) = dimensions(arrays[name])
            by_label = dict(zip(labels[dim], _values(arrays[name]), strict=True))
            extras[name] = (dim, by_label, dict(arrays[name].attrs))
    variables = {name: array for name, array in arrays.items() if name not in labels and name not in extras}
    return Source(run_id=member.run_id, variables=variables, labels=labels, extras=extras)


def _values(array: Array) -> list[Any]:
    values: list[Any] = np.asarray(array[:]).tolist()
    return values


def _add_group(
    target: zarr.Group, sources: Sequence[Source], labels: Mapping[str, list[Any]], members: Sequence[Member]
) -> None:
    _add_coordinates(target, sources, labels, members)
    for name in _variable_names(sources):
        if name in target:
            raise ValueError(f"{name!r} is a hyper-parameter and a variable of {target.name}: rename one of them")
        _add_variable(target, name, sources, labels)


def _variable_names(sources: Sequence[Source]) -> list[str]:
    return list(dict.fromkeys(name for source in sources for name in source.variables))


def _union(sources: Sequence[Source]) -> dict[str, list[Any]]:
    """Labels of each dimension over all runs, numbers sorted, names in order of appearance."""
    union: dict[str, dict[Any, None]] = {}
    for source in sources:
        for dim, labels in source.labels.items():
            union.setdefault(dim, {}).update(dict.fromkeys(labels))
    return {
        dim: sorted(labels) if all(isinstance(label, int | float) for label in labels) else list(labels)
        for dim, labels in union.items()
    }


def _add_coordinates(
    target: zarr.Group, sources: Sequence[Source], labels: Mapping[str, list[Any]], members: Sequence[Member]
) -> None:
    add_coordinate(target, "run", ("run",), [m.run_id for m in members], {"long_name": DIMENSIONS["run"]})
    for dim, values in labels.items():
        add_coordinate(target, dim, (dim,), values, {"long_name": DIMENSIONS.get(dim, dim)})
    for name in dict.fromkeys(name for member in members for name in member.hyperparameters):
        if name in target:
            raise ValueError(f"{name!r} is a hyper-parameter and a dimension of {target.name}: rename one of them")
        attributes = {"long_name": name.replace("_", " "), "units": "1"}
        add_auxiliary(target, name, ("run",), _column(name, members), attributes)
    for name in dict.fromkeys(name for member in members for name in member.provenance):
        attributes = {"long_name": name.replace("_", " "), "role": PROVENANCE}
        add_auxiliary(target, name, ("run",), [member.provenance.get(name, "") for member in members], attributes)
    for name in sorted({name for source in sources for name in source.extras}):
        _add_extra(target, name, sources, labels)


def _column(name: str, members: Sequence[Member]) -> list[Any]:
    """A hyper-parameter of every run; NaN, or an empty string among strings, where a run has none."""
    known = [member.hyperparameters[name] for member in members if name in member.hyperparameters]
    missing = "" if any(isinstance(value, str) for value in known) else float("nan")
    return [member.hyperparameters.get(name, missing) for member in members]


def _add_extra(target: zarr.Group, name: str, sources: Sequence[Source], labels: Mapping[str, list[Any]]) -> None:
    """A further coordinate: along its dimension where the runs agree, for each run and label where they do not."""
    having = [source.extras[name] for source in sources if name in source.extras]
    dim, _, attributes = having[0]
    together = {label: value for _, by_label, _ in having for label, value in by_label.items()}
    if all(by_label.items() <= together.items() for _, by_label, _ in having):
        add_auxiliary(target, name, (dim,), [together.get(label, 0) for label in labels[dim]], attributes)
        return
    of_runs = [source.extras[name][1] if name in source.extras else {} for source in sources]
    values = [[of_run.get(label, 0) for label in labels[dim]] for of_run in of_runs]
    add_auxiliary(target, name, ("run", dim), values, attributes)


def _add_variable(target: zarr.Group, name: str, sources: Sequence[Source], labels: Mapping[str, list[Any]]) -> None:
    model, *others = [source for source in sources if name in source.variables]
    first = model.variables[name]
    dims = dimensions(first)
    for other in others:
        if (found := dimensions(other.variables[name])) != dims:
            raise locations.StoreError(
                f"variable {name!r} has dimensions {dims} in run {model.run_id} and {found} in run {other.run_id}: "
                "delete the older run store and its commits to have the run analysed again"
            )
    shape = tuple(len(labels[dim]) for dim in dims)
    inner, shard = _chunking(dims, shape, first)
    target.create_array(
        name,
        shape=(len(sources), *shape),
        chunks=(1, *inner),
        shards=(1, *shard) if shard else None,
        dtype=first.dtype,
        fill_value=first.fill_value,
        dimension_names=("run", *dims),
        attributes={key: value for key, value in first.attrs.items() if key != "cube_chunks"},
    )


def _fill_group(url: str, sources: Sequence[Source], labels: Mapping[str, list[Any]]) -> None:
    """Put the values of every variable: of several runs at a time, or of one where they are large."""
    store = locations.zarr_store(url)
    for name in _variable_names(sources):
        target = zarr.open_array(store, path=name, mode="r+", zarr_format=3)
        having = [index for index, source in enumerate(sources) if name in source.variables]

        def put(index: int, name: str = name, target: Array = target) -> None:
            target[index] = _placed(sources[index], name, labels, target.shape[1:])

        with ThreadPoolExecutor(1 if target.shards else READERS) as pool:
            list(pool.map(put, having))


def _chunking(
    dims: tuple[str, ...], shape: tuple[int, ...], array: Array
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Inner chunk and shard of one run: small arrays are one chunk, large ones one shard of small chunks."""
    if np.prod(shape) * array.dtype.itemsize <= SMALL:
        return shape, None
    wanted = array.attrs.get("cube_chunks", {})
    assert isinstance(wanted, dict)
    inner = tuple(
        min(size, int(str(wanted.get(dim, 1 if dim in ("layer", "pair") else size))))
        for dim, size in zip(dims, shape, strict=True)
    )
    return inner, tuple(-(-size // chunk) * chunk for size, chunk in zip(shape, inner, strict=True))


def _placed(source: Source, name: str, labels: Mapping[str, list[Any]], shape: tuple[int, ...]) -> np.ndarray:
    """One run's array on the cube's labels."""
    array = source.variables[name]
    values = np.full(shape, array.fill_value, dtype=array.dtype)
    places = []
    for dim in dimensions(array):
        index = {label: i for i, label in enumerate(labels[dim])}
        places.append([index[label] for label in source.labels[dim]])
    values[np.ix_(*places)] = array[...]
    return values
