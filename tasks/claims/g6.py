"""G6: with the slingshot, generalisation is gradual (CLAIMS 2.1)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import curve, error_name, last, mean_rank

WINDOW = 0.01
"""Length of the window, as a share of all steps."""


def measure(case: Case) -> Mapping[str, Measured]:
    """The largest share of the fall of the validation error within a hundredth of all steps."""
    arm, lost = case.arm(lambda settings: bool(settings.get("layernorm")) and settings["weight_decay"] == 0)
    if not arm:
        raise NotRun("no finished run with layernorm=true and weight_decay 0")
    seeds = tuple(sorted(arm))
    ranks = [mean_rank(arm[s])[1] for s in seeds]
    measured = Measured(
        seeds=seeds,
        values={
            "largest share": np.array([_largest(arm[s]) for s in seeds]),
            "final error": np.array([last(arm[s], error_name(arm[s])) for s in seeds]),
            "rank ratio": np.array([of[-1] / of[0] for of in ranks]),
        },
        runs=tuple(arm[s].run_id for s in seeds),
        null=WINDOW,
        lost=lost,
    )
    return {"rule": measured}


def _largest(run: OneRun) -> float:
    steps, error = curve(run, error_name(run))
    at, width = np.array(steps), WINDOW * steps[-1]
    if np.diff(at).max() > width:
        raise NotRun(f"checkpoints lie further apart than {WINDOW:.0%} of the steps")
    fall = error[0] - error.min()
    if fall <= 0:
        return float("nan")
    within = [error[i] - error[(at >= at[i]) & (at <= at[i] + width)].min() for i in range(len(at))]
    return float(max(within) / fall)


CLAIM = Claim(
    name="g6",
    version=1,
    statement="With LayerNorm and without weight decay generalisation is gradual, and the effective rank falls too.",
    source="paper, figure 2 (slingshot)",
    experiments=("modular_addition",),
    varies=("weight_decay",),
    null="a share of .01: a steady fall",
    rules={
        "rule": Rule(
            statistic="largest fall of the validation error within 1 % of all steps / its whole fall",
            passes=(
                Condition("largest share", "every", "<=", 0.5),
                Condition("final error", "every", "<", 0.05),
                Condition("rank ratio", "high ratio", "<", 1.0),
            ),
            fails=(Condition("largest share", "most", ">", 0.5),),
            effect=("largest share", "low"),
        )
    },
    measure=measure,
    needs={"M": ("slingshot-m",), "L": ("slingshot-m",)},
)
