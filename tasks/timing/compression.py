"""When the rank of a run's weights falls, by two definitions, and whether it settles (arXiv 2607.06639).

Shapes: T checkpoints.
"""

import math
from typing import NamedTuple

import numpy as np

from specdyn.tasks.timing.crossings import NEVER, UNKNOWN, Crossing, first_where

LEAST_FALL = 0.005
"""A smaller fall of a rank between 0 and 1 does not count."""
WITHIN = 0.05
"""Tolerance for having reached the floor, as a share of it."""
TAIL = 0.1
"""Final share of the steps over which the floor is averaged."""
FEWEST = 3
"""Fewest checkpoints in that share to decide whether it is flat."""


class Compression(NamedTuple):
    """How a rank (T,) falls from the first to the last checkpoint."""

    fall: float
    """First value minus the last."""
    floor: float
    """Mean over the last tenth of the steps."""
    plateau: float
    """1 if the run has settled: values in its last tenth span at most 5 % of the floor, and the minimum of the whole
    run is within 5 % of the floor; 0 if not; NaN if that tenth has fewer than 3 checkpoints."""
    half: Crossing
    """First checkpoint after half of the fall; censored if the rank falls by less than .005."""
    settled: Crossing
    """First checkpoint at or below 1.05 of the floor; censored if the run has no plateau."""


def compression(steps: np.ndarray, ranks: np.ndarray) -> Compression:
    """The two times of a rank at ascending steps; everything is unknown if a checkpoint was not measured.

    `half` needs no plateau, but ignores any fall after the last step; `settled` needs one.
    """
    known = ~np.isnan(ranks)
    if not len(ranks) or not known.all():
        return Compression(math.nan, math.nan, math.nan, UNKNOWN, UNKNOWN)
    fall = float(ranks[0] - ranks[-1])
    tail = ranks[steps >= steps[-1] - TAIL * (steps[-1] - steps[0])]
    floor = float(tail.mean())
    flat = np.ptp(tail) <= WITHIN * floor and ranks.min() >= (1 - WITHIN) * floor
    plateau = float(flat) if len(tail) >= FEWEST else math.nan
    half = settled = NEVER
    if fall >= LEAST_FALL:
        half = first_where(steps, ranks <= ranks[-1] + fall / 2, known)
    if math.isnan(plateau):
        settled = UNKNOWN
    elif plateau and fall >= LEAST_FALL:
        settled = first_where(steps, ranks <= (1 + WITHIN) * floor, known)
    return Compression(fall, floor, plateau, half, settled)


def at_step(steps: np.ndarray, values: np.ndarray, step: float) -> float:
    """The value at a step of the run, NaN if there is no such step."""
    return float(values[steps == step][0]) if (steps == step).any() else math.nan
