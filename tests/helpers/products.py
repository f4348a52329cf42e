"""The contents of a store that must be equal however often the work was interrupted."""

import re

import xarray as xr

from specdyn.storage.access import objects
from specdyn.storage.leftovers import remove_leftovers
from specdyn.storage.places import Store
from specdyn.storage.query import open_results, reading

OF_CALLS = ("logs/", "leases/", "reports/")
"""What each call leaves individually."""


def products(url: str) -> dict[str, bytes]:
    """Checkpoints, masks and results with their bytes, every array of the cubes, and the names of all else.

    Interrupted writes and replaced chunks are removed first, as `specdyn storage clean` would an hour later; any other
    surplus object shows up by its name.
    """
    store = Store(url)
    remove_leftovers(store, older_than=0.0)
    found: dict[str, bytes] = {}
    for key in objects.find(url):
        if key.startswith(OF_CALLS) or ".versions/" in key or ".zarr/" in key:
            continue
        if "/state/" in key or key.startswith(("runs/", "studies/")):  # these contain times
            found[re.sub(r"-[0-9a-f]{32}\.", ".", key)] = b""
        else:
            found[key] = objects.read(f"{url}/{key}")
    for name in objects.names(store.studies):
        for cube in (each for each in objects.names(f"{store.studies}/{name}") if each.endswith(".zarr")):
            found.update(arrays(f"{store.studies}/{name}/{cube}"))
    return found


def arrays(cube: str) -> dict[str, bytes]:
    """Every array of a cube with its bytes, by the cube's name, the group and its own name."""
    with reading(cube):
        tree = open_results(cube).load()
    return {
        f"{cube.rsplit('/', 1)[1]}/{node.path.strip('/')}/{name}": _bytes_of(array)
        for node in tree.subtree
        for name, array in node.to_dataset(inherit=False).variables.items()
    }


def _bytes_of(array: xr.Variable) -> bytes:
    plain = array.values.tobytes() if array.dtype.kind in "bif" else str(array.values.tolist()).encode()
    return f"{array.dims} {array.dtype} ".encode() + plain


def differing(url: str, expected: dict[str, bytes]) -> list[str]:
    """The names of missing, surplus and different objects."""
    there = products(url)
    return sorted(name for name in there.keys() | expected.keys() if there.get(name) != expected.get(name))
