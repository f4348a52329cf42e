"""G8: the step at which a network groks varies between seeds more than its ranks do (CLAIMS 2.1)."""

from collections.abc import Mapping

import numpy as np

from specdyn.tasks.evidence.cases import Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import baseline, final_ranks, grokked_at, mean_of, middle


def measure(case: Case) -> Mapping[str, Measured]:
    """Standard deviation / mean over seeds of the grokking step and of the final effective rank; censored counted."""
    arm, lost, decay = baseline(case)
    at = {seed: middle(grokked_at(run)) for seed, run in arm.items()}
    seeds = tuple(seed for seed, step in at.items() if np.isfinite(step))
    if len(seeds) < 2:
        raise NotRun(f"{len(seeds)} of {len(arm)} runs of weight decay {decay:g} grok: expected two at least")
    steps = np.array([at[seed] for seed in seeds])
    ranks = np.array([mean_of(final_ranks(arm[seed])) for seed in seeds])
    of_steps, of_ranks = (float(x.std(ddof=1) / x.mean()) for x in (steps, ranks))
    measured = Measured(
        seeds=seeds,
        values={
            "grokking step": steps,
            "variation of the grokking step": np.array([of_steps]),
            "ratio of variations": np.array([of_steps / of_ranks if of_ranks > 0 else np.inf]),
        },
        runs=tuple(arm[seed].run_id for seed in seeds),
        null=1.0,
        lost=lost,
        notes=(f"{len(arm) - len(seeds)} of {len(arm)} runs never grok", f"final rank varies by {of_ranks:.1%}"),
    )
    return {"rule": measured}


CLAIM = Claim(
    name="g8",
    version=1,
    statement="Between seeds the step of grokking varies more than the final effective rank.",
    source="paper, figure 2 and section on seeds",
    experiments=("modular_addition",),
    varies=("weight_decay",),
    null="a ratio of 1: both vary alike",
    rules={
        "rule": Rule(
            statistic="standard deviation / mean over the seeds that grok, of the step at which the validation error "
            "falls below .05 and of the mean final effective rank; those that never grok are counted",
            passes=(Condition("ratio of variations", "value", ">=", 2.0),),
            fails=(Condition("ratio of variations", "value", "<", 1.0),),
            effect=("ratio of variations", "value"),
        )
    },
    measure=measure,
    needs={"S": ("grokking-s",), "M": ("grokking-m",), "L": ("grokking-m",)},
)
