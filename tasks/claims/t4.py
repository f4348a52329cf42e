"""T4: the more weights a mask keeps, the better it preserves the leading vectors (CLAIMS 2.5)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.statistics import spearman
from specdyn.tasks.evidence.tickets import by_trunk, densities, early, lost_tickets, mask_score, tickets_of, trunks


def measure(case: Case) -> Mapping[str, Measured]:
    """Agreement of the dense end with its magnitude-masked version / chance, by density."""
    magnitude = tickets_of(case, "magnitude")
    seeds, levels = trunks(magnitude), densities(case)
    if len(levels) < 3:
        raise NotRun(f"a trend takes three densities, got {len(levels)}")
    layers = [str(layer) for layer in magnitude["layer"].values]
    tested = early(len(layers))
    table = np.array(
        [np.exp(np.log(by_trunk(magnitude, at, seeds, mask_score)[:, tested]).mean(axis=1)) for at in levels]
    ).T
    measured = Measured(
        seeds=seeds,
        values={"agreement / chance": table, "correlation": np.array([spearman(levels, row) for row in table])},
        runs=tuple(map(str, magnitude["ticket"].values)),
        layers=tuple(layers[tested]),
        null=0.0,
        lost=lost_tickets(case),
        notes=(f"densities {', '.join(f'{at:g}' for at in levels)}",),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="t4",
    version=1,
    statement="The agreement of the masked with the dense network grows with the share of weights that are kept.",
    source="paper, figure 10",
    of="tickets",
    null="a correlation of 0 with the density",
    rules={
        "rule": Rule(
            statistic="agreement (ten ranks) of the dense end with what its magnitude mask leaves / chance, by density",
            passes=(
                Condition("agreement / chance", "rises", "<", 0.01),
                Condition("correlation", "every", ">", 0.0),
            ),
            fails=(Condition("correlation", "most", "<=", 0.0),),
            levels=3,
            effect=("correlation", "low rho"),
            test=Condition("agreement / chance", "rises", "<", 0.01),
        )
    },
    measure=measure,
    needs={"S": ("tickets-s",), "M": ("tickets-m",), "L": ("tickets-m",)},
)
