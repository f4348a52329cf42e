"""A cube that is held in memory and never stored: what was just measured, in the form that stored results have."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
import zarr.storage
from zarr.core.buffer import default_buffer_prototype

from specdyn.storage.cube_tree import Structure, Taken
from specdyn.storage.rows import RUNS, Facts, Row, RowKind, placed, with_facts


def cube_in_memory(
    rows: Sequence[Row],
    values: Sequence[Mapping[str, np.ndarray]],
    facts: Facts | None,
    attributes: Mapping[str, Any],
    kind: RowKind = RUNS,
) -> xr.DataTree:
    """The cube of rows with these values, each on its row's own labels, as `open_results` shows one that is stored."""
    structure = Structure.of(kind, rows, facts, attributes)
    buffer = default_buffer_prototype().buffer
    files = structure.files(rows, [Taken(status=row.status) for row in rows])
    store = zarr.storage.MemoryStore({key: buffer.from_bytes(data) for key, data in files.items()})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        tree = xr.open_datatree(store, engine="zarr", zarr_format=3, consolidated=True)  # type: ignore[arg-type]
    spread = [
        placed(with_facts(row.layout, of, facts), row, structure.variables, structure.labels)
        for row, of in zip(rows, values, strict=True)
    ]
    groups = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
    for group, variables in structure.groups.items():
        data = groups[f"/{group}"]
        measured = {}
        for name, variable in variables.items():
            stacked = np.stack([of[name] for of in spread])
            if "_FillValue" in variable.attributes:
                stacked = np.where(stacked == variable.fill, np.nan, stacked)
            measured[name] = data.variables[name].copy(data=stacked.astype(data.variables[name].dtype))
        groups[f"/{group}"] = data.assign(measured)
    return xr.DataTree.from_dict({path: data.load() for path, data in groups.items()})
