"""Findings: the results of an audit of a series of checkpoints."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES = ("error", "warning", "note")
HEADINGS = ("severity", "steps", "tensor", "what", "advice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One irregularity; errors stop the analysis."""

    severity: Severity
    steps: tuple[int, ...]
    tensor: str
    """The tensor concerned; empty for whole checkpoints."""
    what: str
    """What was found, and what was expected."""
    advice: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells under HEADINGS."""
        steps = ", ".join(map(str, self.steps[:6])) + (", ..." if len(self.steps) > 6 else "")
        return self.severity, steps or "-", self.tensor or "-", self.what, self.advice


def finding(severity: Severity, steps: Sequence[int], what: str, advice: str, tensor: str = "") -> Finding:
    """A finding about some checkpoints, or a tensor in them."""
    return Finding(severity=severity, steps=tuple(steps), tensor=tensor, what=what, advice=advice)


def some(names: Sequence[str], count: int = 3) -> str:
    """A few of many names."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def as_plain(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """The findings as JSON values."""
    return [{**dataclasses.asdict(finding), "steps": list(finding.steps)} for finding in findings]
