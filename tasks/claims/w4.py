"""W4: with large weight decay the layers of a transformer's MLP are strongly aligned (CLAIMS 2.3)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import before_collapse, scores_beside_chance, seeds_of

ACROSS = (".linear1.", ".linear2.")
"""The layers that write and read on both sides of the nonlinearity."""


def measure(case: Case) -> Mapping[str, Measured]:
    """The final alignment score / chance across the nonlinearity and elsewhere, at the largest weight decay."""
    levels = case.levels("weight_decay")
    kept = [levels[i] for i in before_collapse(case, "weight_decay", seeds_of(case))]
    if len(kept) < 2:
        raise NotRun("no second weight decay without collapse")
    arm, lost = case.arm(lambda settings: settings["weight_decay"] == kept[-1])
    seeds = tuple(sorted(arm))
    found = {s: scores_beside_chance(arm[s]) for s in seeds}
    pairs = found[seeds[0]][0]
    across = np.array([all(part in pair for part in ACROSS) for pair in pairs])
    if not across.any() or across.all():
        raise NotRun("no pair of an MLP's two layers beside others: expected a transformer")
    ratios = np.array([scores[:, -1] / null for _, scores, null in found.values()])
    measured = Measured(
        seeds=seeds,
        values={
            "score / chance across": np.median(ratios[:, across], axis=1),
            "score / chance elsewhere": np.median(ratios[:, ~across], axis=1),
        },
        runs=tuple(arm[s].run_id for s in seeds),
        layers=tuple(pair for pair, is_across in zip(pairs, across, strict=True) if is_across),
        null=1.0,
        exceptions=tuple(
            f"{pair}: {ratio:.1f} x chance"
            for pair, ratio, is_across in zip(pairs, ratios.mean(axis=0), across, strict=True)
            if (ratio > 5) != is_across
        ),
        lost=lost,
        notes=(f"weight decay {kept[-1]:g}",),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="w4",
    version=1,
    statement="With large weight decay leading vectors are strongly aligned across the MLP of a transformer only.",
    source="paper, figure 7",
    experiments=("language_modelling", "modular_addition"),
    varies=("weight_decay",),
    null="a ratio of 1: the level by chance",
    rules={
        "rule": Rule(
            statistic="alignment score (ten ranks) at the end / chance, median over the pairs linear1 -> linear2 and "
            "over all others, at the largest weight decay without collapse",
            passes=(
                Condition("score / chance across", "every", ">", 5.0),
                Condition("score / chance elsewhere", "every", "<", 5.0),
            ),
            fails=(Condition("score / chance across", "high ratio", "<", 2.0),),
            effect=("score / chance across", "low ratio"),
            test=Condition("score / chance across", "low ratio", ">", 1.0),
        )
    },
    measure=measure,
    needs={"S": ("samples-s",), "M": ("networks-m",), "L": ("networks-l",)},
)
