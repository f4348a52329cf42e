"""Versions of a cube that changes while it is read, and a reader that checks every value of opened cubes."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr

from helpers.cubes import VARIABLES, layout_of, values_of, write_cube, write_row
from specdyn.storage.access.lease import Lease
from specdyn.storage.places import Store
from specdyn.storage.rows import Row

LAYOUTS = {
    layout.attributes["run_id"]: layout
    for layout in (
        layout_of(run_id="first", steps=(0, 10, 20, 30)),
        layout_of(run_id="second", steps=(0, 10, 20, 30)),
        layout_of(run_id="between", steps=(0, 5, 10, 15)),
        layout_of(run_id="deeper", steps=(0, 10), shapes={"in.weight": (4, 3), "mid": (4, 4), "out.weight": (2, 4)}),
    )
}
VALUES = {run: values_of(layout, seed) for seed, (run, layout) in enumerate(LAYOUTS.items())}
VERSIONS: tuple[tuple[str, ...], ...] = (
    ("first",),
    ("first", "second"),
    ("first", "second", "between"),
    ("deeper", "first", "second", "between"),
    ("second", "deeper"),
    ("second", "deeper", "first"),
)
"""Growth along runs, steps in between, new layers and another order, fewer runs, growth again."""


def rows_of(store: Store, names: Sequence[str] = tuple(VARIABLES)) -> dict[str, Row]:
    """All runs with their results, of these variables."""
    rows = {}
    for i, (run, layout) in enumerate(LAYOUTS.items()):
        of_names = dataclasses.replace(layout, variables={name: layout.variables[name] for name in names})
        values = {name: VALUES[run][name] for name in names}
        rows[run] = write_row(store, of_names, values, weight_decay=i / 10, seed=i)
    return rows


def build(url: str, rows: Mapping[str, Row], version: int, lease: Lease | None = None) -> None:
    """Make the cube that version."""
    write_cube(url, [rows[run] for run in VERSIONS[version]], {"title": str(version)}, lease=lease)


def check(tree: xr.DataTree, names: Sequence[str] = tuple(VARIABLES)) -> int:
    """Compare every value of these variables with its run's; returns the version of the cube."""
    version = int(tree.attrs["title"])
    assert tree["layers"]["run"].values.tolist() == list(VERSIONS[version])
    decays = tree["layers"]["weight_decay"].values.tolist()
    assert decays == [list(LAYOUTS).index(run) / 10 for run in VERSIONS[version]]
    for i, run in enumerate(VERSIONS[version]):
        layout = LAYOUTS[run]
        for name in names:
            variable = layout.variables[name]
            of_run = tree[f"{variable.group}/{name}"].isel(run=i).load()
            labels: dict[str, Sequence[Any]] = {dim: layout.labels[dim] for dim in variable.dims}
            np.testing.assert_array_equal(of_run.sel(labels), VALUES[run][name], err_msg=f"{run} {name} of {version}")
            assert present(of_run.values) == present(VALUES[run][name])
    return version


def present(values: np.ndarray) -> int:
    """The number of values that are not NaN, and not 0 if 0 means `missing`."""
    return int(np.count_nonzero(values) if values.dtype.kind == "i" else np.count_nonzero(~np.isnan(values)))


@contextmanager
def reading(open_cube: Callable[[], xr.DataTree]) -> Iterator[list[int]]:
    """Check repeatedly, until the block ends, cubes that were opened before it and within it.

    Yields a list of the versions found; raises the error of a failed check.
    """
    held, seen, errors, ended = open_cube(), list[int](), list[BaseException](), threading.Event()

    def read() -> None:
        try:
            while not ended.is_set():
                seen.append(check(held.copy()))
                seen.append(check(open_cube()))
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]
    seen.append(check(held))
