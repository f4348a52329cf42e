"""Runs a study in this process, one unit after another, without Prefect or Ray."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from specdyn.storage.access.lease import hold
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.tasks.ledger.keeping import kept_ledger
from specdyn.tasks.ledger.metering import Spent, metered, noted, taken
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.live import LiveCube
from specdyn.tasks.plan.plan import Plan, Results, Study, failed_before, planned
from specdyn.tasks.plan.units import Schedule, Unit
from specdyn.tasks.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneHere:
    """The results of a study after a call, and what the call did."""

    study: Study
    """The study, completed by the check of its inputs."""
    plan: Plan
    results: Results
    built: bool
    """Whether the call wrote the cube."""
    done: tuple[Unit, ...]
    failures: Mapping[str, str]
    """Kind and label of each unit that failed, now or before, with the reason."""
    left_out: Mapping[str, str]
    """Kind and label of each unit that needs a failed one."""
    work: Work


class ThisProcess:
    """Workers that make each call directly in this process."""

    def run_all(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], done: Callable[[Any], None]
    ) -> None:
        """Make the calls one after another."""
        for call in calls:
            done(self.start(function, *call))

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        """Make a call; returns its result."""
        return taken(partial(metered, 1.0, function, *args))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """What the caller wants to hear of meanwhile."""

    advance: Callable[[int], None] = lambda parts: None
    """Called with the number of newly finished parts of a unit."""
    say: Callable[[str], None] = lambda line: None
    """Called with whom the call waits for."""
    measured: Callable[[Results], None] = lambda results: None
    """Called with the results, if there are any, before the cube is gathered."""


def run_here(
    study: Study,
    store: Store,
    *,
    threads: int = 1,
    report: bool = True,
    live: bool = True,
    watcher: Watcher | None = None,
) -> DoneHere:
    """Do what the store lacks of a study, and gather the results.

    With `live`, the cube is written while units run. A unit's error is kept as its failure, and units that need it are
    left out; StoreError if the store does not work, and for damaged results.
    """
    watcher = watcher or Watcher()
    require_store(store.url)
    cube = study.cube(store)
    with hold(store.lease(cube), cube.rsplit("/", 2)[-2], watcher.say) as lease:
        study = study.checked(store)
        plan = planned(study, store)
        failures = {f"{item.kind}: {item.label}": item.reason for item in plan.failed}
        done: list[Unit] = []
        works: list[Work] = []
        schedule = Schedule(plan.units, failed_before(plan.items))
        study.record(store)
        following = study.results(store).following(lease) if live and plan.units else None
        ledger = kept_ledger(store, study.experiment, "here", estimates={})
        with ledger as note, LiveCube(following) as cube_now, computing(threads):
            while ready := schedule.ready():
                for unit in ready:
                    try:
                        works.append(_run(unit, watcher.advance, cube_now.landed, partial(note, unit)))
                    except Exception as error:  # noqa: BLE001 - what is independent of it goes on
                        failures[f"{unit.kind}: {unit.label}"] = f"{type(error).__name__}: {error}"
                        schedule.failed(unit.key)
                        continue
                    done.append(unit)
                    schedule.finished(unit.key)
        study.clean(store)
        left_out = {f"{unit.kind}: {unit.label}": why for unit, why in schedule.left_out}
        results = study.results(store)
        if results.measured:
            watcher.measured(results)
        try:
            results, built = gather(study, store, report, lease)
        except StoreError as error:  # failures of units came first, and may be its cause
            if not failures:
                raise
            failures[f"results: {study.name}"], built = f"{type(error).__name__}: {error}", False
    return DoneHere(
        study=study,
        plan=plan,
        results=results,
        built=built,
        done=tuple(done),
        failures=failures,
        left_out=left_out,
        work=Work(*map(sum, zip(Work(), *works, strict=True))),
    )


def _run(
    unit: Unit,
    advance: Callable[[int], None],
    landed: Callable[[Unit], None],
    note: Callable[[Sequence[Spent], bool], None],
) -> Work:
    def advanced(parts: int) -> None:
        advance(parts)
        landed(unit)

    workers = ThisProcess()
    with noted(note):
        if unit.spreads:
            work: Work = unit.function(workers, advanced, *unit.arguments)
        else:
            work = workers.start(unit.function, *unit.arguments)
    landed(unit)
    return work


@contextlib.contextmanager
def computing(threads: int) -> Iterator[None]:
    """Compute with that many threads, deterministically; restores the caller's settings."""
    import torch

    from specdyn.tasks.evaluation.environment import use_threads

    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    use_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
