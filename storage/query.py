"""Opening results in xarray, wherever they lie."""

from typing import Any

import xarray as xr
from zarr.errors import GroupNotFoundError

from storage import locations
from storage.checkpoints import require_schema


def sweep_names(store: str) -> list[str]:
    """Names of the sweeps of a store."""
    found = locations.names(locations.Layout(locations.normalise(store)).sweeps())
    return [name.removesuffix(".json") for name in found if name.endswith(".json")]


def open_results(url: str) -> xr.DataTree:
    """The sweep cube, or run store, at a URL as an `xarray.DataTree`, read lazily.

    Groups: `layers` (layer, step, ...), `pairs`, `attention`, `metrics`; NaN beyond a layer's rank and where
    nothing was computed. StoreError where there is none, naming the sweeps beside it, or a newer schema.
    """
    url = locations.normalise(url)
    try:
        with locations.explained(url):
            tree = _open(url)
    except (GroupNotFoundError, FileNotFoundError):
        folder = url.rsplit("/", 1)[0]
        beside = [name for name in locations.names(folder) if name.endswith(".zarr")]
        raise locations.StoreError(f"{url}: no results there; beside it are: {', '.join(beside) or 'none'}") from None
    require_schema(url, int(tree.attrs.get("schema_version", 0)))
    return tree


def _open(url: str) -> xr.DataTree:
    """A cube by its consolidated metadata; a run store, which is still written to, has none."""
    source: Any = locations.zarr_store(url, read_only=True)
    try:
        return xr.open_datatree(source, engine="zarr", zarr_format=3, consolidated=True)
    except ValueError as error:
        if "Consolidated metadata" not in str(error):
            raise
    return xr.open_datatree(source, engine="zarr", zarr_format=3, consolidated=False)


def grid(data: xr.Dataset | xr.DataArray, *axes: str) -> xr.Dataset | xr.DataArray:
    """Replace the dimension `run` by hyper-parameters, e.g. `grid(ds, "weight_decay", "seed")`.

    Cells of the grid that have no run are NaN. ValueError where two runs share a cell.
    """
    indexed = data.set_index(run=list(axes))
    if not indexed.indexes["run"].is_unique:
        raise ValueError(f"axes={axes!r} do not tell the runs apart: name more hyper-parameters")
    return indexed.unstack("run") if len(axes) > 1 else indexed.rename(run=axes[0])
