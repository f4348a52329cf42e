"""Sweep cubes made by hand, from any runs with their settings, and values that identify the run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

Settings = Mapping[str, Any]
STRING = np.dtypes.StringDType()
STEPS = (0, 5, 10)
LAYERS = ("embed.weight", "out.weight")
SIZES = {"step": 3, "layer": 2, "pair": 1, "rank": 4, "split": 2, "kept": 2}
LABELS: dict[str, list[Any]] = {
    "step": list(STEPS),
    "layer": list(LAYERS),
    "pair": [" -> ".join(LAYERS)],
    "rank": [1, 2, 3, 4],
    "split": ["train", "val"],
    "kept": ["top", "bottom"],
}
VARIABLES = {
    "layers": {
        "effective_rank": "layer step",
        "singular_value": "layer step rank",
        "agreement": "layer step rank",
        "agreement_score": "layer step",
    },
    "pairs": {"alignment": "pair step rank", "alignment_score": "pair step"},
    "metrics": {"loss": "split step", "err": "split step", "pruned_loss": "kept split step"},
}


def configuration(settings: Settings) -> tuple[tuple[str, str], ...]:
    """All settings but the seed, as comparable text, since NaN != NaN and 1 == True."""
    return tuple(sorted((name, repr(value)) for name, value in settings.items() if name != "seed"))


def by_configuration(runs: Sequence[Settings]) -> list[float]:
    """A value between 0 and 1 for each run, equal for runs that differ only in their seed."""
    known = {key: place for place, key in enumerate(dict.fromkeys(map(configuration, runs)), start=1)}
    return [known[configuration(run)] / (len(known) + 1) for run in runs]


def cube_of(runs: Sequence[Settings], values: Sequence[float] | Callable[..., np.ndarray]) -> xr.DataTree:
    """A cube of the runs: all its values are the run's, or made by a function of the shape."""
    names = dict.fromkeys(name for run in runs for name in run)
    coordinates: dict[str, Any] = {"run": np.array([f"run{place}" for place in range(len(runs))], STRING)}
    for name in names:
        known = [run[name] for run in runs if name in run]
        missing = "" if any(isinstance(value, str) for value in known) else float("nan")
        column = [run.get(name, missing) for run in runs]
        coordinates[name] = ("run", np.array(column, STRING) if isinstance(missing, str) else np.asarray(column))

    def variable(dims: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
        shape = (len(runs), *(SIZES[dim] for dim in dims))
        if callable(values):
            return ("run", *dims), values(shape)
        return ("run", *dims), np.broadcast_to(np.reshape(values, (-1, *[1] * len(dims))), shape).copy()

    groups = {}
    for group, variables in VARIABLES.items():
        used = dict.fromkeys(dim for dims in variables.values() for dim in dims.split())
        labels = {dim: np.array(LABELS[dim], STRING if isinstance(LABELS[dim][0], str) else None) for dim in used}
        arrays = {name: variable(tuple(dims.split())) for name, dims in variables.items()}
        groups[f"/{group}"] = xr.Dataset(arrays, {**coordinates, **labels})
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"schema_version": 1, "title": "a sweep"}), **groups})
