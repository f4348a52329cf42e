"""T3: a magnitude ticket follows the dense run in the leading singular vectors, a random one does not (CLAIMS 2.5)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.measures import mean_of
from specdyn.tasks.evidence.tickets import by_trunk, dense_score, early, lost_tickets, paper_density, tickets_of, trunks


def measure(case: Case) -> Mapping[str, Measured]:
    """Agreement of the ticket with the dense run at the same, last, step / chance, for both masks."""
    magnitude, random = tickets_of(case, "magnitude"), tickets_of(case, "random")
    seeds, density = trunks(magnitude, random), paper_density(case)
    kept, lost = (by_trunk(of, density, seeds, dense_score) for of in (magnitude, random))
    layers = [str(layer) for layer in magnitude["layer"].values]
    tested = early(len(layers))
    measured = Measured(
        seeds=seeds,
        values={
            "agreement / chance": np.exp(np.log(kept)[:, tested].mean(axis=1)),
            "random / chance": np.exp(np.log(lost)[:, tested].mean(axis=1)),
        },
        runs=tuple(map(str, [*magnitude["ticket"].values, *random["ticket"].values])),
        layers=tuple(layers[tested]),
        null=1.0,
        lost=lost_tickets(case),
        notes=(f"density {density:g}",),
        exceptions=tuple(
            f"{layer}: {of:.1f} x chance" for layer, of in zip(layers, mean_of(kept, axis=0), strict=True) if of < 5
        ),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="t3",
    version=1,
    statement="A magnitude ticket's leading singular vectors agree with the dense run's at the same step.",
    source="paper, figure 10",
    of="tickets",
    null="a ratio of 1: the agreement of two random matrices",
    rules={
        "rule": Rule(
            statistic="agreement (ten ranks) with the dense run at the last step / chance, geometric mean over the "
            "first two thirds of the layers, at the density nearest to .05",
            passes=(
                Condition("agreement / chance", "low ratio", ">", 5.0),
                Condition("random / chance", "high ratio", "<", 2.0),
            ),
            fails=(Condition("agreement / chance", "high ratio", "<", 2.0),),
            effect=("agreement / chance", "low ratio"),
            test=Condition("agreement / chance", "low ratio", ">", 1.0),
        )
    },
    measure=measure,
    needs={"S": ("tickets-s",), "M": ("tickets-m",), "L": ("tickets-m",)},
)
