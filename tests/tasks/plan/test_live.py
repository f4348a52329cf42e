"""The cube that is written while units run."""

import threading
from collections.abc import Collection

import pytest

from specdyn.storage.access.objects import StoreError
from specdyn.tasks.plan import live as live_cube
from specdyn.tasks.plan.live import LiveCube
from specdyn.tasks.plan.units import Unit


class Recorded:
    """Stands for a cube: what it was told to write, in order."""

    def __init__(self, failing: int = -1) -> None:
        self.updates: list[set[str]] = []
        self.written = threading.Semaphore(0)
        self._failing = failing

    def update(self, keys: Collection[str]) -> None:
        self.updates.append(set(keys))
        self.written.release()
        if len(self.updates) - 1 == self._failing:
            raise StoreError("no space left")


def unit(row: str) -> Unit:
    return Unit(kind="analyses", key=f"{row}-analysis", label=row, needs=(), function=print, arguments=(), row=row)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_cube, "EVERY_SECONDS", 0.01)


@pytest.mark.parametrize("failing", [-1, 0, 1])
def test_all_rows_are_written_at_once_then_those_that_changed_also_after_a_failure(failing: int) -> None:
    cube = Recorded(failing)
    with LiveCube(cube) as live:  # type: ignore[arg-type]
        assert cube.written.acquire(timeout=60)
        for row in ("a", "b"):
            live.landed(unit(row))
            assert cube.written.acquire(timeout=60)
    assert cube.updates == [set(), {"a"}, {"b"}]


def test_what_fills_no_row_writes_nothing() -> None:
    cube = Recorded()
    with LiveCube(cube) as live:  # type: ignore[arg-type]
        assert cube.written.acquire(timeout=60)
        live.landed(unit(""))
        assert not cube.written.acquire(timeout=0.2)
    assert cube.updates == [set()]


def test_a_study_that_is_gathered_at_the_end_has_none() -> None:
    with LiveCube(None) as live:
        live.landed(unit("a"))
