"""G2, G6, G8 and R3, whose cases lie in time, and the borders of some rules."""

import numpy as np
import pytest

from helpers.claimed import STEPS, TIME, T, falling, judged, run, splits
from specdyn.tasks.evidence.claim import Condition, Measured, Rule
from specdyn.tasks.verdicts.deciding import decide

Runs = list[dict[str, object]]


def lagging(rank_at: float, seeds: int = 5, more: float = 0.0, width: float = 0.01) -> Runs:
    """Runs that grok in the middle, whose ranks fall at some time, and then by a further share of what is left."""
    rank = falling(0.9, 0.4, rank_at, width) - more * np.clip((TIME - 0.5) / 0.5, 0, 1)
    return [
        run(
            seed,
            values={"err": splits(0, falling(1, 0, 0.5 + 0.002 * seed, 0.005)), "effective_rank": rank},
            weight_decay=1.0,
        )
        for seed in range(seeds)
    ]


def test_falls_at_one_time_pass_and_others_fail() -> None:
    assert judged("g2", *lagging(0.5)).definitions["half of the fall"] == "pass"
    late = judged("g2", *lagging(0.8))
    assert late.state == "fail" and late.value == pytest.approx(0.55, abs=0.05)
    assert judged("g2", *lagging(0.58, width=0.1)).definitions["half of the fall"] == "inconclusive", "a lag below .25"
    early = judged("g2", *lagging(0.2))
    assert early.definitions["half of the fall"] == "fail", "nearly all of the fall is done when it groks"


def test_a_rank_that_goes_on_falling_is_contested() -> None:
    verdict = judged("g2", *lagging(0.5, more=0.25))
    assert verdict.definitions == {"half of the fall": "pass", "converged": "fail"}, verdict.sentence
    assert verdict.state == "contested"


def test_lags_take_five_runs_that_grok_and_a_fine_grid() -> None:
    assert judged("g2", *lagging(0.5, seeds=3)).state == "inconclusive"
    never = run(5, values={"err": splits(0, 1.0)}, weight_decay=1.0)
    counted = judged("g2", *lagging(0.5), never)
    assert counted.n == 5 and "1 of 6 runs never grok" in counted.notes
    soon = [run(s, values={"err": splits(0, falling(1, 0, 0.1, 0.005))}, weight_decay=1.0) for s in range(5)]
    assert "lags take 5% or less" in judged("g2", *soon).sentence
    assert "none of 1 runs groks" in judged("g2", never).sentence


def slingshot(width: float, end: float = 0.0) -> Runs:
    error = splits(0, falling(1, end, 0.51, width))
    return [run(s, values={"err": error, "effective_rank": falling(0.9, 0.5)}, layernorm=True) for s in range(3)]


def test_a_coarse_grid_has_no_share_of_a_fall() -> None:
    assert "further apart than 1%" in judged("g6", *slingshot(0.1)).sentence


def test_gradual_falls_pass_and_sudden_ones_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specdyn.tasks.claims.g6.WINDOW", 1.5 / T)
    assert judged("g6", *slingshot(0.06)).state == "pass"
    assert judged("g6", *slingshot(0.001)).state == "fail"
    assert judged("g6", *slingshot(0.06, end=0.3)).state == "inconclusive", "it does not generalise"


def groks_at(*places: float) -> Runs:
    return [
        run(
            seed,
            values={"err": splits(0, falling(1, 0, place, 0.005)), "effective_rank": 0.4 + 0.01 * seed},
            weight_decay=1.0,
        )
        for seed, place in enumerate(places)
    ]


def test_variation_over_seeds_counts_only_seeds_that_grok() -> None:
    assert judged("g8", *groks_at(0.3, 0.5, 0.8)).state == "pass"
    assert judged("g8", *groks_at(0.5, 0.5, 0.5)).state == "fail"
    assert judged("g8", *groks_at(0.5, 0.52, 0.53)).state == "inconclusive"
    two = judged("g8", *groks_at(0.3, 0.5, 2.0))
    assert two.state == "inconclusive" and "1 of 3 runs never grok" in two.notes
    assert judged("g8", *groks_at(0.3, 2.0, 2.0)).state == "not run"


