"""Facts of a whole run that follow from its measured values, stored in the cube when it is gathered.

They are those that a sweep's table shows, so that a query needs no definition of its own.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from specdyn.storage.rows import Facts
from specdyn.storage.schema import COUNT, Variable
from specdyn.tasks.timing.crossings import first_below

GROKKED_BELOW = 0.05
"""Validation error below which a run counts as having generalised (CLAIMS G1)."""
COLLAPSED = 2
"""Value of the variable `collapse` for a layer whose largest singular value is below 1e-6."""

FACTS: dict[str, Variable] = {
    "grok_step": Variable(
        dims=(),
        long_name="step at which the run groks",
        dtype=COUNT,
        about="first checkpoint with a validation error below the threshold; missing where there is none (see "
        "grok_censored) and where a checkpoint before was not measured; CLAIMS G1",
        constants={"threshold": GROKKED_BELOW, "threshold_of": "err", "threshold_split": "val"},
    ),
    "grok_censored": Variable(
        dims=(),
        long_name="whether the run ended before it grokked",
        dtype="int8",
        about="1 where every checkpoint was measured and none has a validation error below the threshold",
        constants={
            "flag_values": [0, 1],
            "flag_meanings": "grokked censored",
            "threshold": GROKKED_BELOW,
            "threshold_of": "err",
            "threshold_split": "val",
        },
    ),
    "final_{metric}": Variable(
        dims=("split",), long_name="{metric} at the last checkpoint", about="NaN where that was not measured"
    ),
    "initial_effective_rank": Variable(
        dims=(),
        long_name="effective rank / rank at the first checkpoint, mean over layers",
        about="mean of effective_rank over the layers that have a value",
    ),
    "final_effective_rank": Variable(
        dims=(),
        long_name="effective rank / rank at the last checkpoint, mean over layers",
        about="mean of effective_rank over the layers that have a value",
    ),
    "final_collapsed_layers": Variable(
        dims=(),
        long_name="layers collapsed at the last checkpoint",
        dtype=COUNT,
        about="layers with s_1 < 1e-6 there; each reads an effective rank of about 1",
    ),
}
"""Facts by name; a name with `{metric}` stands for one variable per metric of the unmodified network."""


def facts_declared(variables: Mapping[str, Variable]) -> dict[str, Variable]:
    """The facts of a run that has these variables."""
    found: dict[str, Variable] = {}
    form = FACTS["final_{metric}"]
    for name in _metrics(variables):
        long_name = form.long_name.format(metric=variables[name].long_name)
        found[f"final_{name}"] = replace(form, long_name=long_name, units=variables[name].units)
        if name == "err":
            found |= {fact: FACTS[fact] for fact in ("grok_step", "grok_censored")}
    if "effective_rank" in variables:
        found |= {fact: FACTS[fact] for fact in ("initial_effective_rank", "final_effective_rank")}
    if "collapse" in variables:
        found["final_collapsed_layers"] = FACTS["final_collapsed_layers"]
    return found


def facts_of(run: Mapping[Any, xr.DataArray]) -> dict[str, Any]:
    """The facts computed from a run's variables; NaN if these were not measured."""
    facts: dict[str, Any] = {}
    for name in _metrics(run):
        values = run[name]
        facts[f"final_{name}"] = values.isel(step=-1).transpose("split").values
        if name == "err":
            facts |= grokking(values.sel(split="val"))
    if "effective_rank" in run:
        ranks = run["effective_rank"].mean("layer")
        for name, step in (("initial_effective_rank", 0), ("final_effective_rank", -1)):
            facts[name] = ranks.isel(step=step)
    if "collapse" in run:
        last = run["collapse"].isel(step=-1).values
        facts["final_collapsed_layers"] = float((last == COLLAPSED).sum()) if last.any() else np.nan
    return facts


RUN_FACTS = Facts(declare=facts_declared, compute=facts_of)
"""The facts of a cube of runs."""


def _metrics(variables: Mapping[str, Variable] | Mapping[Any, xr.DataArray]) -> list[str]:
    """Metrics of the unmodified network; metrics of modified weights have further dimensions."""
    return [name for name, variable in variables.items() if set(variable.dims) == {"split", "step"}]


def grokking(error: xr.DataArray, threshold: float = GROKKED_BELOW) -> dict[str, float]:
    """When a validation error (step,) is first below the threshold, and whether it never is; NaN if unknown.

    An unmeasured checkpoint may have been the first, so later ones are not conclusive.
    """
    found = first_below(error["step"].values, error.values, threshold)
    return {"grok_step": found.step, "grok_censored": found.censored}
