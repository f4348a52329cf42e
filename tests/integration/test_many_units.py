"""A plan of many units: how many are under way, in which order, and what Prefect keeps of them."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.planned import plan_of
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.units import Unit, Workers
from specdyn.tasks.work import Work

pytestmark = pytest.mark.integration

AT_ONCE = 3
RUNS = 8


class Counting(ThisProcess):
    """An executor that notes what it is asked for, and the most of it at a time."""

    slots = 1

    def __init__(self) -> None:
        self.order: list[str] = []
        self.most = self._now = 0
        self._changed = threading.Condition()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        with self._changed:
            self._now += 1
            self.most = max(self.most, self._now)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most == AT_ONCE, timeout=60)
        result = function(self, *args)
        with self._changed:
            self._now -= 1
        return result


def note(executor: Counting, name: str) -> Work:
    executor.order.append(name)
    return Work(trainings=1)


def spread(workers: Workers, advance: Callable[[int], None], calls: int) -> Work:
    made: list[int] = []
    workers.run_all(abs, [(i,) for i in range(calls)], made.append)
    advance(len(made))
    return Work(decompositions=len(made))


def unit(kind: str, number: int, needs: tuple[str, ...] = (), **others: Any) -> Unit:
    key = f"{kind}{number}"
    given = {"function": note, "arguments": (key,), **others}
    return Unit(kind=kind, key=key, label=key, needs=needs, **given)


def done_by(executor: Any, units: list[Unit], folder: Path) -> Any:
    """What became of the units, and how many tasks Prefect's server has of the flow that ran them."""
    from prefect import flow, get_client
    from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
    from prefect.runtime import flow_run

    from helpers.topology import wait_until
    from specdyn.flows.engine.units import run_units

    def run() -> tuple[Any, str]:
        return run_units(plan_of(units, str(folder)), executor), flow_run.id

    ended, flow_id = flow(run, name="many", persist_result=False)()

    def tasks() -> int:
        mine = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_id]))
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(task_run_filter=mine)
        return sum(run.state is not None and run.state.is_final() for run in found)

    wait_until(lambda: tasks() >= len(units), "Prefect's server has all tasks", 60)
    return ended, tasks()


def test_a_bounded_number_of_units_is_under_way_and_runs_are_ended_one_after_another(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from specdyn.flows.engine import units as engine

    monkeypatch.setattr(engine, "AT_ONCE", AT_ONCE)
    executor = Counting()
    plan = [unit("training", i) for i in range(RUNS)]
    plan += [unit("analysis", i, needs=(f"training{i}",)) for i in range(RUNS)]
    ended, tasks = done_by(executor, plan, tmp_path)
    assert (len(ended.done), dict(ended.failures), tasks) == (2 * RUNS, {}, 2 * RUNS)
    assert executor.most == AT_ONCE
    # Every run that is trained and not yet analysed has a unit under way, whichever thread is slow.
    unfinished: set[str] = set()
    for name in executor.order:
        kind, run = name[:-1], name[-1]
        unfinished = unfinished | {run} if kind == "training" else unfinished - {run}
        assert len(unfinished) <= AT_ONCE, executor.order


def test_prefect_has_one_task_for_each_run_however_many_blocks_it_is_analysed_in(
    prefect_server: None, tmp_path: Path
) -> None:
    plan = [unit("analysis", i, function=spread, arguments=(50,), spreads=True, parts=50) for i in range(4)]
    ended, tasks = done_by(Counting(), plan, tmp_path)
    assert (ended.work.decompositions, tasks) == (200, 4)
