"""Units of work and what each needs: which of them can start now, and which never will; knows no engine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Protocol


class Workers(Protocol):
    """What a unit that spreads its work has it done by."""

    def run_all(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], done: Callable[[Any], None]
    ) -> None:
        """Several calls, a bounded number at a time; `done` gets each result as it comes."""
        ...

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        """One call, not waited for; calls that get what this returns as an argument receive its result."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of work: a training, a decomposition, a measurement."""

    kind: str
    """What it is counted and logged under, as `branches`."""
    key: str
    """What others need it by."""
    label: str
    """How people tell it from others of its kind."""
    needs: tuple[str, ...]
    """Keys of the units that must end first; a key without a unit is in the store already."""
    function: Callable[..., Any]
    """Defined at the top of a module, so that any process can call it; returns the Work that it did."""
    arguments: tuple[Any, ...]
    log: str = ""
    """The name of the folder that its log is kept in; the key where it is empty."""
    spreads: bool = False
    """The function splits its work into calls of its own: it is given the Workers first, and a function to be told how
    many more parts are made."""
    parts: int = 1
    """What progress counts of it, as the checkpoints that a training is to write."""
    row: str = ""
    """The row of the study's cube that it fills; empty where it fills none before the study is gathered."""
    made: Callable[[], int] | None = None
    """How many of these parts there are by now, where that can be seen from outside; None where not."""


class Schedule:
    """Says which units can start, as it is told which ended.

    A unit that needs one that failed, now or before, directly or through others, never starts. ValueError where two
    units share a key, or units need one another in a circle.
    """

    def __init__(self, units: Iterable[Unit], failed_before: Mapping[str, str] | None = None) -> None:
        self._units: dict[str, Unit] = {}
        for unit in units:
            if unit.key in self._units:
                raise ValueError(f"two units have the key {unit.key!r}: {self._units[unit.key].label} and {unit.label}")
            self._units[unit.key] = unit
        self._failed = dict(failed_before or {})
        known = self._units.keys() | self._failed.keys()
        needs = {unit.key: [key for key in unit.needs if key in known] for unit in self._units.values()}
        self._in_order = tuple(TopologicalSorter(needs).static_order())
        self._sorter = TopologicalSorter(needs)
        self._sorter.prepare()

    def ready(self) -> list[Unit]:
        """The units that have become able to start since the last call, each once."""
        # What failed before is among the nodes, and is never said to be done.
        return [self._units[key] for key in self._sorter.get_ready() if key not in self._failed]

    def finished(self, key: str) -> None:
        """A unit did its work."""
        self._sorter.done(key)

    def failed(self, key: str) -> None:
        """A unit did not do its work: what needs it is left out."""
        self._failed[key] = f"{self._units[key].label} failed"

    @property
    def left_out(self) -> list[tuple[Unit, str]]:
        """The units that need one that failed, each with what failed: the cause of the first of its needs with one."""
        causes = dict(self._failed)
        for key in self._in_order:
            if key not in causes and (cause := next((causes[n] for n in self._units[key].needs if n in causes), "")):
                causes[key] = cause
        return [(unit, causes[key]) for key, unit in self._units.items() if key in causes and key not in self._failed]
