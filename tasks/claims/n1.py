"""N1: whether rank distinguishes networks that memorise from ones that generalise, on partly random labels.

Asked by reviewers. The measure is the gap between both errors of networks that learned their training set: at each
share of random labels these fit equally well, but differ in how much of what they learned generalises.
"""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.labels import LEARNED
from specdyn.tasks.evidence.measures import by_level, error_name, final_ranks, last, lost_in, mean_of, seeds_of
from specdyn.tasks.evidence.statistics import spearman

LEVELS = 3
"""Fewest shares of random labels for a correlation."""


def measure(case: Case) -> Mapping[str, Measured]:
    """By share of random labels: final effective rank, mean over layers, and the generalisation gap."""
    levels = case.levels("noise")
    if len(levels) < LEVELS:
        raise NotRun(f"{len(levels)} shares of random labels (noise): expected {LEVELS} or more")
    every = seeds_of(case)
    _, ranks = by_level(case, "noise", every, lambda run: float(mean_of(final_ranks(run))))
    _, gaps = by_level(case, "noise", every, _gap)
    known = np.isfinite(gaps) & np.isfinite(ranks)
    chosen = known.sum(axis=1) >= LEVELS
    if not chosen.any():
        raise NotRun(f"in no seed {LEVELS} networks learn their training set (error below {LEARNED:g})")
    seeds = tuple(seed for seed, there in zip(every, chosen, strict=True) if there)
    ranks, gaps = np.where(known, ranks, np.nan)[chosen], np.where(known, gaps, np.nan)[chosen]
    rows = np.arange(len(seeds))
    most, least = ranks[rows, np.nanargmax(gaps, axis=1)], ranks[rows, np.nanargmin(gaps, axis=1)]
    of_level, gap_of_level = mean_of(ranks, axis=0), mean_of(gaps, axis=0)
    measured = Measured(
        seeds=seeds,
        values={
            "correlation": np.array([spearman(gap, rank) for gap, rank in zip(gaps, ranks, strict=True)]),
            "rank ratio": most / least,
        },
        runs=tuple(run.run_id for run in case.runs if run.seed in seeds and run.status == "done"),
        null=0.0,
        exceptions=tuple(
            f"noise {levels[i]:g} has a larger gap than {levels[j]:g} and no higher rank: "
            f"{of_level[i]:.3f} and {of_level[j]:.3f}"
            for i in range(len(levels))
            for j in range(len(levels))
            if gap_of_level[i] > gap_of_level[j] and of_level[i] <= of_level[j]
        ),
        lost=lost_in(case),
        notes=(f"{int(known.sum())} of {known.size} networks learn their training set",),
    )
    return {"rule": measured}


def _gap(run: OneRun) -> float:
    """Validation minus training error at the end; NaN for a network that has not learned its training set."""
    name = error_name(run)
    train = last(run, name, "train")
    return last(run, name) - train if train < LEARNED else float("nan")


CLAIM = Claim(
    name="n1",
    version=1,
    statement="On one task the effective rank tells networks that memorise from networks that generalise.",
    source="asked by reviewers; not in the paper",
    varies=("noise",),
    null="a correlation of 0: the rank says nothing of the gap",
    rules={
        "rule": Rule(
            statistic="rank correlation, over shares of random labels, of the final effective rank (mean over layers) "
            "with the validation less the training error, of networks with a training error below .01; rank at the "
            "largest gap / at the smallest",
            passes=(
                Condition("correlation", "every", ">=", 0.7),
                Condition("correlation", "low rho", ">", 0.5),
                Condition("rank ratio", "low ratio", ">", 1.05),
            ),
            fails=(Condition("correlation", "high rho", "<", 0.3), Condition("rank ratio", "high ratio", "<", 1.0)),
            effect=("correlation", "low rho"),
            test=Condition("correlation", "mean", ">", 0.0),
        )
    },
    measure=measure,
    needs={"M": ("noise-m",), "L": ("noise-m",)},
)
