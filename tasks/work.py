"""Work: what a unit did, in the counts that determine its cost."""

from typing import NamedTuple


class Work(NamedTuple):
    """Counts; all zero if the store had the result already."""

    evaluations: int = 0
    """Evaluations of a split."""
    decompositions: int = 0
    trainings: int = 0
