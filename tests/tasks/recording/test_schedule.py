"""The steps at which is recorded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specdyn.tasks.recording.schedule import schedule


@pytest.mark.parametrize("per_decade", [1, 2, 3, 7, 20])
def test_a_decade_has_the_rounded_powers_and_no_others(per_decade: int) -> None:
    powers = {round(10 ** (i / per_decade)) for i in range(5 * per_decade)}
    chosen = schedule(None, (), per_decade)
    assert {step for step in range(10**4) if chosen.has(step)} == {step for step in powers if step < 10**4}


@given(st.integers(1, 50), st.frozensets(st.integers(0, 500)), st.integers(0, 500))
def test_what_is_listed_and_what_is_even_come_together(every: int, at: frozenset[int], step: int) -> None:
    assert schedule(every, at, 0).has(step) == (step % every == 0 or step in at)


def test_every_hundredth_step_where_nothing_is_asked_for() -> None:
    assert [step for step in range(301) if schedule(None, (), 0).has(step)] == [0, 100, 200, 300]
    assert not schedule(None, (5,), 0).has(100)
