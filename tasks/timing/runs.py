"""Memorising, grokking and compression of every run of a cube, side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from specdyn.models.spec.checks import require
from specdyn.storage.schema import METRICS_GROUP
from specdyn.tasks.timing.compression import at_step, compression
from specdyn.tasks.timing.crossings import first_below, relative_lag

if TYPE_CHECKING:
    import xarray as xr

COLLAPSED = 2
"""Value of the variable `collapse` for a layer whose largest singular value is below 1e-6."""
DEFINITIONS = ("half", "settled")
OF_RUN = {
    "mem_step": "step at which the run has memorised",
    "mem_after": "checkpoint before it has memorised",
    "mem_censored": "whether the run ended before it memorised",
    "fall": "fall of the effective rank / rank",
    "floor": "effective rank / rank in the last tenth of the steps",
    "plateau": "whether the rank has settled",
}
OF_DEFINITION = {
    "grok_step": "step at which the run groks",
    "grok_after": "checkpoint before it groks",
    "grok_censored": "whether the run ended before it grokked",
    "compress_step": "step at which the rank has fallen",
    "compress_after": "checkpoint before the rank has fallen",
    "compress_censored": "whether the run ended before the rank had fallen",
    "lag": "(compress_step - grok_step) / grok_step",
    "lag_least": "least lag that the grid of checkpoints allows",
    "lag_most": "most lag that the grid of checkpoints allows",
    "fall_share": "share of the fall that is done when the run groks",
    "excess": "effective rank when the run groks / floor",
}


def timing(data: "xr.DataTree", by_layer: bool = False, memorised: float = 0.01, grokked: float = 0.05) -> "xr.Dataset":
    """When each run memorises, groks and loses rank, and the lags between these (CLAIMS 5.11, arXiv 2607.06639).

    `data` is a cube with the variables `err` and `effective_rank`. Times are steps of checkpoints: an event is after
    `*_after` and at or before `*_step`; NaN if it does not happen (`*_censored` is 1) or this is unknown (`*_censored`
    is NaN). Along `run`: `mem_step`, the first training error below `memorised`; `fall`, `floor` and `plateau` of the
    rank. Along `run` and `definition`:

    * `half`: a run groks when its validation error is below .5, and its rank has fallen when half of the fall from the
      first to the last checkpoint is done;
    * `settled`: it groks when that error is below `grokked`, and its rank has fallen when it is at or below 1.05 of the
      floor, the mean over the last tenth of the steps; censored without a plateau.

    `lag` is relative to the step of grokking, negative if the rank falls first. The rank is the mean over layers that
    never collapse in the run; with `by_layer`, of each layer, also along `layer`. ValueError if a variable is missing.
    """
    import xarray as xr

    for name, value in (("memorised", memorised), ("grokked", grokked)):
        require(0 < value <= 1, name, value, "an error above 0 and at most 1")
    error, ranks = measured(data, METRICS_GROUP, "err"), measured(data, "layers", "effective_rank")
    layers = data["layers"].to_dataset()
    if "collapse" in layers:
        ranks = ranks.where(~(layers["collapse"].load() == COLLAPSED).any("step"))
    ranks = ranks.transpose("layer", "run", "step") if by_layer else ranks.mean("layer").expand_dims("layer")
    train, val = (error.sel(split=split).transpose("run", "step").values for split in ("train", "val"))
    shape = (error.sizes["run"], ranks.sizes["layer"])
    found = {name: np.full(shape, np.nan) for name in OF_RUN}
    found |= {name: np.full((*shape, len(DEFINITIONS)), np.nan) for name in OF_DEFINITION}
    values = ranks.transpose("run", "layer", "step").values
    of_runs = own_steps(error, train, val, values.max(axis=1))
    for run, layer in np.ndindex(shape):
        own = of_runs[run]
        series = np.stack([of[own] for of in (train[run], val[run], values[run, layer])])
        of_run = _of_run(error["step"].values[own], series, memorised, grokked)
        for name in found:
            found[name][run, layer] = of_run[name]
    along = {name: of for name, of in error.coords.items() if of.dims == ("run",)}
    if by_layer:
        along["layer"] = ranks["layer"]
    dims: tuple[str, ...] = ("run", "layer") if by_layer else ("run",)
    held = {name: array if by_layer else array[:, 0] for name, array in found.items()}
    said = OF_RUN | OF_DEFINITION
    variables = {
        name: ((*dims, "definition") if name in OF_DEFINITION else dims, array, {"long_name": said[name]})
        for name, array in held.items()
    }
    thresholds = {"memorised": memorised, "grokked": grokked}
    return xr.Dataset(variables, {**along, "definition": list(DEFINITIONS)}, thresholds)


def _of_run(
    steps: np.ndarray, series: np.ndarray, memorised: float, grokked: float
) -> Mapping[str, float | list[float]]:
    """Every variable of a run, from its training error, validation error and rank at its steps."""
    train, val, ranks = series
    mem, of_rank = first_below(steps, train, memorised), compression(steps, ranks)
    rows = []
    for level, fallen in ((0.5, of_rank.half), (grokked, of_rank.settled)):
        groks = first_below(steps, val, level)
        then = at_step(steps, ranks, groks.step)
        falls = of_rank.fall > 0
        rows.append(
            (
                *groks,
                *fallen,
                *relative_lag(fallen, groks),
                (ranks[0] - then) / of_rank.fall if falls else np.nan,
                then / of_rank.floor,
            )
        )
    of_run = dict(zip(OF_RUN, (*mem, of_rank.fall, of_rank.floor, of_rank.plateau), strict=True))
    return {**of_run, **{name: list(of) for name, of in zip(OF_DEFINITION, zip(*rows, strict=True), strict=True)}}


def own_steps(error: "xr.DataArray", *series: np.ndarray) -> list[np.ndarray]:
    """Which steps (T,) belong to each run: a cube has the steps of all runs, and a finished run lacks some.

    `series` (runs, T) are measured values; for an unfinished run every step counts.
    """
    whole = error["status"].values == "done" if "status" in error.coords else np.zeros(error.sizes["run"], dtype=bool)
    missing = np.all([np.isnan(of) for of in series], axis=0)
    return [~missing[run] if whole[run] else np.ones(missing.shape[1], dtype=bool) for run in range(len(missing))]


def measured(data: "xr.DataTree", group: str, name: str) -> "xr.DataArray":
    """A variable of a group of a cube; ValueError if it is missing."""
    import xarray as xr

    node = data.children.get(group) if isinstance(data, xr.DataTree) else None
    if node is None or name not in node.data_vars or "run" not in node[name].dims:
        raise ValueError(f"no {name} in these results: expected a whole cube, with that variable in its group {group}")
    return node.to_dataset()[name].load()
