"""Applies a rule to the quantities of a case: pass, fail or undecided, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from specdyn.tasks.evidence import statistics
from specdyn.tasks.evidence.claim import Condition, Measured, Over, Rule
from specdyn.tasks.evidence.statistics import Interval, interval, page, ratio_interval, spearman_interval

State = Literal["pass", "fail", "inconclusive", "contested", "not run"]
STATES: tuple[State, ...] = ("fail", "contested", "inconclusive", "pass", "not run")
"""States in display order, failures first."""
FEWEST = 3
"""Seeds below which nothing is decided (CLAIMS 2.8)."""
MOST = 30
"""Largest number of seeds considered in estimating how many would decide."""
TESTED_AT = 0.05
"""Level that a p-value must be able to reach with the given seeds; otherwise none is reported."""

COMPARE: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The result of a rule."""

    state: State
    why: str
    """The condition that decided, or those that prevent a decision."""
    effect: Interval
    p: float
    """NaN if the rule has no test, or there are too few seeds for a p-value."""
    needed: int
    """About how many seeds like these would decide; 0 if unknown or already decided."""


def decide(rule: Rule, measured: Measured) -> Decision:
    """Decide a rule: it passes if all its conditions for passing hold, and fails if one of those for failing does.

    It is inconclusive below the rule's number of seeds, if a condition cannot be evaluated, or if it would pass but a
    run is missing that the rule requires.
    """
    state, why = _state(rule, measured, len(measured.seeds))
    if state == "pass" and measured.lost and rule.lost == "undecided":
        state, why = "inconclusive", f"it would pass, but runs are missing: {'; '.join(measured.lost)}"
    needed = _needed(rule, measured) if state == "inconclusive" and not measured.lost else 0
    return Decision(state=state, why=why, effect=effect_of(rule, measured), p=p_of(rule, measured), needed=needed)


def _state(rule: Rule, measured: Measured, seeds: int) -> tuple[State, str]:
    least = max(rule.seeds, FEWEST)
    if seeds < least:
        return "inconclusive", f"{seeds} of the {least} seeds that it takes"
    failing = [condition for condition in rule.fails if holds(condition, measured)]
    open_ = [condition for condition in rule.passes if not holds(condition, measured)]
    if failing and not open_:
        return "contested", f"it passes, and {said(failing[0], measured)}"
    if failing:
        return "fail", "; ".join(said(condition, measured) for condition in failing)
    if not open_:
        return "pass", "; ".join(said(condition, measured) for condition in rule.passes)
    return "inconclusive", "; ".join(said(condition, measured, missed=True) for condition in open_)


def holds(condition: Condition, measured: Measured) -> bool | None:
    """Whether a condition holds; None if values are missing."""
    values = measured.values[condition.quantity]
    meets = COMPARE[condition.sign](values, condition.than)
    known = np.isfinite(values) | np.isinf(values)
    n, held = values.size, int((meets & known).sum())
    match condition.over:
        case "every":
            return False if (known & ~meets).any() else None if not known.all() or not n else True
        case "nearly every":
            spare = 1 if n >= 5 else 0
            return True if held >= n - spare and n else None if held + int((~known).sum()) >= n - spare else False
        case "most":
            return held > n / 2
        case "any":
            return held > 0
        case _:
            one = value_of(condition.quantity, condition.over, measured)
            return None if np.isnan(one) else bool(COMPARE[condition.sign](np.array(one), condition.than))


def value_of(quantity: str, over: Over, measured: Measured) -> float:
    """The number that a condition compares; NaN if there is none."""
    values = measured.values[quantity]
    if over in ("falls", "rises"):
        return page(values, falls=over == "falls")
    if over == "value":
        return float(values.ravel()[0])
    if over in ("median", "mean"):
        known = values[~np.isnan(values)]
        return float((np.median if over == "median" else np.mean)(known)) if known.size else float("nan")
    side, _, scale = over.partition(" ")
    return getattr(_interval(values, scale), side)


def _interval(values: np.ndarray, scale: str) -> Interval:
    return {"ratio": ratio_interval, "rho": spearman_interval, "": interval}[scale](values)


def effect_of(rule: Rule, measured: Measured) -> Interval:
    """The effect with its interval; the ends are NaN for a number of all seeds together."""
    quantity, over = rule.effect
    values = measured.values[quantity]
    if over == "value":
        return Interval(float("nan"), float(values.ravel()[0]), float("nan"))
    return _interval(values, over.partition(" ")[2])


def p_of(rule: Rule, measured: Measured) -> float:
    """The p-value of a rule's test: Page's test along an axis, sign flips for a mean; NaN if n is too small."""
    test = rule.test
    if test is None:
        return float("nan")
    if test.over in ("falls", "rises", "value"):
        return value_of(test.quantity, test.over, measured)
    values, than = statistics.by_seed(measured.values[test.quantity]), test.than
    if test.over.endswith("ratio"):
        with np.errstate(divide="ignore", invalid="ignore"):
            values, than = np.log(values), float(np.log(than))
    values = values[np.isfinite(values)]
    if not len(values) or 0.5 ** len(values) > TESTED_AT:
        return float("nan")
    return statistics.sign_flip((values - than) * (1 if test.sign in (">", ">=") else -1))


def _needed(rule: Rule, measured: Measured) -> int:
    """The fewest seeds at which the rule decides if the existing seeds are repeated cyclically."""
    n = len(measured.seeds)
    per_seed = {name: of.shape[0] == n and n > 1 for name, of in measured.values.items()}
    for seeds in range(n + 1, MOST + 1):
        at = np.arange(seeds) % n
        values = {name: of[at] if per_seed[name] else of for name, of in measured.values.items()}
        more = Measured(seeds=tuple(range(seeds)), values=values)
        if _state(rule, more, seeds)[0] != "inconclusive":
            return seeds
    return 0


WORDS: dict[str, str] = {
    "every": "in every seed",
    "nearly every": "in every seed (four of five)",
    "most": "in most seeds",
    "any": "in some seed",
    "median": "median",
    "mean": "mean",
    "falls": "p of a fall",
    "rises": "p of a rise",
    "value": "",
}


def said(condition: Condition, measured: Measured | None = None, missed: bool = False) -> str:
    """A condition in words, with the measured value if given."""
    side = condition.over.partition(" ")[0]
    where = WORDS.get(condition.over) or {"low": "lower 90 % end", "high": "upper 90 % end"}.get(side, "")
    text = f"{condition.quantity} {condition.sign} {condition.than:g}" + (f" ({where})" if where else "")
    if measured is None:
        return text
    values = measured.values[condition.quantity]
    if condition.over in ("every", "nearly every", "most", "any"):
        known = values[~np.isnan(values)]
        found = f"{known.min():.3g} to {known.max():.3g}" if known.size else "not known"
    else:
        one = value_of(condition.quantity, condition.over, measured)
        found = "not known" if np.isnan(one) else f"{one:.3g}"
    return f"{'not ' if missed else ''}{text}: {found}"
