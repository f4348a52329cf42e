"""Finds checkpoints that break the trajectory: from another run, or with damaged numbers."""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from specdyn.tasks.foreign.findings import Finding, finding, some
from specdyn.tasks.foreign.readings import Reading, angle

Path = Sequence[tuple[int, Reading]]
"""The readings of a layer, by step."""

OFF_ANGLE = 0.3
"""Least turn between checkpoints that counts, in radians."""
BETWEEN = 0.5
"""A checkpoint is off the trajectory if its neighbours' distance is below this multiple of its distance to either.

On a straight line the multiple is 2, on a random walk 1.4.
"""
OFF_NORM = math.log(2.0)
"""Least difference of log norms that counts."""
BREAK = 8.0
"""A change this many times larger than those before and after it means that training was interrupted."""
EVEN = 4.0
"""Largest ratio between neighbouring gaps of steps whose changes are compared."""


def jumps(readings: Mapping[int, Mapping[str, Reading]], layers: Collection[str]) -> list[Finding]:
    """Find single checkpoints off the trajectory of the others, and places where the trajectory breaks.

    Distinguishes changes of scale from changes of direction. Reported if at least half of the layers show it; with
    fewer, only single layers of one checkpoint.
    """
    paths = {name: [(step, of[name]) for step, of in sorted(readings.items()) if name in of] for name in layers}
    paths = {name: path for name, path in paths.items() if len(path) > 2 and not any(one.constant for _, one in path)}
    found: list[Finding] = []
    told: set[int] = set()
    for least, changes, what, advice in (
        (OFF_ANGLE, angle, "direction", "another run's checkpoint, or a damaged one"),
        (OFF_NORM, _scaling, "norm", "another scale, such as merged or rescaled weights"),
    ):
        for kind, at in (("off", _off), ("broken", _broken)):
            steps: dict[int, list[str]] = {}
            for name, path in paths.items():
                for step in at(path, changes, least):
                    steps.setdefault(step, []).append(name)
            for step, names in sorted(steps.items()):
                if step not in told:
                    told.add(step)
                    found.append(_told(step, names, len(paths), kind, what, advice))
    return found


def _told(step: int, names: list[str], of: int, kind: str, what: str, advice: str) -> Finding:
    where = f"{len(names)} of {of} layers" if 2 * len(names) >= of else some(names)
    if kind == "off":
        text = f"a jump of {what}: {where} are off the path between the checkpoints before and after"
    else:
        text = f"a jump of {what}: {where} change more here than before and after"
        advice = "training restarted here, or the checkpoints are of two runs"
    tensor = names[0] if len(names) == 1 and of > 1 else ""
    return finding("warning", (step,), text, advice, tensor)


def _off(path: Path, change: Callable[[Reading, Reading], float], least: float) -> list[int]:
    """Steps whose neighbours are much closer to one another than to the step itself."""
    steps = []
    for (_, before), (step, one), (_, after) in zip(path, path[1:], path[2:], strict=False):
        way = min(change(before, one), change(one, after))
        if way > least and change(before, after) < BETWEEN * way:
            steps.append(step)
    return steps


def _broken(path: Path, change: Callable[[Reading, Reading], float], least: float) -> list[int]:
    """Steps to which a layer changes much more than in the gaps before and after, if these are of similar length."""
    changes = [(b[0] - a[0], change(a[1], b[1]), b[0]) for a, b in itertools.pairwise(path)]
    steps = []
    for (gap_a, before, _), (gap, here, step), (gap_b, after, _) in zip(
        changes, changes[1:], changes[2:], strict=False
    ):
        even = max(gap_a, gap, gap_b) <= EVEN * min(gap_a, gap, gap_b)
        if even and here > least and here > BREAK * max(before, after):
            steps.append(step)
    return steps


def _scaling(a: Reading, b: Reading) -> float:
    return abs(math.log(a.norm / b.norm)) if 0 < a.norm < math.inf and 0 < b.norm < math.inf else math.nan
