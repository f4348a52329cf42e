"""Findings about the steps of a series: gaps, repeated names, and the order in which files were written."""

import itertools
import math
from collections.abc import Sequence

from specdyn.tasks.foreign.findings import Finding, finding
from specdyn.tasks.foreign.series import ForeignSeries


def in_steps(series: ForeignSeries) -> list[Finding]:
    """Steps missing from a grid, names with the same step, and checkpoints not written in the order of their steps."""
    findings = []
    if missing := missing_steps(series.steps):
        what = f"{series.found.unit} missing from a grid that continues after them: {len(missing)}"
        findings.append(finding("warning", missing, what, "rates of change across the hole span more steps"))
    for name, why in series.found.skipped:
        if name in series.found.repeated:
            findings.append(finding("note", (), f"{name} has {why}", "it is left out"))
    written = [(c.written, c.step) for c in series.found.checkpoints if not math.isnan(c.written)]
    late = tuple(b for (t, _), (u, b) in itertools.pairwise(written) if u < t - 1)
    if late:
        what = "written before the checkpoint of a smaller step"
        findings.append(finding("note", late, what, "check the steps in the names, unless the files were copied"))
    return findings


def missing_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """Steps missing from an even grid or from powers of one number; empty if there is no clear grid."""
    positive = [step for step in steps if step > 0]
    if missing := _holes(steps):
        return missing
    base = min((b // a for a, b in itertools.pairwise(positive)), default=0)
    if base < 2:
        return ()
    exponents = [round(math.log(step / positive[0], base)) for step in positive]
    if [positive[0] * base**e for e in exponents] != positive:
        return ()
    return tuple(positive[0] * base**e for e in _holes(exponents))


def _holes(steps: Sequence[int]) -> tuple[int, ...]:
    """Steps missing between equal gaps: a wider gap counts only between usual ones.

    So a grid that widens for good or ends early has no holes, nor does one with fewer than two usual gaps.
    """
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    usual, holes = 0, list[tuple[int, int]]()
    for i, gap in enumerate(gaps):
        if usual and gap > usual and gap % usual == 0 and usual in gaps[i + 1 :]:
            holes.append((i, usual))
        else:
            usual = gap
    clear = [(i, u) for i, u in holes if gaps.count(u) >= max(3, 2 * sum(other == u for _, other in holes))]
    return tuple(step for i, u in clear for step in range(steps[i] + u, steps[i + 1], u))
