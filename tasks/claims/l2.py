"""L2: with true labels alignment stays, with random ones it appears and vanishes (CLAIMS 2.4)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.labels import arms_by_labels
from specdyn.tasks.evidence.measures import run_ids, scores_beside_chance


def measure(case: Case) -> Mapping[str, Measured]:
    """The final alignment score of inner pairs / its peak, with true and with random labels."""
    true, random, seeds, lost, notes = arms_by_labels(case)
    found = {name: [_of_peak(arm[s]) for s in seeds] for name, arm in (("true", true), ("random", random))}
    measured = Measured(
        seeds=seeds,
        values={
            "end / peak, true labels": np.array([end for end, _, _ in found["true"]]),
            "end / peak, random labels": np.array([end for end, _, _ in found["random"]]),
            "place of the peak, random labels": np.array([place for _, place, _ in found["random"]]),
        },
        runs=run_ids({s: true[s] for s in seeds}, {s: random[s] for s in seeds}),
        layers=tuple(found["true"][0][2]),
        null=1.0,
        lost=lost,
        notes=notes,
    )
    return {"rule": measured}


def _of_peak(run: OneRun) -> tuple[float, float, list[str]]:
    """End / peak of the mean score over inner pairs, the position of the peak from 0 to 1, and the pairs."""
    pairs, scores, _ = scores_beside_chance(run)
    inner = slice(1, -1) if len(pairs) > 2 else slice(None)
    if not len(pairs):
        raise NotRun("no pairs of layers")
    mean = scores[inner].mean(axis=0)
    return float(mean[-1] / mean.max()), float(mean.argmax() / (len(mean) - 1)), pairs[inner]


CLAIM = Claim(
    name="l2",
    version=1,
    statement="The alignment of inner layers persists with true labels; with random ones it appears and disappears.",
    source="paper, figure 8",
    varies=("labels",),
    null="a ratio of 1: the score never falls",
    rules={
        "rule": Rule(
            statistic="alignment score (ten ranks, mean over inner pairs) at the end / its peak over the steps",
            passes=(
                Condition("end / peak, true labels", "every", ">=", 0.8),
                Condition("end / peak, random labels", "every", "<", 0.5),
                Condition("place of the peak, random labels", "every", "<", 1.0),
            ),
            fails=(
                Condition("end / peak, true labels", "high ratio", "<", 0.5),
                Condition("end / peak, random labels", "low ratio", ">", 0.8),
            ),
            effect=("end / peak, random labels", "low ratio"),
        )
    },
    measure=measure,
    needs={"M": ("labels-m",), "L": ("labels-m",)},
)
