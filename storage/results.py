"""Run stores: one Zarr a run, allocated once, written block by block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.errors import GroupNotFoundError

from specdyn.storage.access import objects
from specdyn.storage.access.codec import require_schema
from specdyn.storage.commits import block_length, blocks_of
from specdyn.storage.schema import DIMENSIONS, SCHEMA_VERSION, Variable
from specdyn.storage.zarr_tree import ZarrTree, add_auxiliary, add_coordinate


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLayout:
    """What allocates a run store: the labels of every dimension and the variables."""

    labels: Mapping[str, Sequence[Any]]
    variables: Mapping[str, Variable]
    attributes: Mapping[str, Any]
    extras: Mapping[str, tuple[str, Sequence[Any], str]]
    """Further coordinates: name -> (dimension, values, long_name)."""

    @property
    def sizes(self) -> dict[str, int]:
        """Length of every dimension."""
        return {dim: len(labels) for dim, labels in self.labels.items()}

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints, ascending."""
        return tuple(self.labels["step"])

    def blocks(self) -> list[tuple[int, ...]]:
        """The steps in blocks: a unit of work, and one chunk of every array."""
        return blocks_of(self.steps)


def allocate(url: str, layout: RunLayout) -> None:
    """Make groups, coordinates and empty arrays where they are missing; call from one process.

    Arrays that exist are left alone, so that blocks already written stay. The root comes after the coordinates
    and the arrays last: what exists is whole, whenever an earlier process died. StoreError where a shape changed.
    """
    present, sizes = _shapes(url), layout.sizes
    for name, variable in layout.variables.items():
        expected = tuple(sizes[dim] for dim in variable.dims)
        if present.get(name, expected) != expected:
            raise objects.StoreError(
                f"{url}: variable {name!r} has shape {present[name]}, expected {expected}; "
                "delete this run store and its commits to have the run analysed again"
            )
    if missing := layout.variables.keys() - present.keys():
        files = _tree(layout).objects()
        root = files.pop("zarr.json")
        arrays = {name: files.pop(f"{v.group}/{name}/zarr.json") for name, v in layout.variables.items()}
        objects.write_all(url, files)
        objects.write(f"{url}/zarr.json", root)
        objects.write_all(url, {f"{layout.variables[name].group}/{name}/zarr.json": arrays[name] for name in missing})


def _shapes(url: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a run store by name; none where there is no store."""
    if not objects.exists(f"{url}/zarr.json"):
        return {}
    return {name: array.shape for group in read_run(url).values() for name, array in group.arrays()}


def _tree(layout: RunLayout) -> ZarrTree:
    """The whole run store without any values."""
    tree = ZarrTree({"schema_version": SCHEMA_VERSION, **layout.attributes})
    sizes, length = layout.sizes, block_length(len(layout.steps))
    for name, variable in layout.variables.items():
        group = tree.root.require_group(variable.group)
        for dim in variable.dims:
            if dim not in group:
                _add_coordinates(group, layout, dim)
        group.create_array(
            name,
            shape=tuple(sizes[dim] for dim in variable.dims),
            chunks=tuple(length if dim == "step" else sizes[dim] for dim in variable.dims),
            dtype=variable.dtype,
            fill_value=variable.fill,
            dimension_names=variable.dims,
            attributes=dict(variable.attributes, cube_chunks=dict(variable.chunks)),  # type: ignore[arg-type]
        )
    return tree


def _add_coordinates(group: zarr.Group, layout: RunLayout, dim: str) -> None:
    add_coordinate(group, dim, (dim,), layout.labels[dim], {"long_name": DIMENSIONS[dim]})
    for name, (of_dim, values, long_name) in layout.extras.items():
        if of_dim == dim:
            add_auxiliary(group, name, (dim,), values, {"long_name": long_name})


def write_block(url: str, layout: RunLayout, steps: tuple[int, ...], values: Mapping[str, np.ndarray]) -> None:
    """Write the values of one block, each array shaped as declared with `step` cut to the block.

    One block is whole chunks, so workers that write different blocks never share a chunk; ValueError for
    anything else, and for a wrong shape.
    """
    if steps not in layout.blocks():
        raise ValueError(f"steps={steps} of {url} are not one of the run's blocks: {layout.blocks()}")
    start = layout.steps.index(steps[0])
    sizes = {**layout.sizes, "step": len(steps)}
    for name, array in values.items():
        dims = layout.variables[name].dims
        if array.shape != (expected := tuple(sizes[dim] for dim in dims)):
            raise ValueError(f"variable {name!r} of {url}: expected {dims} = {expected}, got {array.shape}")
    with objects.explained(url):
        root = zarr.open_group(objects.zarr_store(url), mode="r+", zarr_format=3)
        for name, array in values.items():
            variable = layout.variables[name]
            place = tuple(slice(start, start + len(steps)) if dim == "step" else slice(None) for dim in variable.dims)
            target = root[f"{variable.group}/{name}"]
            assert isinstance(target, zarr.Array)
            target[place] = variable.stored(array, target.dtype)  # counts were floats in run stores made before


def write_whole(url: str, layout: RunLayout, values: Mapping[str, np.ndarray]) -> None:
    """Write variables over all steps, or without steps; one process may write each of them."""
    with objects.explained(url):
        root = zarr.open_group(objects.zarr_store(url), mode="r+", zarr_format=3)
        for name, array in values.items():
            variable = layout.variables[name]
            target = root[f"{variable.group}/{name}"]
            assert isinstance(target, zarr.Array)
            target[...] = variable.stored(array, target.dtype)


def read_run(url: str) -> dict[str, zarr.Group]:
    """The groups of a run store by name; StoreError where there is no store."""
    try:
        with objects.explained(url):
            root = zarr.open_group(objects.zarr_store(url, read_only=True), mode="r", zarr_format=3)
    except (GroupNotFoundError, FileNotFoundError):
        raise objects.StoreError(f"{url}: no results there; run the sweep first") from None
    require_schema(url, int(str(root.attrs.get("schema_version", 0))))
    with objects.explained(url):
        return dict(root.groups())
