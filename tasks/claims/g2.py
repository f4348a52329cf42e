"""G2: whether the fall of the effective rank and the fall of the validation loss coincide (CLAIMS 2.1, contested)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from specdyn.tasks.evidence.cases import Case, OneRun
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.measures import baseline, curve, error_name, mean_rank, middle
from specdyn.tasks.evidence.statistics import RESAMPLES, SEED, crossing

COARSEST = 0.05
"""Widest grid of checkpoints on which a lag is reported, as a share of the grokking step."""
NEAR = 0.1
"""Half-width of the time of grokking, as a share of the grokking step."""
FLOOR = 0.05
"""How near the floor the rank must be for compression to be over, as a share of the whole fall."""


def measure(case: Case) -> Mapping[str, Measured]:
    """Lags of the rank's fall behind grokking, shares of the fall by then, and rates of fall, of runs that grokked."""
    arm, lost, _ = baseline(case)
    groks = {seed: crossing(*curve(run, error_name(run)), 0.5) for seed, run in arm.items()}
    seeds = tuple(seed for seed, at in groks.items() if np.isfinite(at[1]) and at[1] > at[0])
    if not seeds:
        raise NotRun(f"none of {len(arm)} runs groks")
    coarse = [(at[1] - at[0]) / middle(at) for at in (groks[seed] for seed in seeds)]
    if max(coarse) > COARSEST:
        raise NotRun(f"checkpoints lie {max(coarse):.0%} of the grokking step apart: lags take {COARSEST:.0%} or less")
    of = [_one(arm[seed], middle(groks[seed])) for seed in seeds]
    shifts = _shifted([(rates, near) for *_, (rates, near) in of])
    common: dict[str, Any] = {
        "seeds": seeds,
        "runs": tuple(arm[seed].run_id for seed in seeds),
        "lost": lost,
        "notes": (f"{len(arm) - len(seeds)} of {len(arm)} runs never grok", f"grid: {max(coarse):.1%} of the step"),
    }
    columns = [np.array([one[i] for one in of]) for i in range(5)]
    lag, share, ratio, converged, overstated = columns
    return {
        "half of the fall": Measured(
            values={
                "lag": lag,
                "share of the fall by grokking": share,
                "rate ratio": ratio,
                "p of circular shifts": np.array([shifts]),
            },
            null=0.0,
            **common,
        ),
        "converged": Measured(
            values={"lag of the floor": converged, "rank at grokking / final rank": overstated}, null=1.0, **common
        ),
    }


def _one(run: OneRun, groks: float) -> tuple[float, float, float, float, float, tuple[np.ndarray, np.ndarray]]:
    """Lag, share, ratio of rates, lag of the floor, rank at grokking / final one; rates and where they count."""
    steps, rank = mean_rank(run)
    at = np.array(steps)
    fall = rank[0] - rank[-1]
    if fall <= 0:
        raise NotRun(f"the effective rank of {run.run_id} does not fall")
    half = middle(crossing(steps, rank, rank[0] - fall / 2 + 1e-12))
    floor = crossing(steps, rank, rank[-1] + FLOOR * fall)[1]
    then = float(np.interp(groks, at, rank))
    rates = -np.diff(rank) / np.diff(at)
    between = (at[1:] + at[:-1]) / 2
    near = np.abs(between - groks) <= NEAR * groks
    return (
        (half - groks) / groks,
        (rank[0] - then) / fall,
        _ratio(rates, near),
        (floor - groks) / groks,
        then / rank[-1],
        (rates, near),
    )


def _ratio(rates: np.ndarray, near: np.ndarray) -> float:
    outside = rates[~near].mean()
    return float(rates[near].mean() / outside) if outside > 0 else float("inf")


def _shifted(of: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """p-value of the mean rate near grokking, relative to each run's mean rate, by circular shifts of the rates."""
    draw = np.random.default_rng(SEED)
    scaled = [(rates / rates.mean(), near) for rates, near in of]
    observed = np.mean([rates[near].mean() for rates, near in scaled])
    shifted = [
        np.mean([np.roll(rates, draw.integers(1, len(rates)))[near].mean() for rates, near in scaled])
        for _ in range(RESAMPLES)
    ]
    return float((1 + np.sum(np.array(shifted) >= observed)) / (RESAMPLES + 1))


CLAIM = Claim(
    name="g2",
    version=1,
    statement="The effective rank falls when the validation loss does: the two coincide.",
    source="paper, figure 2; contested by arXiv 2607.06639",
    experiments=("modular_addition",),
    varies=("weight_decay",),
    null="a lag of 0; a rank at grokking equal to the final one; equal rates at all times (circular shifts)",
    rules={
        "half of the fall": Rule(
            statistic="(T_rank - T_grok) / T_grok with T_rank at half of the total fall of the mean effective rank and "
            "T_grok where the validation error crosses 1/2, middles of the checkpoints around both; rate of fall "
            "within 10 % of T_grok / rate outside",
            passes=(
                Condition("lag", "low", ">=", -0.1),
                Condition("lag", "high", "<=", 0.1),
                Condition("rate ratio", "median", ">=", 2.0),
                Condition("p of circular shifts", "value", "<", 0.05),
            ),
            fails=(
                Condition("lag", "low", ">", 0.25),
                Condition("lag", "high", "<", -0.25),
                Condition("share of the fall by grokking", "median", "<", 0.25),
                Condition("share of the fall by grokking", "median", ">", 0.9),
            ),
            seeds=5,
            effect=("lag", "low"),
            test=Condition("p of circular shifts", "value", "<", 0.05),
        ),
        "converged": Rule(
            statistic="(T_floor - T_grok) / T_grok with T_floor where the mean effective rank is within 5 % of its "
            "fall of the final one; rank at T_grok / final rank",
            passes=(
                Condition("lag of the floor", "high", "<=", 0.1),
                Condition("rank at grokking / final rank", "high ratio", "<=", 1.1),
            ),
            fails=(Condition("rank at grokking / final rank", "low ratio", ">", 1.3),),
            seeds=5,
            effect=("rank at grokking / final rank", "low ratio"),
        ),
    },
    measure=measure,
    needs={"S": ("grokking-s",), "M": ("grokking-m",), "L": ("grokking-m",)},
)
