"""G4: more data replaces weight decay: the network generalises without it, at a lower rank (CLAIMS 2.1)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun, paired
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.fractions import arms_by_fraction
from specdyn.tasks.evidence.measures import error_name, last, layers_of, mean_rank, run_ids


def measure(case: Case) -> Mapping[str, Measured]:
    """The error at the end on much data, and the ratio of ranks on much and on little data at the last common step."""
    much, little, lost = arms_by_fraction(case, 0, 0)
    seeds = paired(much, little)
    measured = Measured(
        seeds=seeds,
        values={
            "final error on much data": np.array([last(much[s], error_name(much[s])) for s in seeds]),
            "rank ratio": np.array([_ratio(much[s], little[s]) for s in seeds]),
        },
        runs=run_ids({s: much[s] for s in seeds}, {s: little[s] for s in seeds}),
        layers=tuple(layers_of(much[seeds[0]])),
        null=1.0,
        lost=lost,
    )
    return {"rule": measured}


def _ratio(one: OneRun, other: OneRun) -> float:
    (steps, ranks), (others, less) = mean_rank(one), mean_rank(other)
    step = max(set(steps) & set(others))
    return float(ranks[steps.index(step)] / less[others.index(step)])


CLAIM = Claim(
    name="g4",
    version=1,
    statement="On 90 % of the table the network generalises without weight decay, at a lower rank than on 30 %.",
    source="paper, figure 2",
    experiments=("modular_addition",),
    varies=("weight_decay", "train_fraction"),
    null="a ratio of 1: the same rank on much and on little data",
    rules={
        "rule": Rule(
            statistic="validation error at the end on 80 % of the table or more without weight decay; ratio of mean "
            "effective ranks to those on half or less, at the last common step",
            passes=(
                Condition("final error on much data", "every", "<", 0.05),
                Condition("rank ratio", "high ratio", "<", 1.0),
            ),
            fails=(
                Condition("final error on much data", "median", ">", 0.5),
                Condition("rank ratio", "low ratio", ">", 1.0),
            ),
            effect=("rank ratio", "low ratio"),
            test=Condition("rank ratio", "low ratio", "<", 1.0),
        )
    },
    measure=measure,
    needs={"M": ("grokking-m", "data-rich-m"), "L": ("grokking-m", "data-rich-m")},
)
