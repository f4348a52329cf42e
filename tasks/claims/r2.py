"""R2: the largest singular values grow most (CLAIMS 2.2)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.measures import baseline, growth_by_rank, mean_of, middle_of
from specdyn.tasks.evidence.statistics import SEED, spearman

SHUFFLES = 19


def measure(case: Case) -> Mapping[str, Measured]:
    """For each matrix, the rank correlation of i with the growth of s_i, and the same with shuffled growth."""
    arm, lost, _ = baseline(case)
    seeds, draw = tuple(sorted(arm)), np.random.default_rng(SEED)
    growth = {seed: growth_by_rank(arm[seed]) for seed in seeds}
    layers = list(growth[seeds[0]])
    rho = np.array([[spearman(*growth[seed][layer]) for layer in layers] for seed in seeds])
    shuffled = [
        np.median([spearman(i, draw.permutation(grown)) for i, grown in growth[seed].values() for _ in range(SHUFFLES)])
        for seed in seeds
    ]
    middle = middle_of(rho, axis=0)
    measured = Measured(
        seeds=seeds,
        values={
            "correlation": middle_of(rho, axis=1),
            "share of matrices": mean_of(np.where(np.isfinite(rho), rho <= -0.5, np.nan), axis=1),
            "correlation when shuffled": np.abs(shuffled),
        },
        runs=tuple(arm[seed].run_id for seed in seeds),
        layers=tuple(layers),
        null=float(np.mean(shuffled)),
        exceptions=tuple(
            f"{layer}: {value:.2f}" for layer, value in zip(layers, middle, strict=True) if not value <= -0.5
        ),
        lost=lost,
    )
    return {"rule": measured}


CLAIM = Claim(
    name="r2",
    version=1,
    statement="The larger a singular value at its rank, the more it grows while the network is trained.",
    source="paper, figures 1 and 3",
    varies=("weight_decay",),
    null="a correlation of 0: growth in random order, within .2",
    rules={
        "rule": Rule(
            statistic="rank correlation of i with log s_i(T) / s_i(0) of each matrix",
            passes=(
                Condition("share of matrices", "every", ">=", 0.8),
                Condition("correlation when shuffled", "every", "<=", 0.2),
            ),
            fails=(Condition("correlation", "median", ">", -0.2),),
            effect=("correlation", "low rho"),
            test=Condition("correlation", "mean", "<", 0.0),
        )
    },
    measure=measure,
    needs={"S": ("samples-s", "grokking-s"), "M": ("networks-m", "grokking-m"), "L": ("networks-l", "grokking-m")},
)
