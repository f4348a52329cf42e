"""Units of work as Prefect tasks, each as soon as what it needs is there."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from prefect import task
from prefect.futures import PrefectFuture

from specdyn.flows.engine.executor import Executor
from specdyn.flows.engine.progress import StageProgress
from specdyn.flows.engine.stages import OPTIONS, failure_of
from specdyn.flows.engine.unit_log import kept_log
from specdyn.tasks.plan.units import Schedule, Unit
from specdyn.tasks.work import Work

REFRESH_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a call did."""

    failures: dict[str, str]
    """Kind and label of each unit that failed, with the reason."""
    left_out: dict[str, str]
    """Kind and label of each unit that needs one that failed, with that one."""
    work: Work
    """Of all units together."""


@task(name="unit", task_run_name="{kind}: {label}", **OPTIONS)
def run_unit_task(
    kind: str, label: str, call: tuple[Callable[..., Any], tuple[Any, ...]], log: str, executor: Executor
) -> Work:
    """Run one unit on the executor, its log kept in the folder; returns what it did."""
    function, arguments = call
    with kept_log(log, kind):
        did: Work = executor.run(function, *arguments)
        return did


def run_units(
    title: str,
    units: Iterable[Unit],
    logs: Callable[[str], str],
    executor: Executor,
    failed_before: Mapping[str, str] | None = None,
) -> Outcome:
    """Run every unit as soon as those it needs are done; what needs one that failed, now or before, is left out.

    `logs` gives the folder for the log of the unit of a key.
    """
    units = list(units)
    schedule = Schedule(units, failed_before)
    begun: dict[str, PrefectFuture[Any]] = {}
    ended: SimpleQueue[Unit] = SimpleQueue()
    reasons: dict[str, str] = {}
    done: list[Work] = []

    def begin(unit: Unit) -> None:
        # All of these are done, as nothing may wait for others in a place that they could run in; Prefect shows them.
        needs = [begun[key] for key in unit.needs if key in begun]
        call = (unit.function, unit.arguments)
        future = run_unit_task.submit(
            unit.kind, unit.label, call, logs(unit.key), executor, wait_for=needs, return_state=False
        )
        begun[unit.key] = future
        future.add_done_callback(lambda _: ended.put(unit))

    def take(unit: Unit) -> None:
        if why := failure_of(begun[unit.key]):
            reasons[f"{unit.kind}: {unit.label}"] = why
            schedule.failed(unit.key)
        else:
            done.append(begun[unit.key].result())
            schedule.finished(unit.key)

    with StageProgress(title, Counter(unit.kind for unit in units)) as progress:
        taken = 0
        while True:
            for unit in schedule.ready():
                begin(unit)
            if taken == len(begun):
                break
            try:
                unit = ended.get(timeout=REFRESH_SECONDS)
            except Empty:
                pass
            else:
                take(unit)
                taken += 1
                progress.advance(unit.kind, 1)
            progress.refresh()
    return Outcome(
        failures=reasons,
        left_out={f"{unit.kind}: {unit.label}": why for unit, why in schedule.left_out},
        work=Work(*map(sum, zip(Work(), *done, strict=True))),
    )
