"""T2: the magnitude mask keeps the leading singular vectors, a random one does not (CLAIMS 2.5)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import mean_of
from specdyn.tasks.evidence.tickets import by_trunk, early, lost_tickets, mask_score, paper_density, tickets_of, trunks


def measure(case: Case) -> Mapping[str, Measured]:
    """Agreement of the dense end with its masked version / chance, magnitude against random and shuffled masks."""
    magnitude, random = tickets_of(case, "magnitude"), tickets_of(case, "random")
    try:
        shuffled = tickets_of(case, "shuffled")
    except NotRun:
        shuffled = random
    seeds, density = trunks(magnitude, random, shuffled), paper_density(case)
    kept, lost, control = (by_trunk(of, density, seeds, mask_score) for of in (magnitude, random, shuffled))
    layers = [str(layer) for layer in magnitude["layer"].values]
    tested = early(len(layers))
    late = mean_of(kept, axis=0)[tested.stop :]
    measured = Measured(
        seeds=seeds,
        values={
            "least ratio to random": (kept / lost)[:, tested].min(axis=1),
            "ratio to random": np.exp(np.log(kept / lost)[:, tested].mean(axis=1)),
            "ratio to shuffled": np.exp(np.log(kept / control)[:, tested].mean(axis=1)),
            "random / chance": np.exp(np.log(lost)[:, tested].mean(axis=1)),
        },
        runs=tuple(map(str, [*magnitude["ticket"].values, *random["ticket"].values])),
        layers=tuple(layers[tested]),
        null=1.0,
        lost=lost_tickets(case),
        notes=(
            f"density {density:g}",
            *(
                f"{layer}, late, not tested: {of:.1f} x chance"
                for layer, of in zip(layers[tested.stop :], late, strict=True)
            ),
            *(("no shuffled mask: the random one stands for it",) if shuffled is random else ()),
        ),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="t2",
    version=1,
    statement="The magnitude mask preserves the leading singular vectors of the dense network, a random mask does not.",
    source="paper, figure 10",
    of="tickets",
    null="a ratio of 1; also the magnitude mask on weights whose places are shuffled",
    rules={
        "rule": Rule(
            statistic="agreement (ten ranks) of the dense end with what the mask leaves / chance, magnitude / random "
            "mask, at the density nearest to .05, geometric mean over the first two thirds of the layers",
            passes=(
                Condition("least ratio to random", "every", ">", 1.0),
                Condition("ratio to random", "low ratio", ">", 2.0),
                Condition("ratio to shuffled", "low ratio", ">", 2.0),
            ),
            fails=(Condition("ratio to random", "high ratio", "<", 1.2),),
            effect=("ratio to random", "low ratio"),
            test=Condition("ratio to random", "low ratio", ">", 1.0),
        )
    },
    measure=measure,
    needs={"S": ("tickets-s",), "M": ("tickets-m",), "L": ("tickets-m",)},
)
