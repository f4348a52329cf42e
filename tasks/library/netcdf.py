"""Writes a cube as one netCDF-4 file, in blocks of bounded size."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.tasks.library.frames import blocks_of

if TYPE_CHECKING:
    import xarray as xr

LEVEL = 4
"""Compression level."""


def write_netcdf(tree: "xr.DataTree", path: Path, variables: Sequence[str], block: int) -> None:
    """Write a cube, or some of its variables, to a file that xarray opens as an equal tree.

    Texts are variable-length strings. Attributes that netCDF does not support, such as dictionaries, are JSON.
    """
    import netCDF4
    import xarray as xr

    groups: dict[str, xr.Dataset] = {}
    large: dict[str, list[str]] = {}
    for node in tree.subtree:
        data = node.to_dataset()
        chosen = [str(name) for name in data.data_vars if not variables or name in variables]
        # Texts and booleans exist only along runs, so they are small: xarray writes them, with all coordinates.
        small = [name for name in chosen if data[name].dtype.kind not in "fiu"]
        large[node.path] = [name for name in chosen if name not in small]
        groups[node.path] = _storable(data.drop_vars([name for name in data.data_vars if name not in small]))
    whole = xr.DataTree.from_dict(groups)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.to_netcdf(path, engine="netcdf4", write_inherited_coords=True)
    with netCDF4.Dataset(path, "a") as file:
        for group, names in large.items():
            place = file if group == "/" else file[group]
            for name in names:
                _write(place, tree[group].to_dataset(), name, block)


def _write(group: Any, data: "xr.Dataset", name: str, block: int) -> None:
    """Write a numeric variable, one block at a time."""
    from xarray.conventions import encode_cf_variable

    variable, stored = data[name], None
    for one in blocks_of(data, [name], block):
        encoded = encode_cf_variable(_plain_variable(one.values[name]))
        values = np.asarray(encoded.values)
        if stored is None:
            attributes = dict(encoded.attrs)
            fill = attributes.pop("_FillValue", np.nan if values.dtype.kind == "f" else None)
            stored = group.createVariable(
                name, values.dtype.str[1:], variable.dims, compression="zlib", complevel=LEVEL, fill_value=fill
            )
            stored.set_auto_maskandscale(False)
            stored.setncatts(_attributes(attributes))
            along = [str(of) for of in data.coords if of not in data.dims and set(data[of].dims) <= set(variable.dims)]
            if along:
                stored.setncattr("coordinates", " ".join(along))
        stored[one.places] = values


def _plain_variable(variable: "xr.Variable") -> "xr.Variable":
    """A variable without Zarr's chunking and compression."""
    plain = variable.copy(deep=False)
    plain.encoding = {key: of for key, of in variable.encoding.items() if key in ("dtype", "_FillValue")}
    return plain


def _storable(data: "xr.Dataset") -> "xr.Dataset":
    """Convert a data set to types that netCDF supports."""
    data = data.copy()
    for name in list(data.variables):
        variable = _plain_variable(data[name].variable)
        if variable.dtype.kind in "TOU":
            values = variable.values.astype(object)
            variable = variable.copy(data=values)
            variable.encoding = {"dtype": str}
        variable.attrs = _attributes(variable.attrs)
        data[name] = variable
    data.attrs = _attributes(data.attrs)
    return data


def _attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Convert attributes that netCDF lacks to JSON."""
    return {
        str(name): json.dumps(value) if isinstance(value, dict | bool) or value is None else value
        for name, value in attributes.items()
    }
