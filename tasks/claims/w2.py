"""W2: with the largest weight decay the norms collapse (CLAIMS 2.3).

Version 1 compared the final training loss with the first one. The CTC loss starts far above chance, as an untrained
network emits a symbol in every frame: a network that learned only silence fell below .8 of it. Version 2 compares
errors with chance, if the experiment has an error.
"""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import curve, error_name, layers_of

GONE = 0.01
"""Ratio of final to initial Frobenius norm below which a layer counts as collapsed, as does s_1 < 1e-6."""


def measure(case: Case) -> Mapping[str, Measured]:
    """The share of layers that collapse at the largest weight decay, and the training error there / chance."""
    levels = case.levels("weight_decay")
    if len(levels) < 2:
        raise NotRun("one weight decay alone: expected a grid")
    arm, lost = case.arm(lambda settings: settings["weight_decay"] == levels[-1])
    if not arm:
        raise NotRun(f"no run of weight decay {levels[-1]:g} is finished")
    seeds = tuple(sorted(arm))
    gone = np.array([_collapsed(arm[s]) for s in seeds])
    layers = layers_of(arm[seeds[0]])
    often = gone.mean(axis=0)
    measured = Measured(
        seeds=seeds,
        values={
            "share of layers": gone.mean(axis=1),
            "training error / chance": np.array([_beside_chance(arm[s]) for s in seeds]),
        },
        runs=tuple(arm[s].run_id for s in seeds),
        layers=tuple(layers),
        null=0.0,
        exceptions=tuple(f"{layer}: stays" for layer, n in zip(layers, often, strict=True) if n < 1 and often.any()),
        lost=lost,
        notes=(f"weight decay {levels[-1]:g}", "the effective rank of a collapsed layer reads about 1"),
    )
    return {"rule": measured}


def _beside_chance(run: OneRun) -> float:
    """The final training error / that of an untrained network (at most 1); for losses if there is no error."""
    try:
        _, values = curve(run, error_name(run), "train")
    except NotRun:
        _, values = curve(run, "loss", "train")  # for other experiments the loss starts at chance
        return float(values[-1] / values[0])
    return float(values[-1] / min(values[0], 1.0))


def _collapsed(run: OneRun) -> np.ndarray:
    norms = run.values("frobenius_norm").dropna("layer", how="all").transpose("layer", "step").values
    flags = run.values("collapse").isel(step=-1).sel(layer=layers_of(run)).values == 2
    return np.asarray(flags | (norms[:, -1] < GONE * norms[:, 0]))


CLAIM = Claim(
    name="w2",
    version=2,
    statement="At the largest weight decay of the grid the norm of the layers collapses and the network stops working.",
    source="paper, figure 6 and appendix A.5",
    varies=("weight_decay",),
    null="a share of 0: no layer loses its norm",
    rules={
        "rule": Rule(
            statistic="share of layers with s_1 < 1e-6 or a Frobenius norm below 1 % of the first, at the largest "
            "weight decay; training error at the end / at the start, counted as 1 at most (training losses where "
            "there is no error)",
            passes=(
                Condition("share of layers", "every", ">=", 0.9),
                Condition("training error / chance", "every", ">=", 0.8),
            ),
            fails=(Condition("share of layers", "every", "<", 0.1),),
            effect=("share of layers", "low"),
        )
    },
    measure=measure,
    needs={"S": ("samples-s",), "M": ("networks-m",), "L": ("networks-l",)},
)
