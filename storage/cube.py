"""The sweep cube: run stores gathered into one Zarr laid out for queries; written by one process."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import StorePath

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.members import READERS, Array, Facts, Member, RunGroup, Stored, read_groups
from specdyn.storage.schema import DIMENSIONS, NO_COUNT, PROVENANCE, SCHEMA_VERSION, Variable
from specdyn.storage.zarr_tree import ZarrTree, add_auxiliary, add_coordinate

SMALL = 256 * 1024
"""Size of a run's array below which it is one chunk, in bytes."""


def write_cube(
    url: str,
    members: Sequence[Member],
    attributes: Mapping[str, Any],
    declared: Mapping[str, Variable] | None = None,
    facts: Facts | None = None,
    lease: Lease | None = None,
) -> None:
    """Build the cube at `url` again from the run stores of its members, beside the one that readers have open.

    Labels of each dimension are the union over the runs; what a run lacks is NaN (0 for flags, -1 for counts).
    `declared` gives the dtypes of variables that older run stores have in another one. Readers are switched at the end,
    by one PUT of the root's metadata; LeaseLost before that where another process has taken over.
    """
    check = lease.check if lease else _nothing
    groups = read_groups(members, declared or {}, facts)
    labels = {name: _union(sources) for name, sources in groups.items()}
    tree = ZarrTree({"schema_version": SCHEMA_VERSION, "Conventions": "CF-1.11", **attributes})
    for name, sources in groups.items():
        _add_group(tree.root.create_group(name), sources, labels[name], members)
    tree.consolidate()
    check()
    files = generations.in_form(tree.objects(), generations.begin(url, bool(lease and lease.succeeded)))
    metadata = {key: data for key, data in files.items() if generations.form_of(key) is None}
    objects.write_all(url, {key: data for key, data in files.items() if key not in metadata})
    with objects.explained(url):
        for name, sources in groups.items():
            _fill_group(url, name, metadata, sources, labels[name], check)
    generations.switch(url, metadata, lease.verify if lease else _nothing)


def _nothing() -> None:
    """What is checked where no other process can be at work."""


def _add_group(
    target: zarr.Group, sources: Sequence[RunGroup], labels: Mapping[str, list[Any]], members: Sequence[Member]
) -> None:
    _add_coordinates(target, sources, labels, members)
    for name in _variable_names(sources):
        if name in target:
            raise ValueError(f"{name!r} is a hyper-parameter and a variable of {target.name}: rename one of them")
        _add_variable(target, name, sources, labels)


def _variable_names(sources: Sequence[RunGroup]) -> list[str]:
    return list(dict.fromkeys(name for source in sources for name in source.variables))


def _union(sources: Sequence[RunGroup]) -> dict[str, list[Any]]:
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
    target: zarr.Group, sources: Sequence[RunGroup], labels: Mapping[str, list[Any]], members: Sequence[Member]
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


def _add_extra(target: zarr.Group, name: str, sources: Sequence[RunGroup], labels: Mapping[str, list[Any]]) -> None:
    """A further coordinate: along its dimension where the runs agree, for each run and label where they do not."""
    having = [source.extras[name] for source in sources if name in source.extras]
    dim, _, attributes = having[0]
    together = {label: value for _, by_label, _ in having for label, value in by_label.items()}
    missing = "" if any(isinstance(value, str) for value in together.values()) else NO_COUNT
    if all(by_label.items() <= together.items() for _, by_label, _ in having):
        add_auxiliary(target, name, (dim,), [together[label] for label in labels[dim]], attributes)
        return
    of_runs = [source.extras[name][1] if name in source.extras else {} for source in sources]
    values = [[of_run.get(label, missing) for label in labels[dim]] for of_run in of_runs]
    if missing == NO_COUNT and any(missing in row for row in values):
        attributes = {**attributes, "_FillValue": NO_COUNT}
    add_auxiliary(target, name, ("run", dim), values, attributes)


def _add_variable(target: zarr.Group, name: str, sources: Sequence[RunGroup], labels: Mapping[str, list[Any]]) -> None:
    model, *others = [source for source in sources if name in source.variables]
    first = model.variables[name]
    dims = first.dims
    for other in others:
        if (found := other.variables[name].dims) != dims:
            raise objects.StoreError(
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
        fill_value=first.fill,
        dimension_names=("run", *dims),
        attributes={key: value for key, value in first.attributes.items() if key != "cube_chunks"},
    )


def _fill_group(
    url: str,
    group: str,
    metadata: Mapping[str, bytes],
    sources: Sequence[RunGroup],
    labels: Mapping[str, list[Any]],
    check: Callable[[], None],
) -> None:
    """Put the values of every variable: of several runs at a time, or of one where they are large."""
    store = objects.zarr_store(url)
    for name in _variable_names(sources):
        target = _array_to_be(store, f"{group}/{name}", metadata)
        having = [index for index, source in enumerate(sources) if name in source.variables]

        def put(index: int, name: str = name, target: Array = target) -> None:
            values = _placed(sources[index], name, labels, target)
            check()
            target[index] = values

        with ThreadPoolExecutor(1 if target.shards else READERS) as pool:
            list(pool.map(put, having))


def _array_to_be(store: Store, path: str, metadata: Mapping[str, bytes]) -> Array:
    """The array that this metadata describes, which the store does not have yet."""
    described = ArrayV3Metadata.from_dict(json.loads(metadata[f"{path}/zarr.json"]))
    return zarr.Array(zarr.AsyncArray(metadata=described, store_path=StorePath(store, path)))


def _chunking(
    dims: tuple[str, ...], shape: tuple[int, ...], array: Stored
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Inner chunk and shard of one run: small arrays are one chunk, large ones one shard of small chunks."""
    if np.prod(shape) * array.dtype.itemsize <= SMALL:
        return shape, None
    wanted = array.attributes.get("cube_chunks", {})
    assert isinstance(wanted, dict)
    inner = tuple(
        min(size, int(str(wanted.get(dim, 1 if dim in ("layer", "pair") else size))))
        for dim, size in zip(dims, shape, strict=True)
    )
    return inner, tuple(-(-size // chunk) * chunk for size, chunk in zip(shape, inner, strict=True))


def _placed(source: RunGroup, name: str, labels: Mapping[str, list[Any]], target: Array) -> np.ndarray:
    """One run's array on the cube's labels."""
    variable = source.variables[name]
    values = np.full(target.shape[1:], target.fill_value, dtype=target.dtype)
    places = []
    for dim in variable.dims:
        index = {label: i for i, label in enumerate(labels[dim])}
        places.append([index[label] for label in source.labels[dim]])
    values[np.ix_(*places)] = variable.read()
    return values
