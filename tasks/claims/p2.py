"""P2: the loss without the bottom half approaches the whole network's as weight decay grows (CLAIMS 2.2)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import before_collapse, by_level, last, lost_in, seeds_of

NEIGHBOURS = 3
"""Fewest levels for a trend."""


def measure(case: Case) -> Mapping[str, Measured]:
    """The gap of the top half along weight decay, up to the first collapse."""
    seeds = seeds_of(case)
    levels, gaps = by_level(case, "weight_decay", seeds, _gap)
    kept = before_collapse(case, "weight_decay", seeds)
    if len(kept) < NEIGHBOURS:
        raise NotRun(f"{len(kept)} weight decays without collapse: a trend takes {NEIGHBOURS}")
    gaps = gaps[:, kept]
    whole = np.isfinite(gaps).all(axis=1)
    if not whole.any():
        raise NotRun("no seed is finished at all weight decays")
    gaps, there = gaps[whole], tuple(seed for seed, is_whole in zip(seeds, whole, strict=True) if is_whole)
    measured = Measured(
        seeds=there,
        values={"gap": gaps, "change of the gap": gaps[:, -1] - gaps[:, 0]},
        runs=tuple(run.run_id for run in case.runs if run.seed in there and run.status == "done"),
        null=0.0,
        lost=lost_in(case),
        notes=(f"weight decays {', '.join(f'{levels[i]:g}' for i in kept)}",),
    )
    return {"rule": measured}


def _gap(run: OneRun) -> float:
    return float(run.final("pruned_loss", kept="top", split="val")) - last(run, "loss")


CLAIM = Claim(
    name="p2",
    version=1,
    statement="The more weight decay, the less is lost with the bottom half of the singular values.",
    source="paper, figure 14",
    varies=("weight_decay",),
    null="a change of 0: gaps in random order along weight decay",
    rules={
        "rule": Rule(
            statistic="L_top - L, validation loss at the end, along weight decay before the first collapse",
            passes=(Condition("gap", "falls", "<", 0.01), Condition("change of the gap", "every", "<", 0.0)),
            fails=(Condition("change of the gap", "low", ">", 0.0),),
            levels=3,
            effect=("change of the gap", "low"),
            test=Condition("gap", "falls", "<", 0.01),
        )
    },
    measure=measure,
    needs={"S": ("samples-s", "grokking-s"), "M": ("networks-m", "grokking-m"), "L": ("networks-l", "grokking-m")},
)
