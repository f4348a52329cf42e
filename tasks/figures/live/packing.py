"""Packs the values of a cube into a page: float32, thinned (as stated on the page) if there are too many."""

import base64
import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from specdyn.tasks.figures.sweep_axis import spread

BYTES = 1_200_000
"""Bytes of values on any page, uncompressed."""
BYTES_A_RUN = 55_000
"""Further bytes per run."""
MOST_BYTES = 6_500_000
"""Most bytes for any number of runs, so that a page stays below 10 MB."""
FIRST_KEPT = ("row", "column", "final_rank", "rank", "component")
"""Dimensions whose first labels matter most, in the order in which they are cut."""
LEAST = {"row": 8, "column": 8, "final_rank": 8, "rank": 12, "component": 2}
"""Fewest labels kept along these."""
LEAST_STEPS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Variables with the positions of their values in one block of float32."""

    variables: list[dict[str, Any]]
    labels: dict[str, list[Any]]
    """Labels that are left out, by dimension."""
    block: str
    """The block, gzipped, as base64."""


def pack(tree: xr.DataTree, rows: str) -> Packed:
    """Every numeric variable of a cube with its rows (runs, pairs or tickets) first.

    Values are float32 in the order of the variable's dimensions, NaN where missing. If they exceed a page's limit, the
    largest variables are cut to fewer ranks, then to fewer steps.
    """
    found = list(_variables(tree, rows))
    count = max((array.sizes[rows] for _, array in found), default=1)
    room = min(MOST_BYTES, BYTES + BYTES_A_RUN * count)
    limit = _limit([4 * array.size for _, array in found], room)
    variables, chunks, offset = [], [], 0
    labels: dict[str, list[Any]] = {}
    for group, array in found:
        kept = _thinned(array, rows, limit)
        # Read only what is shown, as the largest variables make up most of a cube.
        chosen = array.isel(kept)
        values = np.ascontiguousarray(chosen.transpose(rows, ...).values, "<f4")
        dims = [str(dim) for dim in chosen.dims if dim != rows]
        for dim in dims:
            labels.setdefault(dim, _labels(array, dim))
        variables.append(
            {
                "name": str(array.name),
                "group": group,
                "dims": dims,
                "shape": list(values.shape),
                "offset": offset,
                "kept": {dim: places for dim, places in kept.items() if len(places) < array.sizes[dim]},
                "title": array.attrs.get("long_name", str(array.name)),
                "units": array.attrs.get("units", "1"),
                "about": array.attrs.get("about") or array.attrs.get("comment", ""),
                "flags": str(array.attrs.get("flag_meanings", "")).split(),
            }
        )
        chunks.append(values.tobytes())
        offset += values.size
    data = gzip.compress(b"".join(chunks), 6, mtime=0)
    return Packed(variables=variables, labels=labels, block=base64.b64encode(data).decode())


def _variables(tree: xr.DataTree, rows: str) -> Iterable[tuple[str, xr.DataArray]]:
    """Group and array of each numeric variable along the rows, not loaded."""
    for node in tree.subtree:
        data = node.to_dataset(inherit=False)
        if node.path.strip("/") in ("runs", "sources"):
            continue
        for array in data.data_vars.values():
            if rows in array.dims and array.dtype.kind in "fiub" and array.size:
                yield node.path.strip("/"), array


def _labels(array: xr.DataArray, dim: str) -> list[Any]:
    values = array[dim].values if dim in array.coords else np.arange(array.sizes[dim])
    return [value if isinstance(value, int | float) else str(value) for value in np.asarray(values).tolist()]


def _limit(sizes: Sequence[int], room: int) -> float:
    """The size to which to cut the largest so that all fit, given the space that small ones leave."""
    left, waiting = float(room), sorted(sizes)
    for i, size in enumerate(waiting):
        share = left / (len(waiting) - i)
        if size > share:
            return share
        left -= size
    return float("inf")


def _thinned(array: xr.DataArray, rows: str, limit: float) -> dict[str, list[int]]:
    """The positions kept along each dimension but the rows."""
    sizes = {str(dim): array.sizes[dim] for dim in array.dims if dim != rows}
    kept = {dim: list(range(size)) for dim, size in sizes.items()}

    def over() -> float:
        return 4 * array.sizes[rows] * float(np.prod([len(of) for of in kept.values()])) / limit

    for dim in FIRST_KEPT:
        if dim in kept and over() > 1:
            fitting = int(len(kept[dim]) / over())
            kept[dim] = kept[dim][: max(min(LEAST[dim], sizes[dim]), fitting)]
    if "step" in kept and over() > 1:
        fitting = int(len(kept["step"]) / over())
        kept["step"] = spread(kept["step"], max(min(LEAST_STEPS, sizes["step"]), fitting))
    return kept


def thinning(variables: Sequence[Mapping[str, Any]], labels: Mapping[str, Sequence[Any]]) -> list[tuple[str, str]]:
    """Description of what was left out: names of variables, and which of their labels are shown."""
    alike: dict[str, list[str]] = {}
    for variable in variables:
        parts = [
            f"{'the first ' if dim in FIRST_KEPT else ''}{len(places)} of {len(labels[dim])} {dim.replace('_', ' ')}s"
            for dim, places in variable["kept"].items()
        ]
        if parts:
            alike.setdefault(", ".join(parts), []).append(variable["name"])
    return [(", ".join(names), what) for what, names in alike.items()]
