"""When the rank of a run's weights falls, by two definitions, and whether it has settled (arXiv 2607.06639).

Shapes: T checkpoints.
"""

import math
from typing import NamedTuple

import numpy as np

from specdyn.tasks.timing.crossings import NEVER, UNKNOWN, Crossing, first_where

LEAST_FALL = 0.005
"""A smaller fall of a rank between 0 and 1 is none."""
WITHIN = 0.05
"""Share of the floor by which a rank that has reached it may differ from it."""
TAIL = 0.1
"""Share of the steps, at the end of the run, that the floor is the mean of."""
FEWEST = 3
"""Checkpoints in that share below which nothing says whether it is flat."""


class Compression(NamedTuple):
    """How a rank (T,) falls from the first to the last checkpoint."""

    fall: float
    """First value less the last."""
    floor: float
    """Mean over the last tenth of the steps."""
    plateau: float
    """1 where the run has settled: values in its last tenth span at most 5 % of the floor, and the least value of the
    whole run lies within 5 % of the floor; 0 where not; NaN where that tenth has fewer than 3 checkpoints."""
    half: Crossing
    """First checkpoint that has made half of the fall; censored where the rank falls by less than .005."""
    settled: Crossing
    """First checkpoint at or below 1.05 of the floor; censored where the run has no plateau."""


def compression(steps: np.ndarray, ranks: np.ndarray) -> Compression:
    """The two times of a rank at ascending steps; all is unknown where a checkpoint was not measured.

    `half` needs no plateau, but what falls after the last step is not counted; `settled` does.
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
    """The value at a step of the run, NaN where there is no such step."""
    return float(values[steps == step][0]) if (steps == step).any() else math.nan
