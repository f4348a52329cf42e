"""When a series of checkpoints first satisfies a condition, to the resolution of its checkpoints."""

import math
from typing import NamedTuple

import numpy as np


class Crossing(NamedTuple):
    """The event is after the step `after` and at or before `step`; NaN if unknown."""

    step: float
    """First checkpoint at which the condition holds; NaN if it never does or this is unknown."""
    after: float
    """The checkpoint before it; NaN if `step` is the first one of the run."""
    censored: float
    """0 if it happens, 1 if every checkpoint was measured and it never does, NaN if unknown."""


UNKNOWN = Crossing(math.nan, math.nan, math.nan)
NEVER = Crossing(math.nan, math.nan, 1.0)


def first_where(steps: np.ndarray, holds: np.ndarray, known: np.ndarray) -> Crossing:
    """The first of the ascending steps (T,) at which `holds` (T,) is true.

    `known` (T,) is false for an unmeasured checkpoint: it may have been the first, so nothing after it counts.
    """
    measured = int(np.argmin(np.append(known, False)))
    if not holds[:measured].any():
        return NEVER if measured == len(steps) else UNKNOWN
    at = int(np.argmax(holds))
    return Crossing(float(steps[at]), float(steps[at - 1]) if at else math.nan, 0.0)


def first_below(steps: np.ndarray, values: np.ndarray, level: float) -> Crossing:
    """The first step whose value (T,) is below the level; NaN means not measured."""
    return first_where(steps, values < level, ~np.isnan(values))


def relative_lag(event: Crossing, reference: Crossing) -> tuple[float, float, float]:
    """(event - reference) / reference: of the checkpoints, then the minimum and maximum consistent with their grid.

    NaN if one of them is unknown; the maximum is infinite if the reference may be at step 0.
    """
    if math.isnan(event.step) or not reference.step > 0:
        return math.nan, math.nan, math.nan
    most = event.step / reference.after - 1 if reference.after else math.inf
    return event.step / reference.step - 1, event.after / reference.step - 1, most
