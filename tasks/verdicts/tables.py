"""Formats rules and verdicts as tables: Markdown for documents, rows for a terminal."""

from collections.abc import Iterable, Sequence

from specdyn.tasks.evidence.claim import Claim, Condition, Rule
from specdyn.tasks.verdicts.deciding import STATES, said
from specdyn.tasks.verdicts.judging import Verdict

RULE_HEADINGS = ("claim", "says", "for each seed", "passes where", "fails where", "beside", "seeds")
HEADINGS = ("claim", "verdict", "on", "effect", "value", "90 % interval", "null", "p", "p (Holm)", "n")
NONE = "-"
"""Shown if a number, or its subject, does not exist."""


def rules_table(claims: Iterable[Claim]) -> str:
    """The rules of claims as Markdown, one row per definition."""
    rows = [_rule(claim, name, rule) for claim in claims for name, rule in claim.rules.items()]
    return markdown(RULE_HEADINGS, rows)


def _rule(claim: Claim, name: str, rule: Rule) -> tuple[str, ...]:
    title = f"{claim.title} v{claim.version}" + (f", {name}" if len(claim.rules) > 1 else "")
    return (
        title,
        f"{claim.statement} ({claim.source})",
        rule.statistic,
        _all(rule.passes, "and"),
        _all(rule.fails, "or"),
        claim.null,
        str(rule.seeds),
    )


def _all(conditions: Sequence[Condition], joined: str) -> str:
    return f" **{joined}** ".join(map(said, conditions))


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
