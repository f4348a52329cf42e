"""N2: whether layers are not aligned because steps are large (asked by reviewers, after Mulayoff and Michaeli 2020).

With a small learning rate a network learns less in the same number of steps, and alignment changes during learning. So
networks of a seed are compared at the same training loss.
"""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Arm, Case, OneRun, paired
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import curve, lost_in, run_ids, scores_beside_chance

LEVELS = 3
"""Fewest learning rates for a trend."""
LEARNED = 0.5
"""Share of the first training loss that all networks of a seed must fall below."""


def measure(case: Case) -> Mapping[str, Measured]:
    """Alignment relative to chance by learning rate, at the training loss that all networks of a seed reach."""
    rates = case.levels("learning_rate")
    if len(rates) < LEVELS:
        raise NotRun(f"{len(rates)} learning rates: expected {LEVELS} or more")
    arms: list[Arm] = [case.arm(lambda settings, at=rate: settings["learning_rate"] == at)[0] for rate in rates]  # type: ignore[misc]
    every = paired(*arms)
    levels = {seed: _common_loss([arm[seed] for arm in arms]) for seed in every}
    seeds = tuple(seed for seed in every if np.isfinite(levels[seed]))
    if not seeds:
        raise NotRun(f"in no seed all learning rates bring the training loss below {LEARNED:g} of the first")
    found = {seed: [_aligned(arm[seed], levels[seed]) for arm in arms] for seed in seeds}
    table = np.array([[ratios.mean() for _, ratios, _ in found[seed]] for seed in seeds])
    pairs = found[seeds[0]][0][0]
    changes = np.array([found[seed][0][1] / found[seed][-1][1] for seed in seeds])
    steps = [float(np.mean([found[seed][column][2] for seed in seeds])) for column in range(len(rates))]
    measured = Measured(
        seeds=seeds,
        values={
            "score / chance": table,
            "smallest / largest rate": table[:, 0] / table[:, -1],
            "score / chance at the smallest rate": table[:, 0],
        },
        runs=run_ids(*({seed: arm[seed] for seed in seeds} for arm in arms)),
        layers=tuple(pairs),
        null=1.0,
        exceptions=tuple(
            f"{pair}: no more aligned at the smallest rate"
            for pair, of in zip(pairs, np.median(changes, axis=0), strict=True)
            if of <= 1
        ),
        lost=lost_in(case),
        notes=(
            *(f"rate {rate:g}: compared at step {step:g}" for rate, step in zip(rates, steps, strict=True)),
            *(f"seed {seed} left out: a network does not learn" for seed in every if seed not in seeds),
        ),
    )
    return {"rule": measured}


def _common_loss(runs: list[OneRun]) -> float:
    """The least training loss that all runs reach; NaN if one learns too little to be compared."""
    losses = [curve(run, "loss", "train")[1] for run in runs]
    level = max(float(np.nanmin(of)) for of in losses)
    return level if level < LEARNED * min(of[0] for of in losses) else float("nan")


def _aligned(run: OneRun, level: float) -> tuple[list[str], np.ndarray, float]:
    """Pairs, their scores / chance at the first checkpoint with a training loss at that level, and its step."""
    steps, losses = curve(run, "loss", "train")
    pairs, scores, null = scores_beside_chance(run)
    step = steps[int(np.flatnonzero(losses <= level)[0])]
    there = run.values("alignment_score")["step"].values
    return pairs, scores[:, int(np.abs(there - step).argmin())] / null, step


CLAIM = Claim(
    name="n2",
    version=1,
    statement="Layers are not aligned because steps are large: with small learning rates they are.",
    source="asked by reviewers, after Mulayoff and Michaeli 2020; not in the paper",
    varies=("learning_rate",),
    null="a ratio of 1: the learning rate does not matter; a score at its level by chance",
    rules={
        "rule": Rule(
            statistic="alignment score (ten ranks) / chance, mean over pairs of layers, by learning rate, at the first "
            "checkpoint with the least training loss that all rates of the seed come to",
            passes=(
                Condition("score / chance", "falls", "<", 0.01),
                Condition("smallest / largest rate", "low ratio", ">", 1.25),
                Condition("score / chance at the smallest rate", "low", ">", 2.0),
            ),
            fails=(Condition("smallest / largest rate", "high ratio", "<", 1.1),),
            levels=3,
            effect=("smallest / largest rate", "low ratio"),
            test=Condition("score / chance", "falls", "<", 0.01),
        )
    },
    measure=measure,
    needs={"M": ("rates-m",), "L": ("rates-m",)},
)
