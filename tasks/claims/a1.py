"""A1: at initialisation neighbouring layers are no more aligned than random ones (CLAIMS 2.2)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import baseline, scores_beside_chance

SPREAD = float(np.sqrt(np.pi / 2 - 1) / np.sqrt(10))
"""Standard deviation / mean of the mean of ten |Gaussian| values."""


def measure(case: Case) -> Mapping[str, Measured]:
    """The alignment score at step 0 / its chance level, mean over pairs; pairs beyond three deviations."""
    arm, lost, _ = baseline(case)
    seeds = tuple(sorted(arm))
    found = {s: scores_beside_chance(arm[s]) for s in seeds}
    if any(arm[s].values("alignment_score")["step"].values[0] != 0 for s in seeds):
        raise NotRun("there is no checkpoint at step 0")
    pairs = found[seeds[0]][0]
    ratios = np.array([scores[:, 0] / null for _, scores, null in found.values()])
    odd = np.abs(ratios.mean(axis=0) - 1) > 3 * SPREAD / np.sqrt(len(seeds))
    measured = Measured(
        seeds=seeds,
        values={"score / chance": ratios.mean(axis=1)},
        runs=tuple(arm[s].run_id for s in seeds),
        layers=tuple(pairs),
        null=1.0,
        exceptions=tuple(
            f"{pair}: {ratio:.2f} x chance"
            for pair, ratio, is_odd in zip(pairs, ratios.mean(axis=0), odd, strict=True)
            if is_odd
        ),
        lost=lost,
    )
    return {"rule": measured}


CLAIM = Claim(
    name="a1",
    version=1,
    statement="At initialisation layers are not balanced: they are aligned no more than random matrices are.",
    source="paper, section on alignment",
    varies=("weight_decay",),
    null="a ratio of 1: the level by chance, sqrt(2 / (pi d))",
    rules={
        "rule": Rule(
            statistic="alignment score (ten ranks) at step 0 / its level by chance, mean over pairs of layers",
            passes=(
                Condition("score / chance", "high", "<=", 1.25),
                Condition("score / chance", "low", ">=", 0.8),
            ),
            fails=(Condition("score / chance", "low", ">", 2.0),),
            effect=("score / chance", "low"),
        )
    },
    measure=measure,
    needs={"S": ("samples-s", "grokking-s"), "M": ("networks-m", "grokking-m"), "L": ("networks-l", "grokking-m")},
)
