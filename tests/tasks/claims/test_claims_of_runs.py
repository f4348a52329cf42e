"""Every claim about runs, on cubes made to pass, to fail and to be undecidable."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers.claimed import DIMS, LAYERS, PAIRS, TIME, R, T, falling, halves, judged, run, splits, ways
from specdyn.tasks.verdicts.judging import Verdict

SEEDS = range(3)
Runs = list[dict[str, Any]]


def each(of: Callable[[int], Runs], seeds: Any = SEEDS) -> Runs:
    return [one for seed in seeds for one in of(seed)]


def grokking(with_decay: float, without: float, ratio: float) -> Runs:
    return each(
        lambda seed: [
            run(
                seed,
                values={"err": splits(0, falling(1, with_decay)), "effective_rank": 0.9 * ratio + 0.01 * seed},
                weight_decay=1.0,
            ),
            run(seed, values={"err": splits(0, falling(1, without)), "effective_rank": 0.9}, weight_decay=0.0),
        ]
    )


def peaks(first: int, last: int, jump: int = 0) -> Runs:
    """Runs whose embedding is aligned most at a rank that moves."""

    def of(seed: int) -> Runs:
        at = np.linspace(first, last, T) + (
            jump * np.random.default_rng(seed).permutation(np.arange(T) % 2) if jump else 0
        )
        bumps = np.exp(-((np.arange(R) - at[:, None]) ** 2) / 8)
        return [run(seed, values={"alignment": bumps}, weight_decay=1.0)]

    return each(of)


def fractions(much: dict[str, Any], little: dict[str, Any], grokked: dict[str, Any] | None = None) -> Runs:
    def of(seed: int) -> Runs:
        runs = [run(seed, values=much, train_fraction=0.9), run(seed, values=little, train_fraction=0.3)]
        return [*runs, *([run(seed, values=grokked, train_fraction=0.3, weight_decay=1.0)] if grokked else [])]

    return each(of)


def alone(seeds: Any = SEEDS, **values: Any) -> Runs:
    return each(lambda seed: [run(seed, values=values, weight_decay=1.0)], seeds)


def decays(
    of: Callable[[int, float], dict[str, Any]], levels: tuple[float, ...] = (0.0, 0.1, 1.0), **settings: Any
) -> Runs:
    return each(lambda seed: [run(seed, values=of(seed, wd), weight_decay=wd, **settings) for wd in levels])


def by_rank(slope: float) -> np.ndarray:
    """Singular values that grow by rank, as (T, R)."""
    return np.exp(np.outer(TIME, slope * np.arange(R) / R)) * np.linspace(2, 1, R)


def settling(places: np.ndarray) -> np.ndarray:
    """Agreement (T, R) that passes .8 at these places."""
    return np.where(np.arange(T)[:, None] >= places, 0.9, 0.1)


def crossed(sgd: int, adamw: int) -> Runs:
    """Runs of both optimizers over four weight decays, which collapse from a level on."""
    levels = (0.0, 0.1, 1.0, 10.0)
    return each(
        lambda seed: [
            run(seed, values={"collapse": 2.0 if i >= first else 1.0}, weight_decay=wd, optimizer=name)
            for name, first in (("sgd", sgd), ("adamw", adamw))
            for i, wd in enumerate(levels)
        ]
    )


def across(inside: float, outside: float) -> np.ndarray:
    """Alignment scores of the MLP's pair and of the others."""
    return np.array([inside if "linear1" in pair and "linear2" in pair else outside for pair in PAIRS])[:, None]


def controls(ratio: float, norms: float = 1.0) -> Runs:
    def of(seed: int) -> Runs:
        decayed = run(seed, values={"effective_rank": 0.9 * ratio}, weight_decay=1.0, run_id=f"decayed{seed}")
        control = run(seed, values={"frobenius_norm": 10 * norms}, norm_run=f"decayed{seed}", run_id=f"control{seed}")
        return [decayed, control]

    return each(of)


def labelled(true: dict[str, Any], random: dict[str, Any], seeds: int = 5, learned: float = 0.0) -> Runs:
    def of(seed: int) -> Runs:
        return [
            run(seed, values={"err": splits(learned, error), **values}, labels=name)
            for name, error, values in (("true", 0.3, true), ("random", 0.9, random))
        ]

    return each(of, range(seeds))


def noisy(rank: Callable[[float], float], learned: float = 0.0, shares: Any = (0.0, 0.25, 0.5, 1.0)) -> Runs:
    """Networks on labels of which a share is random, which learn their set; the gap grows with the share."""

    def of(seed: int) -> Runs:
        return [
            run(
                seed,
                values={"err": splits(learned, 0.1 + 0.8 * noise), "effective_rank": rank(noise) + 0.01 * seed},
                noise=noise,
            )
            for noise in shares
        ]

    return each(of)


