"""Formats verdicts as tables: Markdown for documents, rows for a terminal."""

from collections.abc import Iterable, Sequence

from specdyn.tasks.verdicts.deciding import STATES
from specdyn.tasks.verdicts.judging import Verdict

HEADINGS = ("claim", "verdict", "on", "effect", "value", "90 % interval", "null", "p", "p (Holm)", "n")
NONE = "-"
"""Shown if a number, or its subject, does not exist."""


def verdict_rows(verdicts: Iterable[Verdict]) -> list[tuple[str, ...]]:
    """Verdicts under HEADINGS, failures first."""
    return [
        (
            one.title,
            one.state,
            one.case or NONE,
            one.effect or NONE,
            number(one.value),
            interval(one),
            number(one.null),
            number(one.p),
            number(one.p_holm),
            str(one.n) if one.n else NONE,
        )
        for one in in_order(verdicts)
    ]


def in_order(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Sort verdicts: failures first, then by claim."""
    return sorted(verdicts, key=lambda one: (STATES.index(one.state), one.claim, one.case))


def number(value: float | None) -> str:
    """A formatted number; a dash if there is none."""
    return NONE if value is None else f"{value:.3g}"


def interval(verdict: Verdict) -> str:
    """Both ends of its interval; a dash if there is none."""
    ends = (verdict.low, verdict.high)
    return NONE if None in ends else " to ".join(map(number, ends))


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; escapes bars in cells."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
