"""G7: alignment in the leading ranks is stronger where the network generalises (CLAIMS 2.1)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Arm, Case, OneRun, paired
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.fractions import arms_by_fraction
from specdyn.tasks.evidence.measures import run_ids, scores_beside_chance


def measure(case: Case) -> Mapping[str, Measured]:
    """Ratios of the final alignment score of networks that generalise to that of one that does not."""
    much, little, lost = arms_by_fraction(case, 0, 0)
    _, grokked, also = arms_by_fraction(case, 0, 1)
    seeds = paired(much, little, grokked)
    ratios = {
        name: np.array([_mean(arm[s]) / _mean(little[s]) for s in seeds])
        for name, arm in (("ratio on much data", much), ("ratio when grokked", grokked))
    }
    arms: tuple[Arm, ...] = tuple({s: arm[s] for s in seeds} for arm in (much, little, grokked))
    pairs, _, _ = scores_beside_chance(much[seeds[0]])
    return {
        "rule": Measured(
            seeds=seeds, values=ratios, runs=run_ids(*arms), layers=tuple(pairs), null=1.0, lost=(*lost, *also)
        )
    }


def _mean(run: OneRun) -> float:
    """Final alignment score / its chance level, geometric mean over pairs."""
    _, scores, null = scores_beside_chance(run)
    return float(np.exp(np.log(scores[:, -1] / null).mean()))


CLAIM = Claim(
    name="g7",
    version=1,
    statement="Leading singular vectors of neighbouring layers are aligned more where the network generalises.",
    source="paper, figure 2",
    experiments=("modular_addition",),
    varies=("weight_decay", "train_fraction"),
    null="a ratio of 1; each score is taken beside its level by chance",
    rules={
        "rule": Rule(
            statistic="ratio of the final alignment score (ten ranks, geometric mean over pairs) to that of 30 % of "
            "the table without weight decay",
            passes=(
                Condition("ratio on much data", "low ratio", ">", 1.0),
                Condition("ratio when grokked", "low ratio", ">", 1.0),
            ),
            fails=(
                Condition("ratio on much data", "high ratio", "<", 1.0),
                Condition("ratio when grokked", "high ratio", "<", 1.0),
            ),
            effect=("ratio when grokked", "low ratio"),
            test=Condition("ratio when grokked", "low ratio", ">", 1.0),
        )
    },
    measure=measure,
    needs={"M": ("grokking-m", "data-rich-m"), "L": ("grokking-m", "data-rich-m")},
)
