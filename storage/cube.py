"""The sweep cube: run stores gathered into one Zarr laid out for queries; written by one process."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from storage import locations
from storage.results import add_auxiliary, auxiliary_coordinates, read_run, write_coordinate
from storage.schema import DIMENSIONS, SCHEMA_VERSION

Array = zarr.Array[Any]

SMALL = 256 * 1024
"""Bytes a run below which an array is one chunk a run, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One run of a sweep."""

    run_id: str
    url: str
    """Its run store."""
    hyperparameters: Mapping[str, Any]


def write_cube(url: str, members: Sequence[Member], attributes: Mapping[str, Any]) -> None:
    """Rebuild the cube at `url` from the run stores of its members.

    Labels of each dimension are the union over the runs; what a run lacks is NaN (0 for integers).
    The consolidated metadata is written last, so a cube that opens is whole.
    """
    locations.delete(f"{url}/zarr.json")
    locations.delete(url)
    root = zarr.open_group(locations.zarr_store(url), mode="w", zarr_format=3)
    runs = [read_run(member.url) for member in members]
    for name in dict.fromkeys(name for groups in runs for name in groups):
        _write_group(root.create_group(name), [groups.get(name) for groups in runs], members)
    root.attrs.update({"schema_version": SCHEMA_VERSION, "Conventions": "CF-1.11", **attributes})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(root.store)


def _write_group(target: zarr.Group, sources: Sequence[zarr.Group | None], members: Sequence[Member]) -> None:
    arrays = [dict(source.arrays()) if source is not None else {} for source in sources]
    extras = {name for source in sources if source is not None for name in auxiliary_coordinates(source)}
    labels = _dimension_labels(arrays)
    _write_coordinates(target, arrays, labels, extras, members)
    for name in dict.fromkeys(name for present in arrays for name in present):
        if name not in target:
            _write_variable(target, name, arrays, labels)


def _dims(array: Array) -> tuple[str, ...]:
    return tuple(str(dim) for dim in array.metadata.dimension_names or ())


def _dimension_labels(arrays: Iterable[Mapping[str, Array]]) -> dict[str, list[Any]]:
    """Union of the labels of each dimension, numbers sorted, names in order of appearance."""
    union: dict[str, dict[Any, None]] = {}
    for present in arrays:
        for name, array in present.items():
            if _dims(array) == (name,):
                union.setdefault(name, {}).update(dict.fromkeys(np.asarray(array[:]).tolist()))
    return {
        dim: sorted(labels) if all(isinstance(label, int | float) for label in labels) else list(labels)
        for dim, labels in union.items()
    }


def _write_coordinates(
    target: zarr.Group,
    arrays: Sequence[Mapping[str, Array]],
    labels: Mapping[str, list[Any]],
    extras: set[str],
    members: Sequence[Member],
) -> None:
    write_coordinate(target, "run", "run", [m.run_id for m in members], {"long_name": DIMENSIONS["run"]})
    for name in dict.fromkeys(name for member in members for name in member.hyperparameters):
        values = [member.hyperparameters.get(name, "") for member in members]
        add_auxiliary(target, name, "run", values, {"long_name": name.replace("_", " "), "units": "1"})
    for dim, values in labels.items():
        write_coordinate(target, dim, dim, values, {"long_name": DIMENSIONS.get(dim, dim)})
    for name in sorted(extras):
        by_label: dict[Any, Any] = {}
        for array, dim, present in ((p[name], _dims(p[name])[0], p) for p in arrays if name in p):
            by_label.update(zip(_values(present[dim]), _values(array), strict=True))
        add_auxiliary(target, name, dim, [by_label[label] for label in labels[dim]], dict(array.attrs))


def _values(array: Array) -> list[Any]:
    values: list[Any] = np.asarray(array[:]).tolist()
    return values


def _write_variable(
    target: zarr.Group, name: str, arrays: Sequence[Mapping[str, Array]], labels: Mapping[str, list[Any]]
) -> None:
    first = next(present[name] for present in arrays if name in present)
    dims = _dims(first)
    shape = tuple(len(labels[dim]) for dim in dims)
    inner, shard = _chunking(dims, shape, first)
    attributes = {key: value for key, value in first.attrs.items() if key != "cube_chunks"}
    array = target.create_array(
        name,
        shape=(len(arrays), *shape),
        chunks=(1, *inner),
        shards=(1, *shard) if shard else None,
        dtype=first.dtype,
        fill_value=first.fill_value,
        dimension_names=("run", *dims),
        attributes=attributes,
    )
    for index, present in enumerate(arrays):
        if name in present:
            array[index] = _placed(present, present[name], labels, shape)


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


def _placed(
    present: Mapping[str, Array], array: Array, labels: Mapping[str, list[Any]], shape: tuple[int, ...]
) -> np.ndarray:
    """One run's array on the cube's labels."""
    values = np.full(shape, array.fill_value, dtype=array.dtype)
    places = []
    for dim in _dims(array):
        index = {label: i for i, label in enumerate(labels[dim])}
        places.append([index[label] for label in _values(present[dim])])
    values[np.ix_(*places)] = array[...]
    return values
