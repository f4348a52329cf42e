"""G3: the low-rank solution emerges from middle ranks and moves up the diagonal (CLAIMS 2.1)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import baseline
from specdyn.tasks.evidence.statistics import SEED, spearman

PAIR = "encoder.weight -> "
"""Prefix of pairs whose writer is the embedding."""
WIDTH = 5
"""Ranks over which the alignment is averaged before finding its peak."""


def measure(case: Case) -> Mapping[str, Measured]:
    """Rank correlation of the step with the rank of the largest alignment of embedding and attention."""
    arm, lost, _ = baseline(case)
    found = {seed: _peaks(run) for seed, run in arm.items()}
    seeds = tuple(found)
    draw = np.random.default_rng(SEED)
    null = np.mean([spearman(np.arange(len(p)), draw.permutation(p)) for _, p in found.values() for _ in range(19)])
    measured = Measured(
        seeds=seeds,
        values={"correlation": np.array([spearman(np.arange(len(p)), p) for _, p in found.values()])},
        runs=tuple(arm[seed].run_id for seed in seeds),
        layers=tuple(dict.fromkeys(pair for pair, _ in found.values())),
        null=float(null),
        lost=lost,
    )
    return {"rule": measured}


def _peaks(run: OneRun) -> tuple[str, np.ndarray]:
    """The pair, and at each step the rank around which the alignment is largest."""
    alignment = run.values("alignment")
    names = [str(pair) for pair in alignment["pair"].values if str(pair).startswith(PAIR)]
    if not names:
        raise NotRun("no pair whose writer is the embedding")
    values = alignment.sel(pair=names[0]).dropna("rank", how="all").transpose("step", "rank").values
    smooth = np.array([np.convolve(row, np.ones(WIDTH) / WIDTH, mode="valid") for row in values])
    return names[0], smooth.argmax(axis=1) + (WIDTH + 1) / 2


CLAIM = Claim(
    name="g3",
    version=1,
    statement="The alignment of embedding and attention begins at middle ranks and moves to the leading ones.",
    source="paper, figure 2",
    experiments=("modular_addition",),
    varies=("weight_decay",),
    null="a correlation of 0: steps in random order",
    rules={
        "rule": Rule(
            statistic="rank correlation of the step with the rank of the largest alignment (means of five ranks)",
            passes=(Condition("correlation", "every", "<", 0.0), Condition("correlation", "high rho", "<", -0.2)),
            fails=(Condition("correlation", "low rho", ">", 0.0),),
            effect=("correlation", "low rho"),
            test=Condition("correlation", "mean", "<", 0.0),
        )
    },
    measure=measure,
    needs={"S": ("grokking-s",), "M": ("grokking-m",), "L": ("grokking-m",)},
)
