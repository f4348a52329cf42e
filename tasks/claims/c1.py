"""C1: branches that split late end in the same basin, those that split at the start do not (CLAIMS 2.6)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.lines import (
    CONNECTED,
    barriers,
    by_trunk_and,
    lines_of,
    lost_lines,
    seeds_of_lines,
    untrained_loss,
)


def measure(case: Case) -> Mapping[str, Measured]:
    """The barrier by split point, mean over the pairs of a trunk."""
    lines = lines_of(case, "within")
    splits, table = by_trunk_and(lines, "split_step", barriers(lines))
    if len(splits) < 3:
        raise NotRun(f"{len(splits)} split points: a trend takes three")
    first, last = table[:, 0], table[:, -1]
    # A last barrier of 0 or below it is less than a tenth of any first one.
    times = np.where(last > 0, first / np.where(last > 0, last, 1), np.where(first > 0, np.inf, np.nan))
    measured = Measured(
        seeds=seeds_of_lines(lines),
        values={
            "barrier": table,
            "first / last barrier": times,
            "last / first barrier": np.where(first > 0, last / np.where(first > 0, first, 1), np.nan),
            "last barrier / untrained loss": last / untrained_loss(case),
        },
        runs=tuple(map(str, lines["run_a"].values)),
        null=1.0,
        lost=lost_lines(case, "within"),
        notes=(f"split points {', '.join(f'{at:g}' for at in splits)}",),
        exceptions=tuple(
            f"split {splits[j]:g}: {table[:, j].mean():.3g} nat, above the one before"
            for j in range(1, len(splits))
            if table[:, j].mean() > table[:, j - 1].mean()
        ),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="c1",
    version=1,
    statement="The later two branches part, the lower the barrier between their ends, and late ones have none.",
    source="paper, figure 11",
    of="lines",
    null="a last barrier as high as the first; 5 % of the loss of an untrained network",
    rules={
        "rule": Rule(
            statistic="barrier of the validation loss by split point, mean over the pairs of one trunk",
            passes=(
                Condition("barrier", "falls", "<", 0.01),
                Condition("first / last barrier", "every", ">", 10.0),
                Condition("last barrier / untrained loss", "every", "<", CONNECTED),
            ),
            fails=(Condition("last / first barrier", "every", ">", 0.5),),
            levels=5,
            effect=("last / first barrier", "low"),
            test=Condition("barrier", "falls", "<", 0.01),
        )
    },
    measure=measure,
    needs={"S": ("lines-s",), "M": ("lines-m",), "L": ("lines-m",)},
)
