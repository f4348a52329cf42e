"""C5: between two ends separated by a barrier, the effective rank is higher than at the ends (CLAIMS 2.6)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import LINES, Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.lines import barriers, by_trunk_and, lines_of, lost_lines, of_trunk, seeds_of_lines
from specdyn.tasks.evidence.statistics import spearman


def measure(case: Case) -> Mapping[str, Measured]:
    """The barrier of the effective rank, mean over layers: at the first split, and its correlation with the loss's."""
    lines = lines_of(case, "within")
    seeds = seeds_of_lines(lines)
    of_rank = np.asarray(lines["barrier_effective_rank"].transpose(LINES, "layer").mean("layer").values, dtype=float)
    heights = barriers(lines)
    _, table = by_trunk_and(lines, "split_step", of_rank)
    correlations = [spearman(heights[own], of_rank[own]) for own in (of_trunk(lines, seed) for seed in seeds)]
    measured = Measured(
        seeds=seeds,
        values={"barrier of the rank": table[:, 0], "correlation": np.array(correlations)},
        runs=tuple(map(str, lines["run_a"].values)),
        layers=tuple(map(str, lines["layer"].values)),
        null=0.0,
        lost=lost_lines(case, "within"),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="c5",
    version=1,
    statement="The effective rank rises along a line with the barrier of the loss.",
    source="computed by the paper's code, not claimed in its text",
    of="lines",
    null="a barrier of 0: the rank lies on the line between the ends",
    rules={
        "rule": Rule(
            statistic="barrier of effective rank / rank at the first split, mean over layers; its rank correlation "
            "with the barrier of the loss over the lines of a trunk",
            passes=(
                Condition("barrier of the rank", "low", ">", 0.0),
                Condition("correlation", "every", ">", 0.5),
            ),
            fails=(Condition("barrier of the rank", "high", "<", 0.0), Condition("correlation", "high rho", "<", 0.0)),
            effect=("correlation", "low rho"),
            test=Condition("correlation", "mean", ">", 0.0),
        )
    },
    measure=measure,
    needs={"S": ("lines-s",), "M": ("lines-m",), "L": ("lines-m",)},
)