def rates(scores: dict[float, float], losses: dict[float, Any] | None = None) -> Runs:
    """Networks by learning rate, all of which learn alike unless their losses are said."""

    def of(seed: int) -> Runs:
        return [
            run(
                seed,
                values={
                    "alignment_score": score * (1 + 0.02 * seed) if np.ndim(score) == 0 else score,
                    "loss": splits((losses or {}).get(rate, falling(2.0, 0.1)), 1.0),
                },
                learning_rate=rate,
            )
            for rate, score in scores.items()
        ]

    return each(of)


def inner(ranks: float, spread: float = 0.0) -> dict[str, Any]:
    """Effective ranks of the inner layers, which differ; first and last have 1."""
    layers = np.ones(len(LAYERS))
    layers[1:-1] = ranks + spread * np.linspace(-1, 1, len(LAYERS) - 2)
    return {"effective_rank": layers[:, None]}


RISE, HUMP = np.linspace(0.1, 0.5, T), 0.1 + 0.4 * np.sin(np.pi * TIME)
NOISE = np.random.default_rng(5).permutation(np.arange(R))
MIXED = NOISE + 0.5 * np.arange(R)
FALLEN = {"effective_rank": falling(0.9, 0.5)}
HALF_OF_THEM = {"effective_rank": np.where(np.arange(len(LAYERS))[:, None] < 3, falling(0.9, 0.5), 0.9)}
MOST_OF_THEM = {"effective_rank": np.where(np.arange(len(LAYERS))[:, None] < 5, falling(0.9, 0.5), 0.9)}
GENERALISES, GUESSES = splits(0, falling(1, 0)), splits(0, 0.97)
CASES: dict[str, dict[str, Runs]] = {
    "g1": {"pass": grokking(0.0, 0.9, 0.5), "fail": grokking(0.0, 0.02, 0.5), "inconclusive": grokking(0.0, 0.9, 0.8)},
    "g3": {"pass": peaks(12, 2), "fail": peaks(2, 12), "inconclusive": peaks(7, 7, 3)},
    "g4": {
        "pass": fractions({"err": GENERALISES, "effective_rank": 0.5}, {"err": GUESSES}),
        "fail": fractions({"err": GUESSES, "effective_rank": 0.5}, {"err": GUESSES}),
        "inconclusive": fractions({"err": splits(0, falling(1, 0.2)), "effective_rank": 0.5}, {"err": GUESSES}),
    },
    "g5": {
        "pass": fractions({"frobenius_norm": 30.0, "effective_rank": 0.6}, {}, {"effective_rank": 0.3}),
        "fail": fractions({"frobenius_norm": 3.0, "effective_rank": 0.6}, {}, {"effective_rank": 0.3}),
        "inconclusive": fractions({"frobenius_norm": 30.0, "effective_rank": 0.95}, {}, {"effective_rank": 0.3}),
    },
    "g7": {
        "pass": fractions({"alignment_score": 0.3}, {"alignment_score": 0.1}, {"alignment_score": 0.4}),
        "fail": fractions({"alignment_score": 0.05}, {"alignment_score": 0.1}, {"alignment_score": 0.4}),
        "inconclusive": fractions({"alignment_score": 0.1}, {"alignment_score": 0.1}, {"alignment_score": 0.4}),
    },
    "r1": {"pass": alone(**FALLEN), "fail": alone(**HALF_OF_THEM), "inconclusive": alone(**MOST_OF_THEM)},
    "r2": {
        "pass": alone(singular_value=by_rank(-2)),
        "fail": alone(singular_value=by_rank(2)),
        "inconclusive": alone(singular_value=np.exp(np.outer(TIME, -MIXED) / R)),
    },
    "p1": {
        "pass": alone(loss=0.1, pruned_loss=halves(0.12, 3.0), curve_loss=ways(random=2.5, energy_matched=2.0)),
        "fail": alone(loss=0.1, pruned_loss=halves(2.5, 3.0), curve_loss=ways(random=2.5, energy_matched=2.0)),
        "inconclusive": alone(loss=0.1, pruned_loss=halves(0.9, 3.0), curve_loss=ways(random=2.5, energy_matched=2.0)),
    },
    "p2": {
        "pass": decays(lambda seed, wd: {"pruned_loss": halves(2 - wd + 0.01 * seed, 3)}),
        "fail": decays(lambda seed, wd: {"pruned_loss": halves(1 + wd + 0.01 * seed, 3)}),
        "inconclusive": decays(lambda seed, wd: {"pruned_loss": halves(1 + [0, 0.3, -0.3][seed] * wd, 3)}),
    },
    "a1": {"pass": alone(), "fail": alone(alignment_score=0.5), "inconclusive": alone(alignment_score=0.15)},
    "a2": {
        "pass": alone(alignment_score=falling(0.1, 0.3)),
        "fail": alone(alignment_score=0.1),
        "inconclusive": alone(alignment_score=0.3),
    },
    "v1": {
        "pass": alone(agreement=settling(2 * np.arange(R))),
        "fail": alone(agreement=settling(2 * np.arange(R)[::-1])),
        "inconclusive": alone(agreement=settling(NOISE)),
    },
    "w1": {
        "pass": decays(lambda seed, wd: {"effective_rank": 0.9 - 0.5 * wd + 0.01 * seed}),
        "fail": decays(lambda seed, wd: {"effective_rank": 0.5 + 0.3 * wd + 0.01 * seed}),
        "inconclusive": decays(lambda seed, wd: {"effective_rank": 0.9 - 0.07 * wd + 0.01 * seed}),
    },
    "w2": {
        "pass": decays(lambda _, wd: {"frobenius_norm": falling(10, 0.01) if wd == 1 else 10.0}),
        "fail": decays(lambda _, wd: {}),
        "inconclusive": decays(
            lambda _, wd: {"collapse": np.where(np.arange(len(LAYERS))[:, None] < 3, 2.0, 1.0) if wd == 1 else 1.0}
        ),
    },
    "w3": {"pass": crossed(2, 3), "fail": crossed(3, 2), "inconclusive": crossed(1, 3)[:16] + crossed(2, 2)[16:]},
    "w4": {
        "pass": decays(lambda _, wd: {"alignment_score": across(0.8, 0.2)}),
        "fail": decays(lambda _, wd: {"alignment_score": across(0.12, 0.2)}),
        "inconclusive": decays(lambda _, wd: {"alignment_score": across(0.3, 0.2)}),
    },
    "w5": {
        "pass": decays(lambda _, wd: {"effective_rank": 0.9 - 0.6 * wd}),
        "fail": decays(lambda _, wd: {"effective_rank": 0.9 - 0.6 * wd, "loss": 1 + 3 * wd}),
        "inconclusive": decays(lambda _, wd: {"effective_rank": 0.9 - 0.3 * wd}),
    },
    "w6": {"pass": controls(0.6), "fail": controls(1.0), "inconclusive": controls(0.6, norms=2.0)},
    "n1": {
        "pass": noisy(lambda noise: 0.5 + 0.3 * noise),
        "fail": noisy(lambda noise: 0.8 - 0.3 * noise),
        "inconclusive": noisy(lambda noise: 0.5 + 0.02 * noise),
    },
    "n2": {
        "pass": rates({0.001: 0.4, 0.01: 0.25, 0.1: 0.1}),
        "fail": rates({0.001: 0.1, 0.01: 0.25, 0.1: 0.3}),
        "inconclusive": rates({0.001: 0.15, 0.01: 0.12, 0.1: 0.1}),
    },
    "l1": {
        "pass": labelled(inner(0.5), inner(0.8)),
        "fail": labelled(inner(0.8), inner(0.5)),
        "inconclusive": labelled(inner(0.78), inner(0.8)),
    },
    "l2": {
        "pass": labelled({"alignment_score": RISE}, {"alignment_score": HUMP}),
        "fail": labelled({"alignment_score": RISE}, {"alignment_score": RISE}),
        "inconclusive": labelled({"alignment_score": RISE}, {"alignment_score": 0.5 - 0.2 * TIME}),
    },
    "l3": {
        "pass": labelled({}, {}),
        "fail": labelled({"err": splits(0, 0.9)}, {}),
        "inconclusive": labelled({}, {"err": splits(0, 0.7)}),
    },
}  # fmt: skip
EXPERIMENT = {"w4": "language_modelling", "w5": "image_generation"}


