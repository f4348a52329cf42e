"""Opening results in xarray, wherever they lie."""

import contextlib
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import xarray as xr
from zarr.abc.store import ByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.errors import GroupNotFoundError
from zarr.storage import WrapperStore

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.codec import require_schema
from specdyn.storage.places import Store
from specdyn.storage.schema import MEASURED
from specdyn.storage.studies import cube_of, study_names

READERS = 16
"""Coordinates read at a time."""
SHOWN = 20
"""The most names that are listed of what is beside results that are not there."""


class DamagedCube(objects.StoreError):
    """Results cannot be read as they were written: says which, and what to do."""


def open_results(url: str) -> xr.DataTree:
    """The cube of a study at a URL as an `xarray.DataTree`, read lazily.

    Groups: `layers` (run, layer, step, ...), `pairs`, `attention`, `metrics`, and `runs` with all settings; NaN beyond
    a layer's rank and where nothing was computed. The coordinate `status` says how far each run is. StoreError where
    there is none, naming the studies beside it, or a newer schema; DamagedCube where it is not as it was written.
    """
    url = objects.normalise(url)
    try:
        with objects.explained(url):
            tree = _open(url)
    except (GroupNotFoundError, FileNotFoundError):
        if objects.exists(Store(url).schema):
            raise _not_a_study(
                Store(url), f"a store, not a study: open one of it by specdyn.open({url!r}, NAME)"
            ) from None
        beside = objects.names(url.rsplit("/", 2)[0])
        more = f" and {len(beside) - SHOWN} more" if len(beside) > SHOWN else ""
        raise objects.StoreError(
            f"{url}: no results there; beside it: {', '.join(beside[:SHOWN]) or 'none'}{more}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCube(damaged(url, error)) from None
    require_schema(url, int(tree.attrs.get("schema_version", 0)))
    return tree


def open_study(place: str, study: str = "") -> xr.DataTree:
    """The cube of a study: by its own URL, or by the store that it is in and its name.

    `open_study("results", "my-study")`, `open_study("results/studies/my-study")` and
    `open_study("results/studies/my-study/results.zarr")` are the same; see `open_results` for what comes back.
    StoreError names the studies that a store has where none or an unknown one is named.
    """
    url = objects.normalise(place)
    store = Store(url)
    folder, _, name = url.rpartition("/")
    if not study and folder.endswith("/studies") and objects.exists(Store(folder.removesuffix("/studies")).schema):
        return open_study(folder.removesuffix("/studies"), name)
    if not study:
        return open_results(url)
    there = study_names(store)
    for url_of in (cube_of(store, name, kind) for name, kind in there if name == study):
        if generations.attributes(url_of):
            return open_results(url_of)
    raise _not_a_study(store, f"no results of a study called {study!r}")


def _not_a_study(store: Store, why: str) -> objects.StoreError:
    """What to say where a study of a store is to be opened and none is named that it has."""
    names = dict.fromkeys(name for name, _ in study_names(store))
    return objects.StoreError(f"{store}: {why}; its studies are: {', '.join(names) or 'none'}")


def open_measured(url: str) -> xr.DataTree:
    """The same without the runs that have no values yet, or failed."""
    return measured_runs(open_results(url))


def measured_runs(tree: xr.DataTree) -> xr.DataTree:
    """The runs of a cube that have values, in every group; so too its pairs or tickets."""

    def chosen(data: xr.Dataset) -> xr.Dataset:
        if "status" not in data.coords:
            return data
        status = data["status"]
        return data.isel({status.dims[0]: [one in MEASURED for one in status.values.tolist()]})

    return xr.DataTree.from_dict({node.path: chosen(node.to_dataset(inherit=False)) for node in tree.subtree})


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
    """Turn what a codec says against damaged values, which are read late, into a StoreError that names the results."""
    try:
        yield
    except Exception as error:
        # Codecs raise what they like, as callers do: where it was raised tells them apart.
        frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if frames[-1].startswith(("zarr.", "numcodecs.")):
            raise DamagedCube(damaged(url, error)) from None
        raise


def damaged(url: str, error: Exception) -> str:
    """What to say and to do where results cannot be read."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"{url}: these results are damaged ({reason}); `specdyn repair` and the command that made them mend them"


class _WholeStore(WrapperStore[ZarrStore]):
    """The store of a cube, all chunks of which are there: a missing one is an error, not a chunk without values."""

    whole = False
    """Whether it is a cube that was written here; others may leave out chunks without values."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The content of a key; DamagedCube for a chunk that is missing."""
        found = await self._store.get(key, prototype, byte_range)
        if found is None and self.whole and generations.form_of(key) is not None:
            raise DamagedCube(
                f"{self._store}/{key} is missing: these results were replaced after they were opened, or damaged; open "
                "them again, and where that does not help run `specdyn repair`"
            )
        return found


def _open(url: str) -> xr.DataTree:
    """A cube by its consolidated metadata, which says which form of its chunks is current."""
    store: Any = _WholeStore(objects.zarr_store(url, read_only=True))
    tree = xr.open_datatree(store, engine="zarr", zarr_format=3, create_default_indexes=False, consolidated=True)
    store.whole = generations.SEAL in tree.attrs
    return _with_coordinates(tree)


def _with_coordinates(tree: xr.DataTree) -> xr.DataTree:
    """The tree with its coordinates read, many at a time, and indexed; xarray reads them one by one."""
    groups = {node.path: node.to_dataset() for node in tree.subtree}
    coordinates = [variable for data in groups.values() for variable in data.coords.variables.values()]
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda variable: variable.load(), coordinates))
    for path, data in groups.items():
        for dim in data.dims:
            if isinstance(dim, str) and dim in data.coords:
                groups[path] = groups[path].set_xindex(dim)
    return xr.DataTree.from_dict(groups)


def grid(data: xr.Dataset | xr.DataArray, *axes: str) -> xr.Dataset | xr.DataArray:
    """Replace the dimension `run` by hyper-parameters, e.g. `grid(ds, "weight_decay", "seed")`.

    Cells of the grid that have no run are NaN; runs that do not have a hyper-parameter are at its label NaN. ValueError
    where two runs share a cell.
    """
    # By places and not by values, as unstacking puts what is NaN in the index into the last cell, over what is there.
    coded = {axis: np.unique(data[axis].values, return_inverse=True) for axis in axes}
    places = data.assign_coords({axis: ("run", place) for axis, (_, place) in coded.items()})
    indexed = places.set_index(run=list(axes))
    if not indexed.indexes["run"].is_unique:
        raise ValueError(f"axes={axes!r} do not tell the runs apart: name more hyper-parameters")
    spread = indexed.unstack("run") if len(axes) > 1 else indexed.rename(run=next(iter(axes)))
    labels = {axis: (axis, values[spread[axis].values], data[axis].attrs) for axis, (values, _) in coded.items()}
    return spread.assign_coords(labels)
