"""A2: during training there is only weak alignment, in the leading ranks (CLAIMS 2.2)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.measures import baseline, scores_beside_chance

STRONG = 0.5
"""Score above which alignment is strong; 1 if all ten directions agree."""


def measure(case: Case) -> Mapping[str, Measured]:
    """The largest alignment score over the steps, median over pairs, and the same / chance; by pair where strong."""
    arm, lost, _ = baseline(case)
    seeds = tuple(sorted(arm))
    found = {s: scores_beside_chance(arm[s]) for s in seeds}
    pairs = found[seeds[0]][0]
    largest = np.array([scores.max(axis=1) for _, scores, _ in found.values()])
    ratios = np.array([scores.max(axis=1) / null for _, scores, null in found.values()])
    first = np.array([np.median(scores[:, 0] / null) for _, scores, null in found.values()])
    measured = Measured(
        seeds=seeds,
        values={
            "largest score": np.median(largest, axis=1),
            "largest score / chance": np.median(ratios, axis=1),
            "largest / first score": np.median(ratios, axis=1) / first,
        },
        runs=tuple(arm[s].run_id for s in seeds),
        layers=tuple(pairs),
        null=1.0,
        exceptions=tuple(
            f"{pair}: {score:.2f}" for pair, score in zip(pairs, largest.mean(axis=0), strict=True) if score > STRONG
        ),
        lost=lost,
    )
    return {"rule": measured}


CLAIM = Claim(
    name="a2",
    version=1,
    statement="Training brings only a weak alignment of neighbouring layers, and it changes while they are trained.",
    source="paper, figure 5",
    varies=("weight_decay",),
    null="a ratio of 1: the level by chance",
    rules={
        "rule": Rule(
            statistic="largest alignment score (ten ranks) over all steps, median over pairs; the same / chance, and / "
            "that of step 0",
            passes=(
                Condition("largest score", "high", "<", STRONG),
                Condition("largest score / chance", "low ratio", ">", 1.2),
                Condition("largest / first score", "low ratio", ">", 1.2),
            ),
            fails=(
                Condition("largest score", "low", ">", STRONG),
                Condition("largest score / chance", "high ratio", "<", 1.2),
            ),
            effect=("largest score / chance", "low ratio"),
        )
    },
    measure=measure,
    needs={"S": ("samples-s", "grokking-s"), "M": ("networks-m", "grokking-m"), "L": ("networks-l", "grokking-m")},
)