def of(claim: str, runs: Runs, **options: Any) -> Verdict:
    return judged(claim, *runs, experiment=EXPERIMENT.get(claim, "modular_addition"), **options)


@pytest.mark.parametrize("state", ["pass", "fail", "inconclusive"])
@pytest.mark.parametrize("claim", CASES)
def test_a_claim_is_decided_by_its_rule(claim: str, state: str) -> None:
    runs = CASES[claim][state]
    verdict = of(claim, runs)
    assert verdict.state == state, verdict.sentence
    assert verdict.n >= 3 and verdict.runs and verdict.sentence.endswith(".")
    assert set(verdict.runs) <= {one["settings"].get("run_id") or f"run{i}" for i, one in enumerate(runs)}


@pytest.mark.parametrize("claim", CASES)
def test_a_run_that_is_lost_keeps_a_claim_from_passing_and_is_named(claim: str) -> None:
    for status in ("failed", "planned", "partial", "damaged"):
        runs = [dict(one) for one in CASES[claim]["pass"]]
        runs[-1]["status"] = status
        verdict = of(claim, runs)
        assert verdict.state in ("inconclusive", "not run"), verdict.sentence
        assert verdict.state == "not run" or any(status in lost for lost in verdict.lost)


@pytest.mark.parametrize("claim", CASES)
def test_two_seeds_decide_nothing(claim: str) -> None:
    runs = [one for one in CASES[claim]["pass"] if one["seed"] < 2]
    verdict = of(claim, runs)
    assert verdict.state == "inconclusive", verdict.sentence
    assert verdict.needed >= 3


