"""Converts results to tidy tables, one row per combination of labels that has a value, in bounded blocks."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.models.spec.checks import require, require_known
from specdyn.storage.rows import row_dim

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

BLOCK = 2**21
"""Values held at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Variables of the same dimensions, at some positions of the first two."""

    places: tuple[slice, ...]
    """Positions along each dimension."""
    values: "Mapping[str, xr.Variable]"


def axes_of(data: "xr.Dataset", dims: Sequence[str]) -> list[str]:
    """Columns that identify rows besides their labels: varied settings, and the status."""
    row = row_dim(data)
    along = [str(name) for name, of in data.coords.items() if of.dims == (row,) and name != row]
    return sorted(along, key=lambda name: name == "status") if row in dims else []


def blocks_of(data: "xr.Dataset", names: Sequence[str], most: int = BLOCK) -> Iterator[Block]:
    """Variables of the same dimensions, read in blocks of at most `most` values, or of one of each variable.

    A block has whole rows of the first dimension; if one row is larger, positions of the second, and so on.
    """
    dims = data[names[0]].dims
    sizes = [data.sizes[dim] for dim in dims]
    if not sizes or 0 in sizes:
        return
    inner = [len(names) * int(np.prod(sizes[place + 1 :])) for place in range(len(sizes))]
    steps = [max(1, most // each) for each in inner]
    for starts in itertools.product(*(range(0, size, step) for size, step in zip(sizes, steps, strict=True))):
        places = tuple(slice(start, start + step) for start, step in zip(starts, steps, strict=True))
        where = dict(zip(dims, places, strict=True))
        yield Block(places=places, values={name: data[name].isel(where).variable.load() for name in names})


def frame_of(data: "xr.Dataset", block: Block) -> "pd.DataFrame":
    """A block as rows: labels and axes, then a column per variable; omits rows without any value."""
    import pandas as pd

    dims = next(iter(block.values.values())).dims
    flags = {name for name, of in block.values.items() if "flag_values" in of.attrs}
    known = [
        of.values != 0 if name in flags else of.notnull().values
        for name, of in block.values.items()
        if name not in flags or len(flags) == len(block.values)
    ]
    where = np.nonzero(np.logical_or.reduce(known))
    # `nonzero` counts from the start of the block.
    starts = dict(zip(dims, (place.start for place in block.places), strict=True))
    at = {str(dim): places + starts[dim] for dim, places in zip(dims, where, strict=True)}
    columns: dict[str, Any] = {}
    for dim in map(str, dims):
        columns[dim] = _labels(data, dim, at[dim])
        if dim == row_dim(data):
            columns |= {name: _labels(data, name, at[dim]) for name in axes_of(data, [dim])}
    for name, of in block.values.items():
        columns[name] = _column(of, of.values[where])
    return pd.DataFrame(columns)


def to_dataframe(data: "xr.Dataset | xr.DataTree", *names: str) -> "pd.DataFrame":
    """Variables of the same dimensions as a tidy table, e.g. `to_dataframe(tree, "effective_rank", "stable_rank")`.

    `data` is a cube of any study, or a group of one. One row per combination of labels that has a value; columns are
    the labels (texts as categories), the settings in which runs differ, `status`, and the variables. Counts are
    nullable integers; flags are numbers, whose meanings are attributes of the variable. ValueError for unknown names,
    and for variables whose dimensions differ.
    """
    import pandas as pd
    import xarray as xr

    require(bool(names), "names", names, "one or more variables")
    groups = [data] if isinstance(data, xr.Dataset) else [node.to_dataset() for node in data.subtree]
    known = {str(name): of for of in reversed(groups) for name in of.data_vars}
    for name in names:
        require_known("variable", name, known)
    of = known[names[0]]
    dims = {name: tuple(map(str, known[name][name].dims)) for name in names}
    apart = "; ".join(f"{name} has {', '.join(have) or 'none'}" for name, have in dims.items())
    alike = len(set(dims.values())) == 1 and all(name in of.data_vars for name in names)
    require(alike, "names", list(names), f"variables of the same dimensions ({apart})")
    require(bool(dims[names[0]]), "names", list(names), "variables with a dimension")
    frames = [frame_of(of, block) for block in blocks_of(of, names)]
    if not frames:
        return pd.DataFrame(columns=[*dims[names[0]], *names])
    return pd.concat(frames, ignore_index=True)


def is_count(variable: "xr.Variable") -> bool:
    """Whether a variable is stored as integers, and read as floats because of missing values."""
    stored = np.dtype(variable.encoding.get("dtype", variable.dtype))
    return variable.dtype.kind == "f" and stored.kind == "i" and "_FillValue" in variable.encoding


def _column(variable: "xr.Variable", values: np.ndarray) -> Any:
    import pandas as pd

    if variable.dtype.kind in "TOU":
        return pd.array(values.astype(object), dtype="str")
    if not is_count(variable):
        return values
    missing = np.isnan(values)
    return pd.arrays.IntegerArray(np.where(missing, 0, values).astype(np.int64), missing)


def _labels(data: "xr.Dataset", name: str, places: np.ndarray) -> Any:
    """Labels, or coordinates along them, at some positions; texts as categories."""
    import pandas as pd

    values = data[name].values if name in data.coords else np.arange(data.sizes[name])
    if values.dtype.kind not in "TOU":
        return values[places]
    categories, codes = np.unique(values.astype(object), return_inverse=True)
    return pd.Categorical.from_codes(codes[places], pd.Index(categories, dtype="str"))
