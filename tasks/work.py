"""What a unit of work did, by the counts that decide its cost."""

from typing import NamedTuple


class Work(NamedTuple):
    """Zeros where the store had the result already."""

    evaluations: int = 0
    """Of a split."""
    decompositions: int = 0
    trainings: int = 0
