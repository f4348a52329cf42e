"""The arms of claims that compare much data with little data."""

from specdyn.tasks.evidence.cases import Arm, Case
from specdyn.tasks.evidence.claim import NotRun

MUCH, LITTLE = 0.8, 0.5
"""Least share of the table that counts as much data, and largest that counts as little."""


def arms_by_fraction(case: Case, decay_of_much: float, decay_of_little: float) -> tuple[Arm, Arm, tuple[str, ...]]:
    """The runs on much and on little data with these weight decays, by seed, and the missing runs."""
    much, lost = case.arm(
        lambda settings: settings["train_fraction"] >= MUCH and settings["weight_decay"] == decay_of_much
    )
    little, also = case.arm(
        lambda settings: settings["train_fraction"] <= LITTLE and settings["weight_decay"] == decay_of_little
    )
    for name, arm, decay in ((f">= {MUCH}", much, decay_of_much), (f"<= {LITTLE}", little, decay_of_little)):
        if not arm:
            raise NotRun(f"no finished run with train_fraction {name} and weight_decay {decay:g}")
    return much, little, (*lost, *also)