def bending(at: float) -> Runs:
    rank = np.where(at > TIME, 0.9 - 0.5 * TIME, 0.9 - 0.5 * at - 0.01 * (TIME - at))
    return [run(s, values={"effective_rank": rank}, weight_decay=1e-4) for s in range(3)]


def test_a_bend_is_looked_for_at_the_drop_of_the_rate() -> None:
    how = {"experiment": "image_classification"}
    assert judged("r3", *bending(0.5), **how).state == "pass"
    assert judged("r3", *bending(0.8), **how).state == "fail"
    assert judged("r3", *bending(0.525), **how).state == "inconclusive"


def one(passes: Condition, fails: Condition, values: list[float], seeds: int = 3, lost: tuple[str, ...] = ()) -> str:
    rule = Rule(statistic="x", passes=(passes,), fails=(fails,), effect=("x", "low"), seeds=seeds)
    measured = Measured(seeds=tuple(range(len(values))), values={"x": np.array(values)}, lost=lost)
    return decide(rule, measured).state


BELOW, ABOVE = Condition("x", "every", "<", 0.05), Condition("x", "any", ">", 0.5)


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([0.0, 0.01, 0.0499], "pass"),
        ([0.0, 0.01, 0.05], "inconclusive"),
        ([0.0, 0.01, 0.5], "inconclusive"),
        ([0.0, 0.01, 0.5001], "fail"),
        ([0.0, 0.01, float("nan")], "inconclusive"),
        ([float("nan")] * 3, "inconclusive"),
        ([0.0, 0.01], "inconclusive"),
        ([0.9, 0.9], "inconclusive"),
    ],
)
def test_thresholds_are_borders(values: list[float], state: str) -> None:
    assert one(BELOW, ABOVE, values) == state


def test_four_of_five_seeds_suffice_where_a_rule_says_so() -> None:
    nearly = Condition("x", "nearly every", "<", 0.05)
    assert one(nearly, ABOVE, [0, 0, 0, 0, 0.3]) == "pass"
    assert one(nearly, ABOVE, [0, 0, 0, 0.3]) == "inconclusive"
    assert one(nearly, ABOVE, [0, 0, 0, 0.3, 0.3]) == "inconclusive"


def test_what_passes_and_fails_at_once_is_contested_and_what_is_lost_is_undecided() -> None:
    assert one(BELOW, Condition("x", "any", "<", 1), [0, 0, 0]) == "contested"
    assert one(BELOW, ABOVE, [0, 0, 0], lost=("run",)) == "inconclusive"
    assert one(BELOW, ABOVE, [0.6, 0, 0], lost=("run",)) == "fail"


def test_how_many_seeds_would_decide_is_said() -> None:
    rule = Rule(
        statistic="x",
        passes=(Condition("x", "high ratio", "<", 0.9),),
        fails=(Condition("x", "low ratio", ">", 1.0),),
        effect=("x", "low ratio"),
        test=Condition("x", "low ratio", "<", 1.0),
    )

    def decided(values: list[float]) -> tuple[str, int, bool]:
        found = decide(rule, Measured(seeds=tuple(range(len(values))), values={"x": np.array(values)}))
        return found.state, found.needed, bool(np.isfinite(found.p))

    assert decided([0.5, 0.51, 0.52]) == ("pass", 0, False), "three seeds allow no p-value below .05"
    state, needed, _ = decided([0.5, 0.7, 1.0])
    assert state == "inconclusive" and 4 <= needed <= 8
    assert decided([0.5, 0.51, 0.52, 0.5, 0.53]) == ("pass", 0, True)
    assert decided([0.95, 0.96, 0.97])[:2] == ("inconclusive", 0), "no number of seeds like these decides"


def test_steps_match_the_cube() -> None:
    assert len(STEPS) == T
