"""Puts the values of analyses into the arrays of their declared variables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from specdyn.storage.results import RunLayout
from specdyn.storage.schema import OutOfRange, Variable
from specdyn.tasks.spectra.analysis import Analysis, Values


def _empty(layout: RunLayout, name: str, without: tuple[str, ...]) -> np.ndarray:
    variable = layout.variables[name]
    shape = [layout.sizes[dim] for dim in variable.dims if dim not in without]
    return np.full(shape, variable.fill, dtype=variable.dtype)


def fill(
    row: dict[str, np.ndarray],
    layout: RunLayout,
    analysis: Analysis,
    view: Any,
    what: str,
    where: Mapping[str, int] | None = None,
) -> None:
    """Put the values of an analysis into the leading corner of its arrays, which are created on demand.

    `where` has the index along the first dimension, by name, if the view is one layer or pair.
    """
    try:
        values: Values = analysis.compute(view)
    except Exception as error:
        raise RuntimeError(f"analysis {analysis.name!r} failed at {what}: {error}") from error
    without = () if analysis.of == "run" else ("step",)
    for name, value in values.items():
        if name not in layout.variables:
            continue
        if name not in row:
            row[name] = _empty(layout, name, without)
        whole, array = row[name], np.asarray(value)
        place = whole[where[layout.variables[name].dims[0]], ...] if where else whole
        if array.ndim != place.ndim or any(a > b for a, b in zip(array.shape, place.shape, strict=True)):
            raise ValueError(f"variable {name!r} at {what}: expected up to {place.shape}, got {array.shape}")
        place[tuple(slice(size) for size in array.shape)] = _fitting(
            array, layout.variables[name], f"{name!r} at {what}"
        )


def _fitting(array: np.ndarray, variable: Variable, what: str) -> np.ndarray:
    """The values in their stored dtype; OutOfRange if a finite one is too large for it."""
    with np.errstate(over="ignore"):
        stored = variable.stored(array)
    if stored.dtype == array.dtype:
        return stored
    if stored.dtype.kind == "f" and bool((lost := np.isinf(stored) & np.isfinite(array)).any()):
        raise OutOfRange(
            f"variable {what}: {np.abs(array[lost]).max():.3g} is out of range: expected up to "
            f"{np.finfo(stored.dtype).max:.3g}, the largest {stored.dtype}; scale the weights, or leave out the "
            "checkpoint or the analysis"
        )
    return stored


def stack(
    rows: Sequence[Mapping[str, np.ndarray]], layout: RunLayout, variables: Sequence[str]
) -> dict[str, np.ndarray]:
    """The values of several steps joined along each variable's `step` dimension; fill values where a step has none.

    Includes `variables` even if no step has values for them.
    """
    return {
        name: np.stack(
            [row[name] if name in row else _empty(layout, name, ("step",)) for row in rows],
            axis=layout.variables[name].dims.index("step"),
        )
        for name in dict.fromkeys([*variables, *(name for row in rows for name in row)])
    }
