"""C3: networks of different trunks are neither connected nor alike (CLAIMS 2.6)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.lines import (
    barriers,
    by_trunk_and,
    chance,
    lines_of,
    lost_lines,
    of_trunk,
    scores,
    seeds_of_lines,
)


def measure(case: Case) -> Mapping[str, Measured]:
    """Barriers between trunks / that within the trunk at the last split, and agreement / chance; by trunk."""
    within, across = lines_of(case, "within"), lines_of(case, "across")
    _, table = by_trunk_and(within, "split_step", barriers(within))
    both = ("trunk_a", "trunk_b")
    seeds = tuple(seed for seed in seeds_of_lines(within) if of_trunk(across, seed, both).any())
    last = [max(table[seeds_of_lines(within).index(seed), -1], 1e-6) for seed in seeds]
    heights, alike = barriers(across), scores(across) / chance(across)
    least = [heights[of_trunk(across, seed, both)].min() for seed in seeds]
    measured = Measured(
        seeds=seeds,
        values={
            "agreement / chance": np.array([alike[of_trunk(across, seed, both)].mean() for seed in seeds]),
            "least barrier / last within": np.array(least) / np.array(last),
        },
        runs=tuple(map(str, across["run_a"].values)),
        layers=tuple(map(str, across["layer"].values)),
        null=1.0,
        lost=lost_lines(case, "within", "across"),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="c3",
    version=1,
    statement="Ends of different trunks are never connected, and their vectors agree no more than random ones.",
    source="paper, figure 13",
    of="lines",
    null="a ratio of 1: the agreement of two random matrices",
    rules={
        "rule": Rule(
            statistic="agreement (ten ranks, mean over layers) between trunks / chance; least barrier between trunks / "
            "barrier within a trunk at the last split",
            passes=(
                Condition("agreement / chance", "every", "<", 2.0),
                Condition("least barrier / last within", "every", ">", 10.0),
            ),
            fails=(
                Condition("agreement / chance", "low ratio", ">", 5.0),
                Condition("least barrier / last within", "every", "<", 2.0),
            ),
            effect=("agreement / chance", "low ratio"),
        )
    },
    measure=measure,
    needs={"S": ("lines-s",), "M": ("lines-m",), "L": ("lines-m",)},
)
