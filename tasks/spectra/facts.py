"""Facts of a whole run that follow from its measured values, stored in the cube when it is gathered.

They are those that a sweep's table shows, so that a query needs no definition of its own.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from specdyn.storage.members import RunGroup
from specdyn.storage.schema import COUNT, METRICS_GROUP, Variable

GROKKED_BELOW = 0.05
"""Validation error below which a run counts as having generalised (CLAIMS G1)."""
COLLAPSED = 2
"""Value of the variable `collapse` where a layer's largest singular value is below 1e-6."""

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
"""By name; one with `{metric}` stands for one variable for each metric of the network as it was saved."""


def facts_of(run: Mapping[str, RunGroup]) -> dict[str, tuple[Variable, Any]]:
    """What follows from the variables that a run has, by their group; NaN where these were not measured."""
    facts: dict[str, tuple[Variable, Any]] = {}
    if metrics := run.get(METRICS_GROUP):
        for name, variable in metrics.variables.items():
            # Metrics of the network as it was saved: those of changed weights have further dimensions.
            if set(variable.dims) != {"split", "step"}:
                continue
            values, form = metrics.labelled(name), FACTS["final_{metric}"]
            long_name = form.long_name.format(metric=variable.attributes["long_name"])
            declared = replace(form, long_name=long_name, units=variable.attributes["units"])
            facts[f"final_{name}"] = declared, values.isel(step=-1).transpose("split").values
            if name == "err" and "val" in values["split"].values:
                when = grokking(values.sel(split="val"))
                facts |= {fact: (FACTS[fact], value) for fact, value in when.items()}
    if layers := run.get("layers"):
        if "effective_rank" in layers.variables:
            ranks = layers.labelled("effective_rank").mean("layer")
            for name, step in (("initial_effective_rank", 0), ("final_effective_rank", -1)):
                facts[name] = FACTS[name], ranks.isel(step=step)
        if "collapse" in layers.variables:
            last = layers.labelled("collapse").isel(step=-1).values
            collapsed = float((last == COLLAPSED).sum()) if last.any() else np.nan
            facts["final_collapsed_layers"] = FACTS["final_collapsed_layers"], collapsed
    return facts


def grokking(error: xr.DataArray) -> dict[str, float]:
    """When a validation error (step,) first lies below the threshold, and whether it never does; NaN where unknown.

    A checkpoint that was not measured may have been the first: what comes after it tells nothing.
    """
    values = error.values
    below = values < GROKKED_BELOW
    known = int(np.argmax(np.append(np.isnan(values), True)))
    if below[:known].any():
        return {"grok_step": float(error["step"].values[np.argmax(below)]), "grok_censored": 0.0}
    return {"grok_step": np.nan, "grok_censored": 1.0 if known == len(values) else np.nan}
