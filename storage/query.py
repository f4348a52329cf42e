"""Opens results in xarray, from a folder or bucket."""

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
"""Coordinates read concurrently."""
SHOWN = 20
"""How many neighbouring names an error lists if there are no results at a URL."""


class DamagedCube(objects.StoreError):
    """Stored results are damaged; the message says which, and what to do."""


def open_results(url: str) -> xr.DataTree:
    """The cube of a study at a URL as an `xarray.DataTree`, read lazily.

    Groups: `layers` (run, layer, step, ...), `pairs`, `attention`, `metrics`, and `runs` with all settings; NaN beyond
    a layer's rank and where nothing was computed. The coordinate `status` says how far each run is. StoreError if
    there is no cube (naming the studies next to it) or its schema is newer; DamagedCube if it is damaged.
    """
    url = objects.normalise(url)
    try:
        with objects.explained(url):
            tree = _open(url)
    except (GroupNotFoundError, FileNotFoundError):
        if objects.exists(Store(url).schema):
            raise _not_a_study(
                Store(url), f"a store, not a study: open one of its studies by specdyn.open({url!r}, NAME)"
            ) from None
        beside = objects.names(url.rsplit("/", 2)[0])
        more = f" and {len(beside) - SHOWN} more" if len(beside) > SHOWN else ""
        raise objects.StoreError(
            f"{url}: no results there; next to it: {', '.join(beside[:SHOWN]) or 'none'}{more}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCube(damaged(url, error)) from None
    require_schema(url, int(tree.attrs.get("schema_version", 0)))
    return tree


def open_study(place: str, study: str = "") -> xr.DataTree:
    """The cube of a study, by its own URL or by its store and name.

    `open_study("results", "my-study")`, `open_study("results/studies/my-study")` and
    `open_study("results/studies/my-study/results.zarr")` are equivalent; see `open_results` for the result.
    StoreError lists the store's studies if none or an unknown one is named.
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
    """The error for a missing or unknown study name."""
    names = dict.fromkeys(name for name, _ in study_names(store))
    return objects.StoreError(f"{store}: {why}; its studies are: {', '.join(names) or 'none'}")


def open_measured(url: str) -> xr.DataTree:
    """The cube without runs that failed or have no values yet."""
    return measured_runs(open_results(url))


def measured_runs(tree: xr.DataTree) -> xr.DataTree:
    """Restrict every group of a cube to the runs, pairs or tickets that have values."""

    def chosen(data: xr.Dataset) -> xr.Dataset:
        if "status" not in data.coords:
            return data
        status = data["status"]
        return data.isel({status.dims[0]: [one in MEASURED for one in status.values.tolist()]})

    return xr.DataTree.from_dict({node.path: chosen(node.to_dataset(inherit=False)) for node in tree.subtree})


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
    """Turn the error of a codec about damaged values, which are read lazily, into a DamagedCube that names them."""
    try:
        yield
    except Exception as error:
        # Codecs raise any type of error, and so do callers: the traceback tells them apart.
        frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if frames[-1].startswith(("zarr.", "numcodecs.")):
            raise DamagedCube(damaged(url, error)) from None
        raise


def damaged(url: str, error: Exception) -> str:
    """The message for results that cannot be read."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"{url}: these results are damaged ({reason}); run `specdyn repair`, then the command that made them"


class _WholeStore(WrapperStore[ZarrStore]):
    """The store of a cube in which every chunk exists: a missing one is an error, not an empty chunk."""

    whole = False
    """Whether specdyn wrote the cube; others may omit empty chunks."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The content of a key; DamagedCube for a missing chunk."""
        found = await self._store.get(key, prototype, byte_range)
        if found is None and self.whole and generations.form_of(key) is not None:
            raise DamagedCube(
                f"{self._store}/{key} is missing: these results were replaced after they were opened, or damaged; open "
                "them again, and if that does not help run `specdyn repair`"
            )
        return found


def _open(url: str) -> xr.DataTree:
    """Open a cube by its consolidated metadata, which says which form of chunk keys is current."""
    store: Any = _WholeStore(objects.zarr_store(url, read_only=True))
    tree = xr.open_datatree(store, engine="zarr", zarr_format=3, create_default_indexes=False, consolidated=True)
    store.whole = generations.SEAL in tree.attrs
    return _with_coordinates(tree)


def _with_coordinates(tree: xr.DataTree) -> xr.DataTree:
    """The tree with its coordinates loaded and indexed; reads many at a time, as xarray reads them one by one."""
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

    Cells without a run are NaN; runs without a hyper-parameter are at its label NaN. ValueError
    if two runs share a cell.
    """
    # By positions, not values: unstacking would put NaN labels into the last cell, overwriting it.
    coded = {axis: np.unique(data[axis].values, return_inverse=True) for axis in axes}
    places = data.assign_coords({axis: ("run", place) for axis, (_, place) in coded.items()})
    indexed = places.set_index(run=list(axes))
    if not indexed.indexes["run"].is_unique:
        raise ValueError(f"axes={axes!r} do not distinguish the runs: name more hyper-parameters")
    spread = indexed.unstack("run") if len(axes) > 1 else indexed.rename(run=next(iter(axes)))
    labels = {axis: (axis, values[spread[axis].values], data[axis].attrs) for axis, (values, _) in coded.items()}
    return spread.assign_coords(labels)
