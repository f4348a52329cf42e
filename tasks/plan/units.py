"""Units of work and their dependencies: which can start now, and which never will. Knows no engine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Protocol


class Workers(Protocol):
    """Executes the calls of a unit that splits its work."""

    def run_all(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], done: Callable[[Any], None]
    ) -> None:
        """Run several calls, a bounded number at a time; calls `done` with each result as it arrives."""
        ...

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        """Start one call without waiting; calls that get the return value as an argument receive its result."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of work: a training, a decomposition, a measurement."""

    kind: str
    """Its kind for counts and logs, such as `branches`."""
    key: str
    """Key by which other units refer to it."""
    label: str
    """Display name."""
    needs: tuple[str, ...]
    """Keys of the units that must end first; a key without a unit is already in the store."""
    function: Callable[..., Any]
    """A module-level function, callable in any process; returns the Work done."""
    arguments: tuple[Any, ...]
    log: str = ""
    """The name of the folder for its log; by default the key."""
    spreads: bool = False
    """Whether the function splits its work into calls: it then gets the Workers, and a function to call with the number
    of newly finished parts."""
    parts: int = 1
    """Number of parts for progress, such as the checkpoints that a training writes."""
    row: str = ""
    """The row of the study's cube that it fills; empty if none until the study is gathered."""
    made: Callable[[], int] | None = None
    """Returns the number of parts finished so far, if visible from outside; otherwise None."""


class Schedule:
    """Tracks which units can start as others end.

    A unit that depends on a failed one, directly or indirectly, never starts. ValueError if two units share a key, or
    dependencies are cyclic.
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
        """The units that have become ready since the last call."""
        # Earlier failures are nodes that are never marked as done.
        return [self._units[key] for key in self._sorter.get_ready() if key not in self._failed]

    def finished(self, key: str) -> None:
        """Mark a unit as finished."""
        self._sorter.done(key)

    def failed(self, key: str) -> None:
        """Mark a unit as failed; units that need it are left out."""
        self._failed[key] = f"{self._units[key].label} failed"

    @property
    def left_out(self) -> list[tuple[Unit, str]]:
        """The units that depend on a failed one, each with the first cause found."""
        causes = dict(self._failed)
        for key in self._in_order:
            if key not in causes and (cause := next((causes[n] for n in self._units[key].needs if n in causes), "")):
                causes[key] = cause
        return [(unit, causes[key]) for key, unit in self._units.items() if key in causes and key not in self._failed]
