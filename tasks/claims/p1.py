"""P1: with the top half of the singular values the network works as before, with the bottom half it does not."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import baseline, last, layers_of, mean_of

HALF = 0.5


def measure(case: Case) -> Mapping[str, Measured]:
    """(L_kept - L) / (L_bottom - L) of the validation loss at the end, for the top half and for its controls."""
    arm, lost, _ = baseline(case)
    seeds = tuple(sorted(arm))
    common: dict[str, Any] = {
        "seeds": seeds,
        "runs": tuple(arm[s].run_id for s in seeds),
        "layers": tuple(layers_of(arm[seeds[0]])),
        "lost": lost,
        "null": 1.0,
    }
    top = np.array([_gap(arm[s], _pruned(arm[s], "top")) for s in seeds])
    found = {"without controls": Measured(values={"gap of the top half": top}, **common)}
    try:
        random, matched = (
            np.array([_gap(arm[s], _control(arm[s], way)) for s in seeds]) for way in ("random", "energy_matched")
        )
    except NotRun:
        return found
    values = {
        "gap of the top half": top,
        "gap of the top half / of a random half": np.where(random > 0, top / random, np.inf),
        "gap of the top half - of as much energy": top - matched,
    }
    return {**found, "with controls": Measured(values=values, **{**common, "null": float(mean_of(random))})}


def _pruned(run: OneRun, kept: str) -> float:
    return float(run.final("pruned_loss", kept=kept, split="val"))


def _control(run: OneRun, way: str) -> float:
    if run.has("control_loss"):
        return float(run.final("control_loss", control=way, split="val"))
    return float(run.final("curve_loss", way=way, share=HALF, split="val"))


def _gap(run: OneRun, loss: float) -> float:
    """The gap; NaN if the bottom half is no worse than the whole, which leaves no scale."""
    whole, bottom = last(run, "loss"), _pruned(run, "bottom")
    return (loss - whole) / (bottom - whole) if bottom > whole else float("nan")


PLAIN = "(L_top - L) / (L_bottom - L), validation loss at the end, halves of every layer but the last, no retraining"

CLAIM = Claim(
    name="p1",
    version=1,
    statement="The top half of the singular values carries what the network has learned, the bottom half does not.",
    source="paper, figure 4",
    varies=("weight_decay",),
    null="the same gap of a random half, and of random values scaled to the energy of the top half",
    rules={
        "with controls": Rule(
            statistic=f"{PLAIN}; the same of a random half, and of random values of as much energy",
            passes=(
                Condition("gap of the top half", "high", "<", 0.2),
                Condition("gap of the top half / of a random half", "every", "<", 0.5),
                Condition("gap of the top half - of as much energy", "every", "<", 0.0),
            ),
            fails=(Condition("gap of the top half", "low", ">", 0.5),),
            effect=("gap of the top half", "low"),
            test=Condition("gap of the top half", "mean", "<", 1.0),
        ),
        "without controls": Rule(
            statistic=PLAIN,
            passes=(Condition("gap of the top half", "every", "<", 0.2),),
            fails=(Condition("gap of the top half", "low", ">", 0.5),),
            effect=("gap of the top half", "low"),
        ),
    },
    measure=measure,
    needs={"S": ("samples-s", "grokking-s"), "M": ("networks-m", "grokking-m"), "L": ("networks-l", "grokking-m")},
)
