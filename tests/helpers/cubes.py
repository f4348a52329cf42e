"""Small results and cubes made by hand, labelled like real ones, with known values."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import zarr.storage

from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.cube import CubeWriter
from specdyn.storage.places import Store
from specdyn.storage.results import RunLayout, part_name, write_block
from specdyn.storage.rows import Facts, Row
from specdyn.storage.schema import Variable

VARIABLES = {
    "singular_value": Variable(dims=("layer", "step", "rank"), long_name="singular value", chunks={"rank": 16}),
    "effective_rank": Variable(dims=("layer", "step"), long_name="effective rank / rank", about="METHOD 4.3"),
    "collapse": Variable(
        dims=("layer", "step"), long_name="collapse", dtype="int8", flags=("missing", "alive", "collapsed")
    ),
    "alignment": Variable(dims=("pair", "step", "rank"), long_name="alignment"),
    "loss": Variable(dims=("split", "step"), long_name="loss", units="nat"),
}


def layout_of(
    steps: Sequence[int] = (0, 10, 20),
    shapes: Mapping[str, tuple[int, int]] | None = None,
    variables: Mapping[str, Variable] = VARIABLES,
    run_id: str = "aaa",
) -> RunLayout:
    """The layout of a run whose layers have these shapes, in this order."""
    shapes = shapes or {"in.weight": (4, 3), "out.weight": (2, 4)}
    layers = list(shapes)
    return RunLayout(
        labels={
            "step": list(steps),
            "layer": layers,
            "pair": [f"{a} -> {b}" for a, b in itertools.pairwise(layers)],
            "rank": list(range(1, 1 + max(min(shape) for shape in shapes.values()))),
            "split": ["train", "val"],
        },
        variables=variables,
        attributes={"run_id": run_id},
        extras={
            "rows": ("layer", [rows for rows, _ in shapes.values()]),
            "columns": ("layer", [columns for _, columns in shapes.values()]),
        },
    )


def values_of(layout: RunLayout, seed: int = 0) -> dict[str, np.ndarray]:
    """Random values of every variable over the whole run; singular values are NaN beyond a layer's rank."""
    draw = np.random.default_rng(seed)
    values: dict[str, np.ndarray] = {}
    for name, variable in layout.variables.items():
        shape = tuple(layout.sizes[dim] for dim in variable.dims)
        integers = np.dtype(variable.dtype).kind == "i"
        values[name] = (draw.integers(1, 3, shape) if integers else draw.normal(size=shape)).astype(variable.dtype)
    if "singular_value" in values:
        _, rows = layout.extras["rows"]
        _, columns = layout.extras["columns"]
        for layer, rank in enumerate(map(min, rows, columns)):
            values["singular_value"][layer, :, rank:] = np.nan
    return values


def part(layout: RunLayout, values: Mapping[str, np.ndarray], steps: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The values of some steps."""
    places = [layout.steps.index(step) for step in steps]
    return {name: array.take(places, axis=layout.variables[name].dims.index("step")) for name, array in values.items()}


def write_run(folder: str, layout: RunLayout, values: Mapping[str, np.ndarray], blocks: int | None = None) -> list[str]:
    """Write the first blocks of a run's values, or all; returns their URLs."""
    analyses = dict.fromkeys(layout.variables, 1)
    for steps in layout.blocks()[:blocks]:
        write_block(folder, layout, steps, analyses, part(layout, values, steps))
    return [f"{folder}/{part_name(steps, analyses)}" for steps in layout.blocks()[:blocks]]


def write_row(
    store: Store, layout: RunLayout, values: Mapping[str, np.ndarray], blocks: int | None = None, **settings: Any
) -> Row:
    """Write the values of a run, or of its first blocks, and return it as a row of a cube."""
    run_id = str(layout.attributes["run_id"])
    urls = write_run(store.run_results("hand", f"{run_id}-results"), layout, values, blocks)
    return Row(
        key=run_id,
        status="done" if len(urls) == len(layout.blocks()) else "partial" if urls else "planned",
        layout_of=lambda: layout,
        coordinates=settings,
        settings=settings,
        results=f"{run_id}-results",
        parts={url: frozenset(layout.variables) for url in urls},
    )


def write_cube(
    url: str,
    rows: Sequence[Row],
    attributes: Mapping[str, Any] | None = None,
    facts: Facts | None = None,
    lease: Lease | None = None,
) -> None:
    """Update the cube at a URL to these rows, like a process that has not written it before."""
    CubeWriter(url=url, facts=facts, lease=lease).write(rows, attributes or {})


class DiedError(Exception):
    """A process ends here."""


@contextlib.contextmanager
def each_put(monkeypatch: pytest.MonkeyPatch, told: Callable[[str], None]) -> Iterator[None]:
    """Call `told` with the key of each object, within its cube, before zarr or this package writes it."""
    write, store_set = objects.write, zarr.storage.LocalStore.set

    async def put(self: Any, key: str, value: Any) -> None:
        told(key)
        await store_set(self, key, value)

    def one(url: str, data: bytes) -> None:
        told(url.partition(".zarr/")[2])
        write(url, data)

    def many(url: str, files: Mapping[str, bytes]) -> None:
        for key, data in files.items():
            one(f"{url}/{key}", data)

    with monkeypatch.context() as patch:
        patch.setattr(objects, "write", one)
        patch.setattr(objects, "write_all", many)
        patch.setattr(zarr.storage.LocalStore, "set", put)
        yield


@contextlib.contextmanager
def dying_after(monkeypatch: pytest.MonkeyPatch, survivors: int) -> Iterator[None]:
    """Allow that many writes of objects, then raise DiedError."""
    left = survivors

    def spend(_: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise DiedError

    with each_put(monkeypatch, spend):
        yield
