"""W5: a network of half the rank can train as well (CLAIMS 2.3)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import (
    baseline,
    before_collapse,
    by_level,
    final_ranks,
    last,
    lost_in,
    middle_of,
    seeds_of,
)

WORSE = 1.2
"""Largest training loss / baseline that counts as equally good."""
UNITS = 0.01
"""Nats added to both losses, below which they are noise."""


def measure(case: Case) -> Mapping[str, Measured]:
    """The least rank / the baseline's, among weight decays whose training loss is within 20 % of the baseline's."""
    arm, _, usual = baseline(case)
    seeds = tuple(seed for seed in seeds_of(case) if seed in arm)
    if not seeds:
        raise NotRun("no seed is finished at the baseline")
    kept = before_collapse(case, "weight_decay", seeds)
    levels, table = by_level(case, "weight_decay", seeds, lambda run: float(middle_of(final_ranks(run))))
    _, losses = by_level(case, "weight_decay", seeds, lambda run: last(run, "loss", "train"))
    place = levels.index(usual)
    if len(kept) < 2 or place not in kept:
        raise NotRun("no second weight decay without collapse")
    works = losses + UNITS <= WORSE * (losses[:, [place]] + UNITS)
    ratios = np.where(works, table / table[:, [place]], np.inf)[:, kept].min(axis=1)
    measured = Measured(
        seeds=seeds,
        values={"least rank ratio": np.where(np.isfinite(ratios), ratios, np.nan)},
        runs=tuple(run.run_id for run in case.runs if run.seed in seeds and run.status == "done"),
        null=1.0,
        lost=lost_in(case),
        notes=(f"weight decays {', '.join(f'{levels[i]:g}' for i in kept)}, baseline {usual:g}",),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="w5",
    version=1,
    statement="At some weight decay the rank is half or less of the baseline's, and the network trains as well.",
    source="paper, figures 6 and 7",
    varies=("weight_decay",),
    null="a ratio of 1: only the baseline's rank trains as well",
    rules={
        "rule": Rule(
            statistic="least median effective rank / that of the baseline, among weight decays with a training loss "
            "within 20 % of the baseline's, before the first collapse",
            passes=(Condition("least rank ratio", "every", "<=", 0.5),),
            fails=(Condition("least rank ratio", "low ratio", ">", 0.8),),
            effect=("least rank ratio", "low ratio"),
        )
    },
    measure=measure,
    needs={"S": ("samples-s", "grokking-s"), "M": ("networks-m", "grokking-m"), "L": ("networks-l", "grokking-m")},
)
