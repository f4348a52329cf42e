"""Runs units of work as Prefect tasks, each as soon as its inputs exist."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture

from specdyn.flows.engine.executor import Executor
from specdyn.flows.engine.processes import PartLost
from specdyn.flows.engine.progress import UnitProgress
from specdyn.flows.engine.unit_log import kept_log
from specdyn.storage.access.objects import NoSpace
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.datasets import DamagedData
from specdyn.tasks.data.prepare import NotPrepared
from specdyn.tasks.failures import Diverged, NotFinite
from specdyn.tasks.ledger.keeping import Note
from specdyn.tasks.ledger.metering import Spent, noted
from specdyn.tasks.plan.plan import Plan, failed_before
from specdyn.tasks.plan.units import Schedule, Unit
from specdyn.tasks.work import Work

REFRESH_SECONDS = 2.0
AT_ONCE = 64
"""Units started at a time, each in a thread; or twice the executor's slots if that is more.

An autoscaling cluster grows by the waiting units.
"""
FINAL = (DamagedCheckpoint, DamagedData, Diverged, NoSpace, NotFinite, NotPrepared, PartLost, ValueError, TypeError)
"""Errors that a retry cannot fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the units of a call ended."""

    done: tuple[Unit, ...]
    failures: Mapping[str, str]
    """Kind and label of each unit that failed, with the reason."""
    left_out: Mapping[str, str]
    """Kind and label of each unit that needs a failed one, with the failed one."""
    work: Work
    """Work done by all units together."""


def _worth_retrying(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    try:
        state.result(raise_on_failure=True)
    except FINAL:
        return False
    except Exception:  # noqa: BLE001 - whatever else it is may pass
        return True
    return False


@task(
    name="unit",
    task_run_name="{unit.kind}: {unit.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=1,
    retry_delay_seconds=2,
    retry_condition_fn=_worth_retrying,
)
def run_unit_task(
    unit: Unit,
    log: str,
    executor: Executor,
    advanced: Callable[[int], None],
    note: Callable[[Sequence[Spent], bool], None],
) -> Work:
    """Run one unit on the executor, store its log and record its cost; returns the work done."""
    with kept_log(log, unit.kind), noted(note):
        if unit.spreads:
            did: Work = unit.function(executor, advanced, *unit.arguments)
        else:
            did = executor.run(unit.function, *unit.arguments)
        return did


def run_units(
    plan: Plan,
    executor: Executor,
    landed: Callable[[Unit], None] = lambda _: None,
    note: Note = lambda unit, calls, failed: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Ended:
    """Run every unit once the units it needs are done; leaves out units that need one that failed, now or before.

    Units that a finished unit unblocks start before others, so that runs are completed one after another, and a bounded
    number are in progress. `landed` is called for a unit that made something or ended, `note` with the cost of each,
    `tell` now and then with the progress of all units, weighted by their expected seconds.
    """
    schedule = Schedule(plan.units, failed_before(plan.items))
    begun: dict[str, PrefectFuture[Any]] = {}
    ended: SimpleQueue[Unit] = SimpleQueue()
    reasons: dict[str, str] = {}
    done: list[Unit] = []
    works: list[Work] = []

    def begin(unit: Unit) -> None:
        # All of these are done (a unit must not occupy a slot while waiting); they are passed for Prefect's graph.
        needs = [begun[key] for key in unit.needs if key in begun]
        future = run_unit_task.submit(
            unit,
            plan.store.logs(plan.study.experiment, unit.log or unit.key),
            executor,
            partial(advanced, unit),
            partial(note, unit),
            wait_for=needs,
            return_state=False,
        )
        begun[unit.key] = future
        progress.begun(unit)
        future.add_done_callback(lambda _: ended.put(unit))

    def advanced(unit: Unit, parts: int) -> None:
        progress.advance(unit.key, parts)
        landed(unit)

    def take(unit: Unit) -> None:
        landed(unit)
        if why := failure_of(begun[unit.key]):
            reasons[f"{unit.kind}: {unit.label}"] = why
            schedule.failed(unit.key)
            progress.ended(unit, whole=False)
        else:
            works.append(begun[unit.key].result())
            done.append(unit)
            schedule.finished(unit.key)
            progress.ended(unit, whole=True)

    waiting, under_way = deque(schedule.ready()), 0
    with UnitProgress(plan.study.name, plan.units, tell, plan.seconds_of) as progress:
        while waiting or under_way:
            while waiting and under_way < max(AT_ONCE, 2 * executor.slots):
                begin(waiting.popleft())
                under_way += 1
            with suppress(Empty):
                take(ended.get(timeout=REFRESH_SECONDS))
                under_way -= 1
                waiting.extendleft(reversed(schedule.ready()))
            progress.refresh()
    return Ended(
        done=tuple(done),
        failures=reasons,
        left_out={f"{unit.kind}: {unit.label}": why for unit, why in schedule.left_out},
        work=Work(*map(sum, zip(Work(), *works, strict=True))),
    )


def failure_of(future: PrefectFuture[Any]) -> str:
    """Why a task did not complete; empty if it did."""
    future.wait()  # gets the state from the task itself; without it, from the server, which lags
    state = future.state
    if state.is_completed():
        return ""
    try:
        future.result()
    except Exception as error:  # noqa: BLE001 - any failure goes into the table
        return f"{type(error).__name__}: {error}"
    return f"did not run: {state.name}"
