"""The schedule of recorded steps."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from specdyn.models.spec.checks import require

USUAL = 100
"""Default interval between recorded steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Multiples of `every`, the steps in `at`, and `per_decade` steps in each power of ten; 0 means none."""

    every: int = 0
    at: frozenset[int] = frozenset()
    per_decade: int = 0

    def has(self, step: int) -> bool:
        """Whether the step is in the schedule."""
        return (self.every > 0 and step % self.every == 0) or step in self.at or self._in_decades(step)

    def _in_decades(self, step: int) -> bool:
        """Whether the step is 10^(i / per_decade), rounded, for a whole i."""
        if self.per_decade == 0 or step < 1:
            return False
        near = round(self.per_decade * math.log10(step))
        return any(round(10 ** (i / self.per_decade)) == step for i in (near - 1, near, near + 1))


def schedule(every: int | None, at: Iterable[int], per_decade: int) -> Schedule:
    """The schedule, by default every 100 steps; ValueError for invalid numbers of steps."""
    listed = frozenset(at)
    usual = USUAL if not listed and not per_decade else 0
    chosen = usual if every is None else every
    require(isinstance(chosen, int) and chosen >= 0, "every", every, "a whole number of steps from 0")
    require(isinstance(per_decade, int) and per_decade >= 0, "per_decade", per_decade, "a whole number from 0")
    require(all(isinstance(s, int) and s >= 0 for s in listed), "at", sorted(listed, key=str), "whole steps from 0")
    return Schedule(every=chosen, at=listed, per_decade=per_decade)
