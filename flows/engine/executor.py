"""Runs units of work: in this process, or on a Ray cluster, local or given by address."""

import contextlib
import functools
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

from specdyn.flows.engine.imports import importing

with importing():
    import ray
    from ray.exceptions import RayError, RayTaskError

    from specdyn.flows.engine.processes import Part, PartLost, started
    from specdyn.flows.engine.ray_cluster import connect, let_go, nodes_after, nodes_now, parts_of_ray
    from specdyn.flows.engine.resources import NotEnoughResources, gpus_of_a_unit, units_that_fit
    from specdyn.flows.engine.settings import EXECUTORS
    from specdyn.flows.engine.unit_log import opened, recorded
    from specdyn.flows.engine.worker import Answer, answer, answered, filled, run_unit
    from specdyn.flows.resources import Resources
    from specdyn.models.plugins.places import sent
    from specdyn.models.spec.checks import require, require_known
    from specdyn.tasks.ledger.metering import Spent, add, metered, taken
    from specdyn.tasks.plan.units import Workers

LOST_WORKER_RETRIES = 3
RECOUNT_SECONDS = 1.0
LOOK_SECONDS = 1.0
"""Seconds between checks that Ray is alive while units run."""


class Executor(Workers, Protocol):
    """Runs units of work: module-level functions of picklable values."""

    slots: int
    """Units that can run concurrently, by the last count."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run one unit and wait for it; raises its error."""
        ...


class InlineExecutor:
    """Runs units in this process, one at a time."""

    def __init__(self, resources: Resources) -> None:
        self._threads, self._lock, self.slots = resources.cpus, threading.Lock(), 1

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        with self._lock:
            call = functools.partial(recorded, run_unit, metered, self._threads, None, 1.0, function, *args)
            return taken(functools.partial(opened, call))

    def run_all(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], done: Callable[[Any], None]
    ) -> None:
        for call in calls:
            done(self.run(function, *call))

    start = run


class RayExecutor:
    """Runs units as Ray tasks; a unit whose worker dies is restarted elsewhere."""

    def __init__(self, resources: Resources, patience: float = 0.0) -> None:
        nodes = nodes_after(resources, patience)
        cpus, gpus = resources.cpus, gpus_of_a_unit(resources, nodes)
        if not (fitting := units_that_fit(nodes, cpus, gpus)):
            most, asked = max((node.cpus for node in nodes), default=0), f" with gpus={gpus:g}" if gpus else ""
            raise NotEnoughResources(
                f"no node of the Ray cluster has the resources requested per task, cpus={cpus}{asked}: "
                f"the largest has {most} CPUs; request fewer"
            )
        self._given, self._open = (cpus, gpus), True
        self.slots, self._counted = fitting, time.monotonic()
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": LOST_WORKER_RETRIES}
        self._options = {"name": run_unit.__name__, **options}
        self._plugins, self._token = sent(), uuid.uuid4().hex
        self._remote: dict[tuple[Any, bool], Any] = {}

    def _recount(self) -> None:
        """Update `slots` if the cluster has scaled; queries it once in a while, not for every unit."""
        if time.monotonic() - self._counted > RECOUNT_SECONDS:
            self.slots, self._counted = max(1, units_that_fit(nodes_now(), *self._given)), time.monotonic()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        results: list[Any] = []
        self.run_all(function, [args], results.append)
        return results[0]

    def run_all(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], done: Callable[[Any], None]
    ) -> None:
        running: list[Any] = []
        waiting, remote, looked = list(reversed(calls)), self._of(function), 0.0
        try:
            while waiting or running:
                if (now := time.monotonic()) - looked > LOOK_SECONDS:
                    self._require_ray()
                    looked = now
                self._recount()
                # Twice as many as fit, as an autoscaling cluster grows by the waiting tasks.
                more = 2 * self.slots - len(running) if waiting else 0
                for _ in range(min(more, len(waiting))):
                    running.append(remote.remote(*_sent(waiting.pop())))
                finished, running = ray.wait(running, timeout=LOOK_SECONDS)
                for reference in finished:
                    done(taken(functools.partial(opened, functools.partial(_result, reference))))
        except RayError:
            time.sleep(LOOK_SECONDS)  # until this process or the supervisor notices that a part of Ray died
            self._require_ray()
            raise
        finally:
            if self._open and not _gone():
                for reference in running:
                    ray.cancel(reference, force=True)

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        self._require_ray()
        value, spent = self._of(function, apart=True).remote(*_sent(args))
        add(functools.partial(_spent, spent))
        return value

    def _of(self, function: Callable[..., Any], apart: bool = False) -> Any:
        """The function as a Ray remote function; with `apart` its cost is a separate result, as its value may be large.

        Data common to all calls go to a worker once, with the function, including the plug-ins, which unpickling
        makes known there. They come first, as later objects may be instances of their classes. The token makes workers
        unpickle them again for every executor, even if they equal those of an earlier one.
        """
        if (function, apart) not in self._remote:
            (cpus, gpus), same = self._given, (self._plugins, function, self._token)

            def unit(args: _Arguments, *results: Any) -> Answer:
                return answer(same[1], cpus, gpus, filled(*args, results))

            def unit_apart(args: _Arguments, *results: Any) -> Any:
                return run_unit(metered, cpus, gpus, gpus or 1.0, same[1], *filled(*args, results))

            self._remote[function, apart] = (
                ray.remote(unit_apart).options(num_returns=2, **self._options)
                if apart
                else ray.remote(unit).options(**self._options)
            )
        return self._remote[function, apart]

    def close(self) -> None:
        """Stop starting units."""
        self._open = False

    def _require_ray(self) -> None:
        """PartLost if Ray was stopped (a call would start a new one), or if a part of it is gone."""
        if not self._open or not ray.is_initialized():
            raise PartLost("Ray was stopped; finished work is kept, the same call continues from there")
        if part := _gone():
            log = f" (its log: {started().kept_log(part.log)})" if part.log else ""
            raise PartLost(f"{part.name} is gone{log}; finished work is kept, the same call continues from there")


