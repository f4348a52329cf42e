"""W2: with the largest weight decay the norms collapse (CLAIMS 2.3)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import curve, layers_of

GONE = 0.01
"""Frobenius norm at the end / at the start: below it a layer counts as collapsed, as where s_1 < 1e-6."""


def measure(case: Case) -> Mapping[str, Measured]:
    """The share of layers that collapse at the largest weight decay, and the training loss there beside the first."""
    levels = case.levels("weight_decay")
    if len(levels) < 2:
        raise NotRun("one weight decay alone: expected a grid")
    arm, lost = case.arm(lambda settings: settings["weight_decay"] == levels[-1])
    if not arm:
        raise NotRun(f"no run of weight decay {levels[-1]:g} is finished")
    seeds = tuple(sorted(arm))
    gone = np.array([_collapsed(arm[s]) for s in seeds])
    losses = [curve(arm[s], "loss", "train")[1] for s in seeds]
    layers = layers_of(arm[seeds[0]])
    often = gone.mean(axis=0)
    measured = Measured(
        seeds=seeds,
        values={
            "share of layers": gone.mean(axis=1),
            "final / first training loss": np.array([loss[-1] / loss[0] for loss in losses]),
        },
        runs=tuple(arm[s].run_id for s in seeds),
        layers=tuple(layers),
        null=0.0,
        exceptions=tuple(f"{layer}: stays" for layer, n in zip(layers, often, strict=True) if n < 1 and often.any()),
        lost=lost,
        notes=(f"weight decay {levels[-1]:g}", "the effective rank of a collapsed layer reads about 1"),
    )
    return {"rule": measured}


def _collapsed(run: OneRun) -> np.ndarray:
    norms = run.values("frobenius_norm").dropna("layer", how="all").transpose("layer", "step").values
    flags = run.values("collapse").isel(step=-1).sel(layer=layers_of(run)).values == 2
    return np.asarray(flags | (norms[:, -1] < GONE * norms[:, 0]))


CLAIM = Claim(
    name="w2",
    version=1,
    statement="At the largest weight decay of the grid the norm of the layers collapses and the network stops working.",
    source="paper, figure 6 and appendix A.5",
    varies=("weight_decay",),
    null="a share of 0: no layer loses its norm",
    rules={
        "rule": Rule(
            statistic="share of layers with s_1 < 1e-6 or a Frobenius norm below 1 % of the first, at the largest "
            "weight decay; training loss at the end / at the start",
            passes=(
                Condition("share of layers", "every", ">=", 0.9),
                Condition("final / first training loss", "every", ">=", 0.8),
            ),
            fails=(Condition("share of layers", "every", "<", 0.1),),
            effect=("share of layers", "low"),
        )
    },
    measure=measure,
    needs={"S": ("samples-s",), "M": ("networks-m",), "L": ("networks-l",)},
)
