"""Checkpoints that do not lie between their neighbours: from another run, or with damaged numbers."""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from specdyn.tasks.foreign.findings import Finding, finding, some
from specdyn.tasks.foreign.readings import Reading, angle

Path = Sequence[tuple[int, Reading]]
"""A layer by its steps."""

OFF_ANGLE = 0.3
"""Radians from which a turn between checkpoints counts."""
BETWEEN = 0.5
"""A checkpoint is off the way where its neighbours are nearer to one another than this part of its way to either.

On a straight way they are twice as far apart, on a random walk 1.4 times.
"""
OFF_NORM = math.log(2.0)
"""Difference of the logarithms of norms from which one counts."""
BREAK = 8.0
"""How many times a change exceeds those before and after it where training was broken off."""
EVEN = 4.0
"""How many times the gaps of steps beside a change may differ, if it is to be compared with theirs."""


def jumps(readings: Mapping[int, Mapping[str, Reading]], layers: Collection[str]) -> list[Finding]:
    """Single checkpoints whose layers lie off the way of the others, and places where the way breaks off.

    A change of scale is told apart from one of direction. Told where at least half of the layers show it; of fewer,
    single layers of one checkpoint.
    """
    paths = {name: [(step, of[name]) for step, of in sorted(readings.items()) if name in of] for name in layers}
    paths = {name: path for name, path in paths.items() if len(path) > 2 and not any(one.constant for _, one in path)}
    found: list[Finding] = []
    told: set[int] = set()
    for least, changes, what, advice in (
        (OFF_ANGLE, _turn, "direction", "another run's checkpoint, or a damaged one"),
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
        text = f"a jump of {what}: {where} lie off the way between the checkpoints before and after"
    else:
        text = f"a jump of {what}: {where} change more here than before and after"
        advice = "training restarted here, or the checkpoints are of two runs"
    tensor = names[0] if len(names) == 1 and of > 1 else ""
    return finding("warning", (step,), text, advice, tensor)


def _off(path: Path, change: Callable[[Reading, Reading], float], least: float) -> list[int]:
    """Steps whose neighbours are much nearer to one another than to it."""
    steps = []
    for (_, before), (step, one), (_, after) in zip(path, path[1:], path[2:], strict=False):
        way = min(change(before, one), change(one, after))
        if way > least and change(before, after) < BETWEEN * way:
            steps.append(step)
    return steps


def _broken(path: Path, change: Callable[[Reading, Reading], float], least: float) -> list[int]:
    """Steps to which a layer changes much more than in the gaps before and after, where these are about as long."""
    changes = [(b[0] - a[0], change(a[1], b[1]), b[0]) for a, b in itertools.pairwise(path)]
    steps = []
    for (gap_a, before, _), (gap, here, step), (gap_b, after, _) in zip(
        changes, changes[1:], changes[2:], strict=False
    ):
        even = max(gap_a, gap, gap_b) <= EVEN * min(gap_a, gap, gap_b)
        if even and here > least and here > BREAK * max(before, after):
            steps.append(step)
    return steps


def _turn(a: Reading, b: Reading) -> float:
    return angle(a, b)


def _scaling(a: Reading, b: Reading) -> float:
    return abs(math.log(a.norm / b.norm)) if 0 < a.norm < math.inf and 0 < b.norm < math.inf else math.nan