_Arguments = tuple[tuple[Any, ...], tuple[int, ...]]
"""Arguments, and the positions among them of results of other calls."""


def _sent(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a task: the plain ones as one object, then the results of other calls."""
    results = {place: one for place, one in enumerate(args) if isinstance(one, ray.ObjectRef)}
    if not results:
        return ((args, ()),)
    rest = tuple(None if place in results else one for place, one in enumerate(args))
    return (rest, tuple(results)), *results.values()


def _gone() -> Part | None:
    """A part that is gone; None if there is none, or if a supervisor handles it."""
    return None if started().supervised else started().lost()


def _result(reference: Any) -> Any:
    try:
        return answered(ray.get(reference))
    except RayTaskError as error:
        raise error.cause from None


def _spent(reference: Any) -> Spent | None:
    """The cost of a call started without waiting; None if it has not finished or failed."""
    with contextlib.suppress(Exception):  # any error was reported by the unit that needed the call
        if ray.is_initialized() and ray.wait([reference], timeout=0)[0]:
            found: Spent = ray.get(reference)
            return found
    return None


@contextlib.contextmanager
def open_executor(
    kind: Literal["ray", "inline"], resources: Resources, address: str | None = None, patience: float = 0.0
) -> Iterator[Executor]:
    """The executor of that kind; stops a Ray cluster that it started, and leaves a running one alone.

    `patience` is how many seconds an autoscaling cluster has to provide a node for one unit.
    """
    require_known("executor", kind, EXECUTORS)
    if kind == "inline":
        require(not resources.gpus, "gpus", resources.gpus, "none for inline work, which uses torch's devices")
        yield InlineExecutor(resources)
        return
    ours, broken = not ray.is_initialized(), False
    if ours:
        connect(address, patience)
    try:
        with started().needed(*parts_of_ray(ours and not address)):
            executor = RayExecutor(resources, patience)
            try:
                yield executor
            finally:
                executor.close()
                broken = started().lost() is not None
    finally:
        if ours:
            let_go(broken)
