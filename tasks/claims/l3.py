"""L3: with true labels the network generalises, with random ones it guesses (CLAIMS 2.4)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule
from specdyn.tasks.evidence.labels import arms_by_labels
from specdyn.tasks.evidence.measures import error_name, last, run_ids


def measure(case: Case) -> Mapping[str, Measured]:
    """Validation errors at the end, with true and with random labels."""
    true, random, seeds, lost, notes = arms_by_labels(case)
    errors = {
        f"error with {name} labels": np.array([last(arm[s], error_name(arm[s])) for s in seeds])
        for name, arm in (("true", true), ("random", random))
    }
    both = run_ids({s: true[s] for s in seeds}, {s: random[s] for s in seeds})
    ratio = errors["error with true labels"] / errors["error with random labels"]
    values = {**errors, "ratio of errors": ratio}
    return {"rule": Measured(seeds=seeds, values=values, runs=both, null=1.0, lost=lost, notes=notes)}


CLAIM = Claim(
    name="l3",
    version=1,
    statement="With true labels the validation error is below chance, with random labels it is at chance.",
    source="paper, figure 8",
    varies=("labels",),
    null="a ratio of 1; the error of a guess is .9 with ten classes",
    rules={
        "rule": Rule(
            statistic="validation error at the end with true and with random labels",
            passes=(
                Condition("error with true labels", "every", "<", 0.8),
                Condition("error with random labels", "every", ">", 0.85),
            ),
            fails=(Condition("ratio of errors", "low ratio", ">", 0.9),),
            effect=("ratio of errors", "low ratio"),
            test=Condition("ratio of errors", "low ratio", "<", 1.0),
        )
    },
    measure=measure,
    needs={"M": ("labels-m",), "L": ("labels-m",)},
)
