"""Progress of the units of a call: bars in the terminal and progress artifacts in Prefect."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Self
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from specdyn.tasks.plan.live import pause_after
from specdyn.tasks.plan.tables import duration
from specdyn.tasks.plan.units import Unit

ARTIFACT_SECONDS = 5.0
BAR_SECONDS = 2.0
LINE_SECONDS = 30.0
"""Seconds between lines if there is no terminal for bars; finishing a kind of unit prints a line at once."""


class UnitProgress:
    """Counts the finished parts of each kind of unit in a call; drawn from the flow's own thread.

    Parts visible in the store, such as the checkpoints of a training, are counted there, whichever process makes
    them. `seconds_of` holds the expected seconds of units by key: a part of a training weighs more in the time left
    than a part of an analysis.
    """

    def __init__(
        self,
        title: str,
        units: Sequence[Unit],
        tell: Callable[[str], None] = lambda _: None,
        seconds_of: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._tell = tell
        self._title, self._lock, self._units = title, threading.Lock(), {unit.key: unit for unit in units}
        self._totals: Counter[str] = Counter()
        for unit in units:
            self._totals[unit.kind] += unit.parts
        self._seconds: dict[str, float] = dict.fromkeys(self._totals, 0.0)
        for unit in units:
            self._seconds[unit.kind] += seconds_of.get(unit.key, 0.0)
        self._made: Counter[str] = Counter()
        """Parts of finished units, by kind."""
        self._under_way: Counter[str] = Counter()
        """Parts of unfinished units, by key."""
        self._bars = Progress(
            TextColumn("{task.description:9}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
        )
        self._bar: dict[str, TaskID] = {}
        self._artifacts: dict[str, UUID] = {}
        self._shown = dict.fromkeys(self._totals, 0.0)
        self._looked = self._published = self._took = 0.0
        self._begun = self._said = time.monotonic()
        self._whole: set[str] = set()
        self._before: Counter[str] | None = None
        """Parts at the first count, by kind."""
        self._first: tuple[float, Counter[str]] | None = None
        """When the count first rose, and the counts at that time."""

    def __enter__(self) -> Self:
        self._bars.start()
        for kind, total in self._totals.items():
            self._bar[kind] = self._bars.add_task(kind, total=total)
            described = f"{kind.capitalize()} of {self._title}"
            artifact = create_progress_artifact(0.0, key=f"{kind}-progress", description=described)
            assert isinstance(artifact, UUID)
            self._artifacts[kind] = artifact
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh(publish=True)
        self._bars.stop()

    def begun(self, unit: Unit) -> None:
        """Record that a unit has begun."""
        with self._lock:
            self._under_way[unit.key] = 0

    def advance(self, key: str, parts: int) -> None:
        """Record that many more finished parts of a unit."""
        with self._lock:
            self._under_way[key] += parts

    def ended(self, unit: Unit, whole: bool) -> None:
        """Record that a unit has ended, with all of its parts or only the recorded ones."""
        with self._lock:
            told = self._under_way.pop(unit.key, 0)
            self._made[unit.kind] += unit.parts if whole else told

    def counted(self) -> Counter[str]:
        """Finished parts, by kind."""
        with self._lock:
            made, told = Counter(self._made), dict(self._under_way)
        for key, parts in told.items():
            unit = self._units[key]
            made[unit.kind] += min(unit.parts, unit.made() if unit.made else parts)
        return made

    def _say(self, made: Counter[str]) -> None:
        """Print a progress line, once in a while or when a kind is finished."""
        whole = {kind for kind, total in self._totals.items() if made[kind] >= total}
        now = time.monotonic()
        if whole == self._whole and now - self._said < LINE_SECONDS:
            return
        self._whole, self._said = whole, now
        print(f"{self._title}: {self._line(made)}", file=sys.stderr, flush=True)

    def _line(self, made: Counter[str]) -> str:
        """Finished parts of each kind, the time passed, and the time left at that rate."""
        counts = ", ".join(f"{kind} {made[kind]}/{total}" for kind, total in self._totals.items())
        passed, left = time.monotonic() - self._begun, self._left(made)
        return f"{counts}; {duration(passed)}{'' if left is None else f', about {duration(left)} left'}"

    def _left(self, made: Counter[str]) -> float | None:
        """Seconds left at the rate since this call made its first part; None until it has made more."""
        if self._first is None or self._before is None:
            return None
        since, before = self._first
        at_first = {kind: total - self._before[kind] for kind, total in self._totals.items()}
        known = all(self._seconds[kind] for kind, parts in at_first.items() if parts)
        weights = {kind: self._seconds[kind] / parts if known else 1.0 for kind, parts in at_first.items() if parts}
        more = sum(weight * (made[kind] - before[kind]) for kind, weight in weights.items())
        left = sum(weight * (self._totals[kind] - made[kind]) for kind, weight in weights.items())
        return (time.monotonic() - since) * left / more if more > 0 and left > 0 else None

    def _notice_first(self, made: Counter[str]) -> None:
        """Record when this call finished its first part.

        The time before includes starting processes and imports, which happens only once; parts that existed before
        the call do not count.
        """
        if self._before is None:
            self._before = made
        elif self._first is None and made.total() > self._before.total():
            self._first = time.monotonic(), made

    def refresh(self, publish: bool = False) -> None:
        """Update the display, at most once in a while, or immediately with `publish`."""
        now = time.monotonic()
        every = ARTIFACT_SECONDS if self._bars.disable else BAR_SECONDS
        if not publish and now - self._looked < pause_after(self._took, every):
            return
        made = self.counted()
        self._looked = time.monotonic()
        self._took = self._looked - now
        self._notice_first(made)
        for kind, bar in self._bar.items():
            self._bars.update(bar, completed=made[kind])
        if self._bars.disable:
            self._say(made)
        self._tell(self._line(made))
        if not publish and now - self._published < ARTIFACT_SECONDS:
            return
        self._published = now
        for kind, artifact in self._artifacts.items():
            percent = round(100.0 * min(1.0, made[kind] / self._totals[kind]), 1)
            if percent != self._shown[kind]:
                update_progress_artifact(artifact, percent)
                self._shown[kind] = percent
