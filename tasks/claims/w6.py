"""W6: weight decay lowers the rank beyond its effect on the norm (CLAIMS 2.3; not in the paper)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import final_ranks, layers_of, mean_of, middle_of, run_ids


def measure(case: Case) -> Mapping[str, Measured]:
    """The rank of runs with weight decay / that of runs without, whose matrices had the same norms at every step."""
    controls, lost = case.arm(lambda settings: bool(settings.get("norm_run")))
    by_id = {run.run_id: run for run in case.runs if run.status == "done"}
    decays = {
        seed: by_id[run.settings["norm_run"]] for seed, run in controls.items() if run.settings["norm_run"] in by_id
    }
    seeds = tuple(sorted(decays))
    if not seeds:
        raise NotRun("no finished run with norm_run=RUN_ID beside the run with weight decay whose norms it has")
    layers = layers_of(decays[seeds[0]])
    ratios = np.array([final_ranks(decays[s]) / final_ranks(controls[s]) for s in seeds])
    measured = Measured(
        seeds=seeds,
        values={
            "rank ratio": np.exp(mean_of(np.log(ratios), axis=1)),
            "largest difference of norms": np.array([_differ(decays[s], controls[s]) for s in seeds]),
        },
        runs=run_ids(decays, {s: controls[s] for s in seeds}),
        layers=tuple(layers),
        null=1.0,
        exceptions=tuple(
            f"{layer}: ratio {of:.2f}" for layer, of in zip(layers, middle_of(ratios, axis=0), strict=True) if of >= 1
        ),
        lost=lost,
    )
    return {"rule": measured}


def _differ(one: OneRun, other: OneRun) -> float:
    """The largest difference of log norms at the end."""
    return float(np.nanmax(np.abs(np.log(one.final("frobenius_norm") / other.final("frobenius_norm")))))


CLAIM = Claim(
    name="w6",
    version=1,
    statement="Weight decay lowers the effective rank beyond what the same norms do without it.",
    source="asked by reviewers; not in the paper",
    varies=("weight_decay", "norm_run", "norm_control"),
    null="a ratio of 1: the norms alone decide the rank",
    rules={
        "rule": Rule(
            statistic="final effective rank with weight decay / without, at equal norms of every matrix and step, "
            "geometric mean over layers",
            passes=(
                Condition("rank ratio", "high ratio", "<", 0.95),
                Condition("largest difference of norms", "every", "<", 0.05),
            ),
            fails=(Condition("rank ratio", "low ratio", ">", 0.95),),
            effect=("rank ratio", "low ratio"),
            test=Condition("rank ratio", "low ratio", "<", 1.0),
        )
    },
    measure=measure,
    needs={"M": ("norms-m",), "L": ("norms-m",)},
)
