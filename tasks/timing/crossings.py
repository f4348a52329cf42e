"""When a series of checkpoints first satisfies a condition, known up to the grid of its checkpoints."""

import math
from typing import NamedTuple

import numpy as np


class Crossing(NamedTuple):
    """The event lies after the step `after` and up to `step`; NaN where that is not known."""

    step: float
    """First checkpoint where the condition holds; NaN where it never does or that is not known."""
    after: float
    """The checkpoint before it; NaN where `step` is the first one of the run."""
    censored: float
    """0 where it happens, 1 where every checkpoint was measured and it never does, NaN where that is not known."""


UNKNOWN = Crossing(math.nan, math.nan, math.nan)
NEVER = Crossing(math.nan, math.nan, 1.0)


def first_where(steps: np.ndarray, holds: np.ndarray, known: np.ndarray) -> Crossing:
    """The first of the steps (T,), ascending, where `holds` (T,) is true.

    `known` (T,) is false where a checkpoint was not measured: it may have been the first, so nothing after it counts.
    """
    measured = int(np.argmin(np.append(known, False)))
    if not holds[:measured].any():
        return NEVER if measured == len(steps) else UNKNOWN
    at = int(np.argmax(holds))
    return Crossing(float(steps[at]), float(steps[at - 1]) if at else math.nan, 0.0)


def first_below(steps: np.ndarray, values: np.ndarray, level: float) -> Crossing:
    """The first step whose value (T,) lies below the level; a value of NaN was not measured."""
    return first_where(steps, values < level, ~np.isnan(values))


def relative_lag(event: Crossing, reference: Crossing) -> tuple[float, float, float]:
    """(event - reference) / reference: of the checkpoints, then the least and the most that their grid allows.

    NaN where one of them is not known; the most is infinite where the reference may lie at step 0.
    """
    if math.isnan(event.step) or not reference.step > 0:
        return math.nan, math.nan, math.nan
    most = event.step / reference.after - 1 if reference.after else math.inf
    return event.step / reference.step - 1, event.after / reference.step - 1, most