@pytest.mark.parametrize("claim", CASES)
def test_collapsed_layers_are_never_a_crash(claim: str) -> None:
    runs = CASES[claim]["pass"]
    gone = [
        {**one, "arrays": {**one["arrays"], "collapse": np.full_like(one["arrays"]["collapse"], 2.0)}} for one in runs
    ]
    verdict = of(claim, gone)
    if claim in ("g1", "p2", "w1", "w4", "w5", "w6", "l1", "n1"):
        assert verdict.state != "pass", verdict.sentence


@pytest.mark.parametrize("claim", CASES)
def test_results_without_what_is_measured_say_so(claim: str) -> None:
    spared = ("alignment_null", "loss", "spectral_norm", "curve_loss")
    without = [name for name in DIMS if name not in spared]
    said = of(claim, CASES[claim]["pass"], without=without)
    assert said.state == "not run"
    assert "not among the results" in said.sentence or "measures no error" in said.sentence


@pytest.mark.parametrize(
    ("error", "loss", "state"),
    [
        ((3.0, 1.0), (30.0, 3.0), "pass"),  # CTC that learned only silence: below a tenth of its first loss
        ((3.0, 0.5), (30.0, 29.0), "inconclusive"),
        ((0.9, 0.9), (2.3, 1.0), "pass"),
        ((0.9, 0.6), (2.3, 2.3), "inconclusive"),
    ],
)
def test_a_network_that_stopped_working_is_at_chance_whatever_its_loss_began_at(
    error: tuple[float, float], loss: tuple[float, float], state: str
) -> None:
    values = {"frobenius_norm": falling(10, 0.01), "err": splits(falling(*error), 1), "loss": splits(falling(*loss), 1)}
    assert of("w2", decays(lambda _, wd: values if wd == 1 else {})).state == state


def test_without_an_error_the_loss_is_compared_with_the_first() -> None:
    def runs(end: float) -> Runs:
        values = {"frobenius_norm": falling(10, 0.01), "loss": splits(falling(1.0, end), 1)}
        return decays(lambda _, wd: values if wd == 1 else {})

    states = [of("w2", runs(end), without=["err"]).state for end in (0.9, 0.5)]
    assert states == ["pass", "inconclusive"]


def test_networks_that_do_not_learn_their_set_have_no_gap() -> None:
    unlearned = of("n1", noisy(lambda noise: 0.5 + 0.3 * noise, learned=0.5))
    assert unlearned.state == "not run" and "learn their training set" in unlearned.sentence
    few = of("n1", noisy(lambda noise: 0.5 + 0.3 * noise, shares=(0.0, 1.0)))
    assert few.state == "not run" and "2 shares of random labels" in few.sentence


def test_a_level_that_breaks_the_order_is_an_exception() -> None:
    ranks = {0.0: 0.5, 0.25: 0.6, 0.5: 0.55, 1.0: 0.8}
    verdict = of("n1", noisy(ranks.__getitem__))
    assert verdict.exceptions == ("noise 0.5 has a larger gap than 0.25 and no higher rank: 0.560 and 0.610",)
    assert verdict.value == pytest.approx(0.8), "1 - 6 * (1 + 1) / (4 * 15), the same in every seed"


def test_alignment_is_compared_at_equal_training_loss() -> None:
    """Scores grow in time alike at every rate: a rate that learns late is no better aligned, only looked at later."""
    late, early = falling(2.0, 0.1, at=0.8), falling(2.0, 0.1, at=0.2)
    grown = np.broadcast_to(0.1 + 0.4 * TIME, (len(PAIRS), T))
    verdict = of("n2", rates({0.001: grown, 0.01: grown, 0.1: grown}, {0.001: late, 0.01: early, 0.1: early}))
    reached = [int(np.flatnonzero(curve <= max(late.min(), early.min()))[0]) for curve in (late, early)]
    assert verdict.value == pytest.approx(grown[0, reached[0]] / grown[0, reached[1]], rel=1e-6)


def test_a_rate_that_learns_nothing_is_not_compared() -> None:
    verdict = of("n2", rates({0.001: 0.4, 0.01: 0.25, 0.1: 0.1}, {0.001: falling(2.0, 1.5)}))
    assert verdict.state == "not run" and "below 0.5 of the first" in verdict.sentence
