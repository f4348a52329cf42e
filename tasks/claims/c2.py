"""C2: the ends of branches share their leading singular vectors if there is no barrier (CLAIMS 2.6)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.lines import (
    CONNECTED,
    barriers,
    chance,
    lines_of,
    lost_lines,
    of_trunk,
    scores,
    seeds_of_lines,
    untrained_loss,
)
from specdyn.tasks.evidence.statistics import area_under_curve, spearman

CELLS = 3
"""Fewest lines of each kind per trunk."""


def measure(case: Case) -> Mapping[str, Measured]:
    """Per trunk: rank correlation of barrier and agreement over its lines, and how well agreement separates them."""
    lines, across = lines_of(case, "within"), lines_of(case, "across")
    seeds, height, score, null = seeds_of_lines(lines), barriers(lines), scores(lines), chance(lines)
    connected = height < CONNECTED * untrained_loss(case)
    own = [of_trunk(lines, seed) for seed in seeds]
    few = [
        seed for seed, of in zip(seeds, own, strict=True) if min(connected[of].sum(), (~connected)[of].sum()) < CELLS
    ]
    if len(few) == len(seeds):
        raise NotRun(f"no trunk has {CELLS} connected and {CELLS} unconnected lines")
    whole = [(seed, of) for seed, of in zip(seeds, own, strict=True) if seed not in few]
    unrelated = scores(across)
    together = np.array([score[of & connected].mean() for _, of in whole])
    apart = np.array([score[of & ~connected].mean() for _, of in whole])
    control = [unrelated[of_trunk(across, seed, ("trunk_a", "trunk_b"))].mean() / null for seed, _ in whole]
    measured = Measured(
        seeds=tuple(seed for seed, _ in whole),
        values={
            "correlation": np.array([spearman(height[of], score[of]) for _, of in whole]),
            "area under the curve": np.array([area_under_curve(score[of], connected[of]) for _, of in whole]),
            "connected / chance": together / null,
            "least connected / chance": np.array([score[of & connected].min() / null for _, of in whole]),
            "unconnected / connected": apart / together,
            "between trunks / chance": np.array(control),
        },
        runs=tuple(map(str, lines["run_a"].values)),
        layers=tuple(map(str, lines["layer"].values)),
        null=0.0,
        lost=lost_lines(case, "within", "across"),
        notes=tuple(f"seed {seed} left out: fewer than {CELLS} lines of a kind" for seed in few),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="c2",
    version=1,
    statement="Two ends share their leading singular vectors exactly where no barrier lies between them.",
    source="paper, figure 12",
    of="lines",
    null="a correlation of 0, an area of .5; agreement of random matrices, which is that between trunks",
    rules={
        "rule": Rule(
            statistic="rank correlation of barrier and agreement (ten ranks, mean over layers) over the lines of a "
            "trunk; area under the curve of agreement for lines with a barrier below 5 % of the untrained loss",
            passes=(
                Condition("correlation", "every", "<=", -0.7),
                Condition("area under the curve", "every", ">=", 0.95),
                Condition("connected / chance", "every", ">", 5.0),
                Condition("unconnected / connected", "every", "<", 0.5),
                Condition("between trunks / chance", "every", "<", 2.0),
            ),
            fails=(
                Condition("correlation", "any", ">", -0.3),
                Condition("least connected / chance", "any", "<", 2.0),
            ),
            effect=("correlation", "low rho"),
            test=Condition("correlation", "mean", "<", 0.0),
        )
    },
    measure=measure,
    needs={"S": ("lines-s",), "M": ("lines-m",), "L": ("lines-m",)},
)
