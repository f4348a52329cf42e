"""R1: the effective rank falls in nearly all matrices (CLAIMS 2.2)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.measures import baseline, layers_of, ranks

LEAST = 0.005
"""Least fall that counts, as a share of the full rank."""


def measure(case: Case) -> Mapping[str, Measured]:
    """The share of matrices whose effective rank is lower at the end than at the start."""
    arm, lost, _ = baseline(case)
    seeds = tuple(sorted(arm))
    falls = np.array([(of := ranks(arm[s])[1])[:, 0] - of[:, -1] > LEAST for s in seeds])
    layers = layers_of(arm[seeds[0]])
    often = (~falls).sum(axis=0)
    measured = Measured(
        seeds=seeds,
        values={"share of matrices": falls.mean(axis=1)},
        runs=tuple(arm[s].run_id for s in seeds),
        layers=tuple(layers),
        null=0.5,
        exceptions=tuple(
            f"{layer}: no fall in {n} of {len(seeds)} seeds" for layer, n in zip(layers, often, strict=True) if n
        ),
        lost=lost,
    )
    return {"rule": measured}


CLAIM = Claim(
    name="r1",
    version=1,
    statement="While a network is trained the effective rank of nearly all its matrices falls.",
    source="paper, figures 1 and 3",
    varies=("weight_decay",),
    null="half of the matrices: as many fall as rise",
    rules={
        "rule": Rule(
            statistic="share of matrices with ER_T < ER_0 - .005, of the paper's weight decay or the smallest",
            passes=(Condition("share of matrices", "every", ">=", 0.9),),
            fails=(Condition("share of matrices", "every", "<", 0.75),),
            effect=("share of matrices", "low"),
            test=Condition("share of matrices", "mean", ">", 0.5),
        )
    },
    measure=measure,
    needs={"S": ("samples-s",), "M": ("networks-m",), "L": ("networks-l",)},
)
