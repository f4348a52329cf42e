"""The arms of claims that compare a network trained on true labels with one trained on random ones."""

from specdyn.tasks.evidence.cases import Arm, Case, OneRun, paired
from specdyn.tasks.evidence.claim import NotRun
from specdyn.tasks.evidence.measures import error_name, last

LEARNED = 0.01
"""Training error below which a network has memorised its set."""


def arms_by_labels(case: Case) -> tuple[Arm, Arm, tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
    """Runs on true and on random labels by seed, seeds for which both learned their set, missing runs, and notes."""
    true, lost = case.arm(lambda settings: settings.get("labels") == "true" and settings["weight_decay"] == 0)
    random, also = case.arm(lambda settings: settings.get("labels") == "random" and settings["weight_decay"] == 0)
    for name, arm in (("true", true), ("random", random)):
        if not arm:
            raise NotRun(f"no finished run with labels={name} and weight_decay 0")
    both = paired(true, random)
    learned = tuple(s for s in both if _learned(true[s]) and _learned(random[s]))
    if not learned:
        raise NotRun(
            f"in none of {len(both)} seeds do both networks learn their training set (error below {LEARNED:g})"
        )
    notes = (f"{len(both) - len(learned)} of {len(both)} seeds left out: training error not below {LEARNED:g}",)
    return true, random, learned, (*lost, *also), notes if len(both) > len(learned) else ()


def _learned(run: OneRun) -> bool:
    return last(run, error_name(run), "train") < LEARNED
