"""Builds a cube in memory that is never stored, in the same form as stored results."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.conventions import decode_cf_variable

from specdyn.storage.cube_tree import Structure, Taken
from specdyn.storage.rows import RUNS, Facts, Row, RowKind, placed, with_facts


def cube_in_memory(
    rows: Sequence[Row],
    values: Sequence[Mapping[str, np.ndarray]],
    facts: Facts | None,
    attributes: Mapping[str, Any],
    kind: RowKind = RUNS,
) -> xr.DataTree:
    """The cube of rows with these values, each on its row's own labels, in the form that `open_results` returns."""
    structure = Structure.of(kind, rows, facts, attributes)
    spread = [
        placed(with_facts(row.layout, of, facts), row, structure.variables, structure.labels)
        for row, of in zip(rows, values, strict=True)
    ]
    groups = {}
    for group, arrays in sorted(structure.label_arrays(rows, [Taken(status=row.status) for row in rows]).items()):
        variables = {array.name: xr.Variable(array.dims, array.data, array.attributes) for array in arrays}
        for name, variable in structure.groups.get(group, {}).items():
            stacked = np.stack([of[name] for of in spread]).astype(variable.dtype, copy=False)
            variables[name] = xr.Variable((kind.dim, *variable.dims), stacked, variable.attributes)
        coordinates = [array.name for array in arrays if array.auxiliary or array.dims == (array.name,)]
        decoded = {name: _decoded(name, variables[name]) for name in sorted(variables)}
        groups[f"/{group}"] = xr.Dataset(decoded).set_coords(coordinates)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {**structure.root_attributes, "structure": structure.digest}
    return tree


def _decoded(name: str, variable: xr.Variable) -> xr.Variable:
    """Integers with a fill value as floats with NaN, as reading them has it."""
    return decode_cf_variable(name, variable).load() if "_FillValue" in variable.attrs else variable
