"""W1: the more weight decay, the lower the effective rank (CLAIMS 2.3)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import (
    before_collapse,
    by_level,
    final_ranks,
    layers_of,
    lost_in,
    middle_of,
    seeds_of,
)

REVERSED = 0.02
"""Least rise between neighbours that counts as a reversal, as a share of the full rank."""
NEIGHBOURS = 3


def measure(case: Case) -> Mapping[str, Measured]:
    """The median over layers of the final effective rank along weight decay, up to the first collapse."""
    seeds = seeds_of(case)
    levels, table = by_level(case, "weight_decay", seeds, lambda run: float(middle_of(final_ranks(run))))
    kept = before_collapse(case, "weight_decay", seeds)
    if len(kept) < NEIGHBOURS:
        raise NotRun(f"{len(kept)} weight decays without collapse: a trend takes {NEIGHBOURS}")
    table = table[:, kept]
    whole = np.isfinite(table).all(axis=1)
    if not whole.any():
        raise NotRun("no seed is finished at all weight decays")
    table, there = table[whole], tuple(seed for seed, is_whole in zip(seeds, whole, strict=True) if is_whole)
    ends = [case.arm(lambda s, at=levels[i]: s["weight_decay"] == at)[0] for i in (kept[0], kept[-1])]  # type: ignore[misc]
    change = np.array([final_ranks(ends[1][seed]) - final_ranks(ends[0][seed]) for seed in there])
    layers = layers_of(ends[0][there[0]])
    measured = Measured(
        seeds=there,
        values={
            "rank": table,
            "rank ratio": table[:, -1] / table[:, 0],
            "share of layers that fall": (change < 0).mean(axis=1),
            "largest rise between neighbours": np.diff(table, axis=1).max(axis=1),
        },
        runs=tuple(run.run_id for run in case.runs if run.seed in there and run.status == "done"),
        layers=tuple(layers),
        null=1.0,
        exceptions=tuple(
            f"{layer}: rises" for layer, of in zip(layers, np.median(change, axis=0), strict=True) if of >= 0
        ),
        lost=lost_in(case),
        notes=(f"weight decays {', '.join(f'{levels[i]:g}' for i in kept)}",),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="w1",
    version=1,
    statement="The more weight decay, the lower the effective rank at the end of training.",
    source="paper, figure 6",
    varies=("weight_decay",),
    null="a ratio of 1: ranks in random order along weight decay",
    rules={
        "rule": Rule(
            statistic="median over layers of final effective rank / rank along weight decay, before the first collapse",
            passes=(
                Condition("rank", "falls", "<", 0.01),
                Condition("rank ratio", "every", "<=", 0.9),
                Condition("share of layers that fall", "every", ">=", 0.9),
            ),
            fails=(
                Condition("largest rise between neighbours", "most", ">", REVERSED),
                Condition("rank ratio", "low ratio", ">", 0.95),
            ),
            levels=3,
            effect=("rank ratio", "low ratio"),
            test=Condition("rank", "falls", "<", 0.01),
        )
    },
    measure=measure,
    needs={"S": ("samples-s", "grokking-s"), "M": ("networks-m", "grokking-m"), "L": ("networks-l", "grokking-m")},
)
