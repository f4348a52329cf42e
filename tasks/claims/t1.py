"""T1: the largest weights can be trained alone, the same number of random ones cannot (CLAIMS 2.5)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.tickets import (
    by_trunk,
    densities,
    final_loss,
    lost_tickets,
    paper_density,
    tickets_of,
    trunks,
)

UNITS = 1e-3
"""Nats added to both losses, below which they are noise."""


def measure(case: Case) -> Mapping[str, Measured]:
    """Training loss at the end of random tickets / of magnitude tickets, at the density nearest to the paper's."""
    magnitude, random = tickets_of(case, "magnitude"), tickets_of(case, "random")
    seeds, density = trunks(magnitude, random), paper_density(case)

    def ratio(at: float) -> np.ndarray:
        return (by_trunk(random, at, seeds, final_loss) + UNITS) / (by_trunk(magnitude, at, seeds, final_loss) + UNITS)

    others = [
        f"density {at:g}: ratio {np.exp(np.log(ratio(at)).mean()):.2f}" for at in densities(case) if at != density
    ]
    measured = Measured(
        seeds=seeds,
        values={"loss ratio": ratio(density)},
        runs=tuple(map(str, [*magnitude["ticket"].values, *random["ticket"].values])),
        layers=tuple(map(str, magnitude["layer"].values)),
        null=1.0,
        lost=lost_tickets(case),
        notes=(f"density {density:g}", *others),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="t1",
    version=1,
    statement="With 5 % of the weights, the largest train far better than random ones of the same layer densities.",
    source="paper, figure 10",
    of="tickets",
    null="a ratio of 1: it does not matter which weights are kept",
    rules={
        "rule": Rule(
            statistic="training loss at the end, random mask / magnitude mask, at the density nearest to .05",
            passes=(Condition("loss ratio", "low ratio", ">", 2.0),),
            fails=(Condition("loss ratio", "high ratio", "<", 1.2),),
            effect=("loss ratio", "low ratio"),
            test=Condition("loss ratio", "low ratio", ">", 1.0),
        )
    },
    measure=measure,
    needs={"S": ("tickets-s",), "M": ("tickets-m",), "L": ("tickets-m",)},
)
