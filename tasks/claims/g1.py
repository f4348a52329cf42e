"""G1: weight decay decides whether the network groks, and a network that groks has low rank (CLAIMS 2.1)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, paired
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.measures import error_name, final_ranks, grokked_at, last, layers_of, middle_of, run_ids


def measure(case: Case) -> Mapping[str, Measured]:
    """Errors at the end with weight decay 1 and without, and the ratio of effective ranks."""
    decays, lost = case.arm(lambda settings: settings["weight_decay"] == 1)
    without, also = case.arm(lambda settings: settings["weight_decay"] == 0)
    seeds = paired(decays, without)
    ratios = np.array([final_ranks(decays[seed]) / final_ranks(without[seed]) for seed in seeds])
    layers = layers_of(decays[seeds[0]])
    # The ratio of a collapsed layer is unknown, and so is its run's.
    by_seed = np.exp(np.log(ratios).mean(axis=1))
    high = [f"{layer}: ratio {ratio:.2f}" for layer, ratio in zip(layers, middle_of(ratios, axis=0), strict=True)]
    high = [text for text, ratio in zip(high, middle_of(ratios, axis=0), strict=True) if ratio > 0.7]
    groks = [float(np.isfinite(grokked_at(without[seed])[1])) for seed in seeds]
    measured = Measured(
        seeds=seeds,
        values={
            "final error with decay": np.array([last(decays[s], error_name(decays[s])) for s in seeds]),
            "final error without decay": np.array([last(without[s], error_name(without[s])) for s in seeds]),
            "groks without decay": np.array(groks),
            "rank ratio": by_seed,
        },
        runs=run_ids({s: decays[s] for s in seeds}, {s: without[s] for s in seeds}),
        layers=tuple(layers),
        null=1.0,
        exceptions=tuple(high),
        lost=(*lost, *also),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="g1",
    version=1,
    statement="The network groks only with weight decay, and the network that groks is of low rank.",
    source="paper, figure 2",
    experiments=("modular_addition",),
    varies=("weight_decay",),
    null="a ratio of 1: weight decay changes no rank",
    rules={
        "rule": Rule(
            statistic="validation error at the end with weight decay 1 and without; ratio of final effective ranks, "
            "geometric mean over matrices",
            passes=(
                Condition("final error with decay", "nearly every", "<", 0.05),
                Condition("final error without decay", "nearly every", ">", 0.5),
                Condition("rank ratio", "high ratio", "<=", 0.7),
            ),
            fails=(
                Condition("groks without decay", "any", ">", 0.5),
                Condition("rank ratio", "low ratio", ">", 0.9),
            ),
            effect=("rank ratio", "low ratio"),
            test=Condition("rank ratio", "low ratio", "<", 1.0),
        )
    },
    measure=measure,
    needs={"S": ("grokking-s",), "M": ("grokking-m",), "L": ("grokking-m",)},
)
