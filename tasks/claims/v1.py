"""V1: the leading singular vectors settle before the others (CLAIMS 2.2)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.measures import baseline, mean_of, middle_of
from specdyn.tasks.evidence.statistics import SEED, spearman

SETTLED, LEADING, FEWEST = 0.8, 100, 8
"""Agreement with the final vectors that counts as settled; ranks considered; fewest ranks for a correlation."""


def measure(case: Case) -> Mapping[str, Measured]:
    """For each layer, the rank correlation of i with the step from which vector i agrees with the final one."""
    arm, lost, _ = baseline(case)
    seeds = tuple(sorted(arm))
    found = {s: _settling(arm[s]) for s in seeds}
    layers = list(found[seeds[0]])
    rho = np.array([[spearman(np.arange(len(at)), at) for at in found[s].values()] for s in seeds])
    draw = np.random.default_rng(SEED)
    shuffled = [spearman(np.arange(len(at)), draw.permutation(at)) for of in found.values() for at in of.values()]
    middle = middle_of(rho, axis=0)
    measured = Measured(
        seeds=seeds,
        values={"correlation": middle_of(rho, axis=1)},
        runs=tuple(arm[s].run_id for s in seeds),
        layers=tuple(layers),
        null=float(mean_of(shuffled)),
        exceptions=tuple(f"{layer}: {value:.2f}" for layer, value in zip(layers, middle, strict=True) if not value > 0),
        lost=lost,
    )
    return {"rule": measured}


def _settling(run: OneRun) -> dict[str, np.ndarray]:
    """Index of the first checkpoint at which each vector agrees with the final one, or the last index."""
    agreement = run.values("agreement").dropna("layer", how="all")
    found = {}
    for layer in agreement["layer"].values:
        a_TR = agreement.sel(layer=layer).dropna("rank", how="all").transpose("step", "rank").values[:, :LEADING]
        if a_TR.shape[1] >= FEWEST:
            settled = a_TR > SETTLED
            found[str(layer)] = np.where(settled.any(axis=0), settled.argmax(axis=0), len(a_TR) - 1).astype(float)
    return found


CLAIM = Claim(
    name="v1",
    version=1,
    statement="The leading singular vectors of a layer settle earlier than the others.",
    source="paper, figure 9",
    varies=("weight_decay",),
    null="a correlation of 0: ranks in random order",
    rules={
        "rule": Rule(
            statistic="rank correlation of i, up to 100, with the first checkpoint at which the agreement with the "
            "final vectors exceeds .8; median over layers of eight ranks or more",
            passes=(Condition("correlation", "every", ">", 0.0), Condition("correlation", "low rho", ">", 0.3)),
            fails=(Condition("correlation", "high rho", "<=", 0.0),),
            effect=("correlation", "low rho"),
            test=Condition("correlation", "mean", ">", 0.0),
        )
    },
    measure=measure,
    needs={"S": ("samples-s", "grokking-s"), "M": ("networks-m", "grokking-m"), "L": ("networks-l", "grokking-m")},
)
