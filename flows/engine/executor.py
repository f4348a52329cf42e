"""Where units of work run: in this process, or on a Ray cluster, local or given by address."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

from specdyn.flows.engine.imports import importing

with importing():
    import ray
    import torch
    from ray.exceptions import RayError, RayTaskError

    from specdyn.flows.engine.processes import Part, PartLost, started
    from specdyn.flows.engine.ray_cluster import connect, let_go, nodes_after, nodes_now, parts_of_ray
    from specdyn.flows.engine.resources import (
        NotEnoughResources,
        gpus_of_a_unit,
        units_that_fit,
    )
    from specdyn.flows.engine.settings import EXECUTORS
    from specdyn.flows.engine.unit_log import Recorded, opened, recorded
    from specdyn.flows.resources import Resources
    from specdyn.models.plugins.places import Sent, sent
    from specdyn.models.spec.checks import require, require_known
    from specdyn.tasks.evaluation.environment import cpu_only, use_gpu_share, use_threads
    from specdyn.tasks.ledger.metering import Spent, add, metered, taken

LOST_WORKER_RETRIES = 3
RECOUNT_SECONDS = 1.0
LOOK_SECONDS = 1.0
"""Between looks at whether Ray is still there, while units run."""


class Executor(Protocol):
    """Runs units of work: module-level functions of picklable values."""

    slots: int
    """Units that run at a time, as they were last counted."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """One unit, waited for; raises what it raised."""
        ...

    def run_all(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], done: Callable[[Any], None]
    ) -> None:
        """Several units, a bounded number at a time; `done` gets each result as it comes."""
        ...

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        """One unit, not waited for; units that get what this gives as an argument receive its result."""
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

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.run(function, *args)


class RayExecutor:
    """Runs units as Ray tasks; a unit whose worker dies is started again elsewhere."""

    def __init__(self, resources: Resources, patience: float = 0.0) -> None:
        nodes = nodes_after(resources, patience)
        cpus, gpus = resources.cpus, gpus_of_a_unit(resources, nodes)
        if not (fitting := units_that_fit(nodes, cpus, gpus)):
            most, asked = max((node.cpus for node in nodes), default=0), f" with gpus={gpus:g}" if gpus else ""
            raise NotEnoughResources(
                f"no node of the Ray cluster has the resources requested per task, cpus={cpus}{asked}: "
                f"the largest has {most} CPUs; ask for fewer"
            )
        self._given, self._open = (cpus, gpus), True
        self.slots, self._counted = fitting, time.monotonic()
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": LOST_WORKER_RETRIES}
        self._plugins = sent()

        # What is the same for all units goes to a worker once, with the function.
        def recorded_unit(call: _Call, *results: Any) -> Recorded:
            return recorded(run_unit, metered, cpus, gpus, gpus or 1.0, call[1], *_filled(call, results))

        def unit(call: _Call, *results: Any) -> Any:
            return run_unit(metered, cpus, gpus, gpus or 1.0, call[1], *_filled(call, results))

        # Two results: what it took is asked for apart from a value that may be large.
        self._unit: Any = ray.remote(unit).options(name=run_unit.__name__, num_returns=2, **options)
        self._recorded: Any = ray.remote(recorded_unit).options(name=run_unit.__name__, **options)

    def _recount(self) -> None:
        """Have `slots` follow the cluster, which may scale; it is asked once in a while, not for every unit."""
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
        waiting = list(reversed(calls))
        try:
            while waiting or running:
                self._require_ray()
                self._recount()
                # Twice as many as fit: what waits is what a cluster that scales grows by.
                more = 2 * self.slots - len(running) if waiting else 0
                for _ in range(min(more, len(waiting))):
                    running.append(self._recorded.remote(*self._sent(function, waiting.pop())))
                finished, running = ray.wait(running, timeout=LOOK_SECONDS)
                for reference in finished:
                    done(taken(functools.partial(opened, functools.partial(_result, reference))))
        except RayError:
            time.sleep(LOOK_SECONDS)  # until it shows, here or to the supervisor, that a part of Ray is the reason
            self._require_ray()
            raise
        finally:
            if self._open and not _gone():
                for reference in running:
                    ray.cancel(reference, force=True)

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        self._require_ray()
        value, spent = self._unit.remote(*self._sent(function, args))
        add(functools.partial(_spent, spent))
        return value

    def _sent(self, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a task: the call in one piece, and the results of others that are arguments of it."""
        results = {place: one for place, one in enumerate(args) if isinstance(one, ray.ObjectRef)}
        rest = tuple(None if place in results else one for place, one in enumerate(args))
        return (self._plugins, function, rest, tuple(results)), *results.values()

    def close(self) -> None:
        """Start nothing any more."""
        self._open = False

    def _require_ray(self) -> None:
        """PartLost where Ray was stopped, as a call would start another one, or where a part of it is gone."""
        if not self._open or not ray.is_initialized():
            raise PartLost("Ray was stopped; finished work is kept, the same call continues from there")
        if part := _gone():
            log = f" (its log: {started().kept_log(part.log)})" if part.log else ""
            raise PartLost(f"{part.name} is gone{log}; finished work is kept, the same call continues from there")


_Call = tuple[Sent, Callable[..., Any], tuple[Any, ...], tuple[int, ...]]
"""Plug-ins, which are known once they are read, then a function, its arguments, and places for results of others."""


def _filled(call: _Call, results: Sequence[Any]) -> list[Any]:
    """The arguments of a call with the results in their places."""
    args = list(call[2])
    for place, result in zip(call[3], results, strict=True):
        args[place] = result
    return args


def _gone() -> Part | None:
    """A part that is gone, which a supervisor sees to where there is one."""
    return None if started().supervised else started().lost()


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None


def _spent(reference: Any) -> Spent | None:
    """What a call took that was not waited for; None where it has not ended, or not well."""
    with contextlib.suppress(Exception):  # whatever it is, the unit that the call was for has told of it
        if ray.is_initialized() and ray.wait([reference], timeout=0)[0]:
            found: Spent = ray.get(reference)
            return found
    return None


def run_unit(function: Callable[..., Any], threads: int, gpus: float | None, *args: Any) -> Any:
    """Call a function with that many threads and that share of a GPU's memory; what every worker runs.

    With 0 GPUs it computes on the CPU, with None on what torch sees.
    """
    use_threads(threads)
    use_gpu_share(gpus or 0.0)
    try:
        with cpu_only() if gpus == 0 else contextlib.nullcontext():
            return function(*args)
    except torch.OutOfMemoryError as error:
        raise NotEnoughResources(
            f"gpus={gpus or 1:g} of each unit: its share of the memory is too small ({str(error).splitlines()[0]}); "
            "ask for a larger share, or for smaller batches"
        ) from error


@contextlib.contextmanager
def open_executor(
    kind: Literal["ray", "inline"], resources: Resources, address: str | None = None, patience: float = 0.0
) -> Iterator[Executor]:
    """The executor of that kind; a Ray cluster started here is stopped here, one that runs is left alone.

    `patience` is how many seconds a cluster that scales gets to have a machine for one unit.
    """
    require_known("executor", kind, EXECUTORS)
    if kind == "inline":
        require(not resources.gpus, "gpus", resources.gpus, "none for inline work, which uses what torch sees")
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
