"""R3: where the learning rate drops, the effective rank has a kink (CLAIMS 2.2)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import baseline, mean_rank
from specdyn.tasks.evidence.statistics import steepest_split

DROP = 5.0
"""Least factor between neighbouring checkpoints by which a fall of the rate counts as a drop."""


def measure(case: Case) -> Mapping[str, Measured]:
    """Epochs between the break of the mean effective rank and the nearest drop of the rate."""
    arm, lost, _ = baseline(case)
    seeds = tuple(sorted(arm))
    found = [_distance(arm[s]) for s in seeds]
    measured = Measured(
        seeds=seeds,
        values={"distance in epochs": np.array([distance for distance, _ in found])},
        runs=tuple(arm[s].run_id for s in seeds),
        null=float(np.mean([chance for _, chance in found])),
        lost=lost,
    )
    return {"rule": measured}


def _distance(run: OneRun) -> tuple[float, float]:
    """From the break to the nearest drop, and from any checkpoint to that on average."""
    steps, rank = mean_rank(run)
    data = run.groups["layers"]
    missing = [name for name in ("epoch", "learning_rate_at") if name not in data.coords]
    if missing:
        raise NotRun(f"the study has no {' and no '.join(missing)} by step")
    epochs, rates = (
        np.asarray(data[name].sel(step=steps).values, dtype=float) for name in ("epoch", "learning_rate_at")
    )
    drops = epochs[1:][rates[:-1] / rates[1:] >= DROP]
    if not len(drops):
        raise NotRun("the learning rate has no drops")
    if len(steps) < 6:
        raise NotRun(f"{len(steps)} checkpoints: expected six at least")
    away = np.abs(epochs[:, None] - drops).min(axis=1)
    return float(away[steepest_split(rank)]), float(away.mean())


CLAIM = Claim(
    name="r3",
    version=1,
    statement="The effective rank of VGG bends where the learning rate drops, so a kink is no event of learning.",
    source="paper, figure 3",
    experiments=("image_classification",),
    varies=("weight_decay",),
    null="the mean distance of a checkpoint from the nearest drop",
    rules={
        "rule": Rule(
            statistic="epochs between the break of the mean effective rank (two lines, least squares) and the nearest "
            "drop of the learning rate by a factor of 5 or more",
            passes=(Condition("distance in epochs", "every", "<=", 2.0),),
            fails=(Condition("distance in epochs", "every", ">", 5.0),),
            effect=("distance in epochs", "low"),
        )
    },
    measure=measure,
    needs={"M": ("networks-m",), "L": ("networks-l",)},
)
