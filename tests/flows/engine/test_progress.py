"""How often progress looks at a store, with a clock and artifacts made by hand."""

import dataclasses
import types
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from specdyn.flows.engine import progress
from specdyn.flows.engine.progress import ARTIFACT_SECONDS, UnitProgress
from specdyn.tasks.plan.live import SHARE
from specdyn.tasks.plan.units import Unit


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that progress goes by."""
    made = Clock()
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Percents that an artifact is given."""
    percents: list[float] = []
    monkeypatch.setattr(progress, "create_progress_artifact", lambda *_, **__: uuid.uuid4())
    monkeypatch.setattr(progress, "update_progress_artifact", lambda _, percent: percents.append(percent))
    return percents


def training(number: int, made: Callable[[], int]) -> Unit:
    return Unit(
        kind="trainings",
        key=f"run{number}",
        label=f"run {number}",
        needs=(),
        function=print,
        arguments=(),
        parts=4,
        made=made,
    )


def test_a_store_is_looked_at_once_in_a_while_however_many_units_end(clock: Clock, shown: list[float]) -> None:
    looks: list[int] = []
    units = [training(i, lambda: looks.append(1) or 2) for i in range(10)]
    with UnitProgress("many", units) as bars:
        for unit in units:
            bars.begun(unit)
        for _ in range(100):
            bars.refresh()
        assert (len(looks), shown) == (10, [50.0])
        bars.ended(units[0], whole=True)
        clock.now += ARTIFACT_SECONDS
        for _ in range(100):
            bars.refresh()
        assert (len(looks), shown) == (19, [50.0, 55.0])
        for unit in units[1:]:
            bars.ended(unit, whole=True)
    assert (len(looks), shown) == (19, [50.0, 55.0, 100.0])


def test_a_slow_store_is_looked_at_seldom(clock: Clock, shown: list[float]) -> None:
    looks: list[float] = []

    def slowly() -> int:
        clock.now += 3.0
        looks.append(clock.now)
        return 1

    unit: Any = training(0, slowly)
    with UnitProgress("slow", [unit]) as bars:
        bars.begun(unit)
        bars.refresh()
        for _ in range(int(3.0 / SHARE) - 1):
            clock.now += 1.0
            bars.refresh()
        assert len(looks) == 1
        clock.now += 1.0
        bars.refresh()
        assert len(looks) == 2
        bars.ended(unit, whole=True)


def test_without_a_terminal_a_line_says_how_far_it_is(
    clock: Clock, shown: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    made = [0]
    unit = training(0, lambda: made[0])
    with UnitProgress("nightly", [unit]) as bars:
        bars.begun(unit)
        for made[0], clock.now in ((0, 1010.0), (1, 1020.0), (2, 1040.0), (3, 1060.0), (3, 1071.0), (4, 1080.0)):
            bars.refresh()
    assert capsys.readouterr().err.splitlines() == [
        "nightly: trainings 2/4; 40 s, about 40 s left",
        "nightly: trainings 3/4; 71 s, about 26 s left",  # two parts in 51 s
        "nightly: trainings 4/4; 80 s",
    ]


@pytest.mark.parametrize("there", [0, 3])
def test_the_time_left_leaves_out_the_start_of_processes_and_what_was_there(
    there: int, clock: Clock, shown: list[float]
) -> None:
    made, said = [there], list[str]()
    unit = training(0, lambda: made[0])
    unit = dataclasses.replace(unit, parts=there + 8)
    with UnitProgress("slow start", [unit], said.append) as bars:
        bars.begun(unit)
        bars.refresh()
        clock.now += 100.0
        bars.refresh()
        for _ in range(3):  # one part each 10 s, the first after a start of 100 s
            clock.now += 10.0
            made[0] += 1
            bars.refresh()
        bars.ended(unit, whole=True)
    times = [line.partition("; ")[2] for line in said]
    assert times == ["0 s", "2 min", "2 min", "2 min, about 60 s left", "2 min, about 50 s left", "2 min"]


def test_the_time_left_weighs_kinds_by_what_they_are_expected_to_take(clock: Clock, shown: list[float]) -> None:
    """Ten parts of 9 s, of which two are there, then ten of 1 s: 82 s, whatever the number of parts says."""
    made, said = [2], list[str]()
    slow = dataclasses.replace(training(0, lambda: made[0]), parts=10)
    quick = dataclasses.replace(training(1, lambda: 0), kind="analyses", parts=10, made=None)
    expected = {slow.key: 36.0, quick.key: 5.0}  # on a machine that is twice as fast
    with UnitProgress("two kinds", [slow, quick], said.append, expected) as bars:
        bars.begun(slow)
        bars.refresh()
        for _ in range(2):
            clock.now += 9.0
            made[0] += 1
            bars.refresh()
        bars.ended(slow, whole=False)
        bars.ended(quick, whole=False)
    assert said[2].endswith("; 18 s, about 64 s left")
