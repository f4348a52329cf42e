"""L1: with true labels the inner layers have a lower rank than with random ones (CLAIMS 2.4)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.labels import arms_by_labels
from specdyn.tasks.evidence.measures import final_ranks, layers_of, run_ids


def measure(case: Case) -> Mapping[str, Measured]:
    """The ratio of effective ranks, true to random labels, mean over inner layers and by layer."""
    true, random, seeds, lost, notes = arms_by_labels(case)
    layers = layers_of(true[seeds[0]])
    if len(layers) < 3:
        raise NotRun(f"{len(layers)} layers: there is no inner one")
    ratios = np.array([final_ranks(true[s]) / final_ranks(random[s]) for s in seeds])
    inner = ratios[:, 1:-1]
    common: dict[str, Any] = {
        "seeds": seeds,
        "runs": run_ids({s: true[s] for s in seeds}, {s: random[s] for s in seeds}),
        "layers": tuple(layers[1:-1]),
        "null": 1.0,
        "lost": lost,
        "notes": (
            *notes,
            *(f"{layers[i]}, not tested: ratio {np.exp(np.log(ratios[:, i]).mean()):.3f}" for i in (0, -1)),
        ),
        "exceptions": tuple(
            f"{layer}: ratio {of:.3f}"
            for layer, of in zip(layers[1:-1], np.median(inner, axis=0), strict=True)
            if of >= 1
        ),
    }
    return {
        "mean of inner layers": Measured(values={"rank ratio": np.exp(np.log(inner).mean(axis=1))}, **common),
        "every inner layer": Measured(values={"rank ratio": inner.max(axis=1), "least": inner.min(axis=1)}, **common),
    }


CLAIM = Claim(
    name="l1",
    version=1,
    statement="A network that learns true labels has inner layers of lower rank than one that learns random labels.",
    source="paper, figure 8",
    varies=("labels",),
    null="a ratio of 1: the labels do not matter",
    rules={
        "mean of inner layers": Rule(
            statistic="final effective rank with true labels / with random ones, without weight decay and where both "
            "training errors are below .01; geometric mean over all layers but the first and the last",
            passes=(Condition("rank ratio", "high ratio", "<", 0.95), Condition("rank ratio", "every", "<", 1.0)),
            fails=(Condition("rank ratio", "low ratio", ">", 1.0),),
            seeds=5,
            effect=("rank ratio", "low ratio"),
            test=Condition("rank ratio", "low ratio", "<", 1.0),
        ),
        "every inner layer": Rule(
            statistic="the largest of these ratios among the inner layers",
            passes=(Condition("rank ratio", "every", "<", 1.0),),
            fails=(Condition("least", "every", ">", 1.0),),
            seeds=3,
            effect=("rank ratio", "low ratio"),
        ),
    },
    measure=measure,
    needs={"M": ("labels-m",), "L": ("labels-m",)},
)
