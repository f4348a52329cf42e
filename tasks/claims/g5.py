"""G5: of two solutions that generalise, the one from much data has the larger norm (CLAIMS 2.1)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun, paired
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.fractions import arms_by_fraction
from specdyn.tasks.evidence.measures import layers_of, mean_of, mean_rank, run_ids


def measure(case: Case) -> Mapping[str, Measured]:
    """Ratios of norms of the data-rich to the grokked solution, and of both ranks to little data without decay."""
    much, grokked, lost = arms_by_fraction(case, 0, 1)
    _, little, also = arms_by_fraction(case, 0, 0)
    seeds = paired(much, grokked, little)
    least = [mean_rank(little[s])[1][-1] for s in seeds]
    ratios = {
        "rank ratio on much data": [mean_rank(much[s])[1][-1] / rank for s, rank in zip(seeds, least, strict=True)],
        "rank ratio when grokked": [mean_rank(grokked[s])[1][-1] / rank for s, rank in zip(seeds, least, strict=True)],
        "norm ratio": [_ratio(much[s], grokked[s], "frobenius_norm") for s in seeds],
        "spectral norm ratio": [_ratio(much[s], grokked[s], "spectral_norm") for s in seeds],
    }
    measured = Measured(
        seeds=seeds,
        values={name: np.array(values) for name, values in ratios.items()},
        runs=run_ids(*({s: arm[s] for s in seeds} for arm in (much, grokked, little))),
        layers=tuple(layers_of(much[seeds[0]])),
        null=1.0,
        lost=(*lost, *also),
    )
    return {"rule": measured}


def _ratio(one: OneRun, other: OneRun, name: str) -> float:
    """Geometric mean over layers at the end."""
    return float(np.exp(mean_of(np.log(one.final(name) / other.final(name)))))


CLAIM = Claim(
    name="g5",
    version=1,
    statement="The solution that much data give has a much larger norm than the grokked one; both are of low rank.",
    source="paper, figure 2",
    experiments=("modular_addition",),
    varies=("weight_decay", "train_fraction"),
    null="a ratio of 1: equal norms",
    rules={
        "rule": Rule(
            statistic="ratio of Frobenius norms at the end, 90 % of the table without weight decay to 30 % with weight "
            "decay 1, geometric mean over layers; ratio of each mean effective rank to that of 30 % without",
            passes=(
                Condition("norm ratio", "low ratio", ">", 1.0),
                Condition("rank ratio on much data", "every", "<", 1.0),
                Condition("rank ratio when grokked", "every", "<", 1.0),
            ),
            fails=(Condition("norm ratio", "high ratio", "<", 1.0),),
            effect=("norm ratio", "low ratio"),
            test=Condition("norm ratio", "low ratio", ">", 1.0),
        )
    },
    measure=measure,
    needs={"M": ("grokking-m", "data-rich-m"), "L": ("grokking-m", "data-rich-m")},
)
