"""Computes the declared measurements of a line or a ticket, and checks them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from specdyn.models.experiments.base import Metric
from specdyn.storage.results import Values
from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis


def variables_of(analyses: Sequence[Analysis], metrics: Mapping[str, Metric]) -> dict[str, Variable]:
    """Every variable that these analyses may fill, by name."""
    return {name: found for analysis in analyses for name, found in analysis.variables_for(metrics).items()}


def labels_of(analyses: Sequence[Analysis]) -> dict[str, tuple[Any, ...]]:
    """Labels of the dimensions that these analyses add."""
    return {dim: labels for analysis in analyses for dim, labels in analysis.labels.items()}


def measure(
    analyses: Sequence[Analysis], view: Any, metrics: Mapping[str, Metric], sizes: Mapping[str, int], what: str
) -> Values:
    """Run the analyses on a view and return arrays as declared; `sizes` has the dimensions without labels.

    A value fills the leading corner of its array, the rest is NaN. ValueError if one does not fit its declaration.
    """
    lengths = {**{dim: len(labels) for dim, labels in labels_of(analyses).items()}, **sizes}
    found: Values = {}
    for analysis in analyses:
        declared = analysis.variables_for(metrics)
        for name, value in analysis.compute(view).items():
            if name not in declared:
                raise ValueError(f"analysis {analysis.name!r} of {what} declares no variable {name!r}")
            found[name] = _allocated(declared[name], np.asarray(value), lengths, f"variable {name!r} of {what}")
    return found


def _allocated(variable: Variable, array: np.ndarray, lengths: Mapping[str, int], what: str) -> np.ndarray:
    whole = np.full([lengths[dim] for dim in variable.dims], variable.fill, variable.dtype)
    if array.ndim != whole.ndim or any(a > b for a, b in zip(array.shape, whole.shape, strict=True)):
        raise ValueError(f"{what}: expected ({', '.join(variable.dims)}) up to {whole.shape}, got {array.shape}")
    whole[tuple(slice(size) for size in array.shape)] = variable.stored(array)
    return whole
