"""W3: SGD collapses at a smaller weight decay than AdamW does, on the same network (CLAIMS 2.3)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Arm, Case, paired
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule

OPTIMIZERS = ("sgd", "adamw")


def measure(case: Case) -> Mapping[str, Measured]:
    """By how many levels of the grid the collapse comes earlier with SGD; no collapse counts as past the grid."""
    levels = case.levels("weight_decay")
    arms: dict[tuple[str, float], Arm] = {}
    lost: list[str] = []
    for optimizer in OPTIMIZERS:
        for level in levels:
            chosen = (optimizer, level)
            arms[chosen], gone = case.arm(lambda s, of=chosen: (s["optimizer"], s["weight_decay"]) == of)  # type: ignore[misc]
            lost += gone
    lacking = [optimizer for optimizer in OPTIMIZERS if not any(arms[optimizer, level] for level in levels)]
    if lacking:
        raise NotRun(f"no finished run with optimizer={lacking[0]} of this network")
    seeds = paired(*arms.values())
    first = {
        optimizer: np.array(
            [_first([bool(arms[optimizer, level][s].collapsed.any()) for level in levels]) for s in seeds]
        )
        for optimizer in OPTIMIZERS
    }
    measured = Measured(
        seeds=seeds,
        values={
            "levels earlier": first["adamw"] - first["sgd"],
            "level of sgd": first["sgd"],
            "level of adamw": first["adamw"],
        },
        runs=tuple(arm[s].run_id for arm in arms.values() for s in seeds),
        null=0.0,
        lost=tuple(lost),
        notes=(f"weight decays {', '.join(f'{level:g}' for level in levels)}; a level past the last is no collapse",),
    )
    return {"rule": measured}


def _first(flags: list[bool]) -> float:
    return float(flags.index(True) if any(flags) else len(flags))


CLAIM = Claim(
    name="w3",
    version=1,
    statement="The optimizer is why VGG collapses at a smaller weight decay: on one network SGD does so before AdamW.",
    source="paper, section on weight decay; not separated there",
    varies=("weight_decay", "optimizer", "momentum", "learning_rate"),
    null="a difference of 0 levels",
    rules={
        "rule": Rule(
            statistic="place of the first weight decay with a collapsed layer, AdamW less SGD, on the same network",
            passes=(Condition("levels earlier", "every", ">=", 1.0),),
            fails=(Condition("levels earlier", "every", "<=", 0.0), Condition("levels earlier", "any", "<", 0.0)),
            levels=3,
            effect=("levels earlier", "low"),
            test=Condition("levels earlier", "mean", ">", 0.0),
        )
    },
    measure=measure,
    needs={"M": ("crossed-m",), "L": ("crossed-m",)},
)
