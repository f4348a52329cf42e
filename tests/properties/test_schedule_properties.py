"""Whatever units need of one another, and whichever fail: each starts once, after all its needs, or is left out."""

import random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specdyn.tasks.plan.units import Schedule, Unit


def unit(key: str, *needs: str) -> Unit:
    return Unit(kind="units", key=key, label=f"unit {key}", needs=needs, function=print, arguments=())


class Case(NamedTuple):
    """Units in any order, the keys of those that will fail if they start, and what failed in an earlier call."""

    units: list[Unit]
    failing: set[str]
    before: dict[str, str]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Units that need earlier ones, of this call or of one before: there in the store, or failed."""
    count = draw(st.integers(0, 12))
    keys = [str(i) for i in range(count)]
    earlier = {f"before {i}": draw(st.booleans()) for i in range(3)}
    units = []
    for i, key in enumerate(keys):
        known = [*keys[:i], *earlier]
        units.append(unit(key, *draw(st.lists(st.sampled_from(known), max_size=4))))
    failing = set(draw(st.lists(st.sampled_from(keys), unique=True))) if keys else set()
    before = {key: f"unit {key} failed" for key, failed in earlier.items() if failed}
    return Case(draw(st.permutations(units)), failing, before)


def upstream(key: str, needs: dict[str, tuple[str, ...]]) -> set[str]:
    """Everything that a unit needs, directly or through others."""
    direct = set(needs.get(key, ()))
    return direct.union(*(upstream(each, needs) for each in direct))


@given(cases(), st.randoms(use_true_random=False))
def test_each_unit_starts_once_after_its_needs_unless_one_failed(case: Case, chance: random.Random) -> None:
    schedule, needs = Schedule(case.units, case.before), {unit.key: unit.needs for unit in case.units}
    running: list[str] = []
    started: list[str] = []
    finished: set[str] = set()
    failed = set(case.before)
    while True:
        for ready in schedule.ready():
            started.append(ready.key)
            running.append(ready.key)
            assert {need for need in ready.needs if need in needs} <= finished
            assert not set(ready.needs) & failed
        if not running:
            break
        key = running.pop(chance.randrange(len(running)))
        if key in case.failing:
            schedule.failed(key)
            failed.add(key)
        else:
            schedule.finished(key)
            finished.add(key)
    assert len(set(started)) == len(started)
    after_a_failure = {key for key in needs if upstream(key, needs) & failed}
    assert set(started) == needs.keys() - after_a_failure
    left_out = {unit.key: why for unit, why in schedule.left_out}
    assert left_out.keys() == after_a_failure
    for key, why in left_out.items():
        assert why in {f"unit {one} failed" for one in upstream(key, needs) & failed}
    assert list(left_out) == [unit.key for unit in case.units if unit.key in left_out]


def test_units_in_a_circle_and_two_with_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        Schedule([unit("a", "b"), unit("b", "c"), unit("c", "a")])
    with pytest.raises(ValueError, match="two units have the key 'a': unit a and unit a"):
        Schedule([unit("a"), unit("a")])


def test_a_unit_starts_when_its_own_needs_are_done_whatever_others_do() -> None:
    schedule = Schedule([unit("trunk 0"), unit("trunk 1"), unit("branch 0", "trunk 0"), unit("branch 1", "trunk 1")])
    assert [unit.key for unit in schedule.ready()] == ["trunk 0", "trunk 1"]
    schedule.finished("trunk 1")
    assert [unit.key for unit in schedule.ready()] == ["branch 1"]
    assert schedule.ready() == []
