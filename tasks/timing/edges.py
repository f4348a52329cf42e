"""Whether and by how many steps the spectral edge of updates precedes grokking (arXiv 2603.15678)."""

import math
from typing import TYPE_CHECKING

import numpy as np

from specdyn.models.spec.checks import require, require_known
from specdyn.storage.schema import METRICS_GROUP
from specdyn.tasks.timing.crossings import Crossing, first_below, first_where
from specdyn.tasks.timing.runs import measured, own_steps

if TYPE_CHECKING:
    import xarray as xr

RATIO = "network_window_edge_ratio"
EVENTS = ("peak", "fall")
SAID = {
    "edge_step": "step at which the spectral edge has its peak, or has fallen",
    "edge_censored": "whether the run ended before the spectral edge had fallen",
    "lead": "steps from that of the spectral edge to grokking",
    "before": "whether the spectral edge comes before grokking",
    "grok_step": "step at which the run groks",
    "grok_censored": "whether the run ended before it grokked",
    "chance": "share of the windows that end before the run groks",
}


def edge_events(steps: np.ndarray, ratios: np.ndarray) -> tuple[Crossing, Crossing]:
    """The step of the largest ratio (T,), and the first step after it at which half of the rise above 1 is lost.

    Checkpoints without a window are NaN. Both are censored if no checkpoint has one.
    """
    there = ~np.isnan(ratios)
    steps, ratios = steps[there], ratios[there]
    if not len(ratios):
        return Crossing(math.nan, math.nan, math.nan), Crossing(math.nan, math.nan, math.nan)
    top = int(ratios.argmax())
    peak = Crossing(float(steps[top]), float(steps[top - 1]) if top else math.nan, 0.0)
    after = np.arange(len(ratios)) > top
    fallen = after & (ratios - 1 <= (ratios[top] - 1) / 2)
    return peak, first_where(steps, fallen, np.ones(len(steps), dtype=bool))


def edge_lead(data: "xr.DataTree", portion: str = "total", grokked: float = 0.05) -> "xr.Dataset":
    """By how many steps the peak and the fall of each run's spectral edge precede grokking (CLAIMS 5.11).

    `data` is a cube with `err` and with `network_window_edge_ratio`, which the analysis `update_windows` measures;
    `portion` is `total`, `gradient` or `decay`. Along `run` and `event` (`peak`: the largest ratio s_k / s_{k+1} of the
    run; `fall`: half of its rise above 1 is lost after that): `edge_step`, `edge_censored`, `lead` in steps, which is
    grok_step - edge_step, and `before`, 1 if that is positive; NaN if one of the two does not happen. `chance` is the
    share of windows that end before the run groks, that is, how often a random step would precede it. The peak is
    known only once the run has ended. ValueError if a variable is missing.
    """
    import xarray as xr

    require(0 < grokked <= 1, "grokked", grokked, "an error above 0 and at most 1")
    error, ratios = measured(data, METRICS_GROUP, "err"), measured(data, METRICS_GROUP, RATIO)
    require_known("portion", portion, map(str, ratios["portion"].values))
    errors = error.sel(split="val").transpose("run", "step").values
    edges = ratios.sel(portion=portion).transpose("run", "step").values
    found = {name: np.full((len(errors), len(EVENTS)), np.nan) for name in ("edge_step", "edge_censored", "lead")}
    of_run = {name: np.full(len(errors), np.nan) for name in ("grok_step", "grok_censored", "chance")}
    for run, own in enumerate(own_steps(error, errors)):
        steps, edge = error["step"].values[own], edges[run, own]
        groks = first_below(steps, errors[run, own], grokked)
        of_run["grok_step"][run], of_run["grok_censored"][run] = groks.step, groks.censored
        windows = steps[~np.isnan(edge)]
        if len(windows) and groks.censored == 0:
            of_run["chance"][run] = float((windows < groks.step).mean())
        for i, event in enumerate(edge_events(steps, edge)):
            found["edge_step"][run, i], found["edge_censored"][run, i] = event.step, event.censored
            found["lead"][run, i] = groks.step - event.step
    found["before"] = np.where(np.isnan(found["lead"]), np.nan, found["lead"] > 0)
    variables = {name: (("run", "event"), array) for name, array in found.items()}
    variables |= {name: (("run",), array) for name, array in of_run.items()}  # type: ignore[misc]
    along = {name: of for name, of in error.coords.items() if of.dims == ("run",)}
    return xr.Dataset(
        {name: (dims, array, {"long_name": SAID[name]}) for name, (dims, array) in variables.items()},
        {**along, "event": list(EVENTS)},
        {"grokked": grokked, "portion": portion},
    )
