"""Where units of work run: in this process, or on a Ray cluster, local or given by address."""

import contextlib
import functools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

import ray
import torch
from ray.exceptions import AuthenticationError, RayTaskError

from flows.capacity import NotEnoughResources, Resources, gpus_of_a_unit, nodes_after, nodes_now, units_that_fit
from flows.unit_log import opened, recorded
from models.checks import require, require_known
from tasks.environment import use_gpu_share, use_threads

EXECUTORS = ("ray", "inline")
LOST_WORKER_RETRIES = 3
RECOUNT_SECONDS = 1.0


class Executor(Protocol):
    """Runs units of work: module-level functions of picklable values."""

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
        self._threads, self._lock = resources.cpus, threading.Lock()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        with self._lock:
            return opened(functools.partial(recorded, run_unit, function, self._threads, 0.0, *args))

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
        if not units_that_fit(nodes, cpus, gpus):
            most, asked = max((node.cpus for node in nodes), default=0), f" with gpus={gpus:g}" if gpus else ""
            raise NotEnoughResources(
                f"no node of the Ray cluster has the resources requested per task, cpus={cpus}{asked}: "
                f"the largest has {most} CPUs; ask for fewer"
            )
        self._given = (cpus, gpus)
        self._slots, self._counted = 1, -math.inf
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": LOST_WORKER_RETRIES}
        self._unit = ray.remote(run_unit).options(**options)
        self._recorded = ray.remote(recorded).options(name=run_unit.__name__, **options)

    @property
    def slots(self) -> int:
        """Units that fit the cluster, which may scale; asked of it once in a while, not for every unit."""
        if time.monotonic() - self._counted > RECOUNT_SECONDS:
            self._slots, self._counted = max(1, units_that_fit(nodes_now(), *self._given)), time.monotonic()
        return self._slots

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
                # Twice as many as fit: what waits is what a cluster that scales grows by.
                room = 2 * self.slots - len(running) if waiting else 0
                for _ in range(min(room, len(waiting))):
                    running.append(self._recorded.remote(run_unit, function, *self._given, *waiting.pop()))
                finished, running = ray.wait(running)
                for reference in finished:
                    done(opened(functools.partial(_result, reference)))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._unit.remote(function, *self._given, *args)


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None


def run_unit(function: Callable[..., Any], threads: int, gpus: float, *args: Any) -> Any:
    """Call a function with that many threads and that share of a GPU's memory; what every worker runs."""
    use_threads(threads)
    use_gpu_share(gpus)
    try:
        return function(*args)
    except torch.OutOfMemoryError as error:
        raise NotEnoughResources(
            f"gpus={gpus:g} of each unit: its share of the memory is too small ({str(error).splitlines()[0]}); "
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
    ours = not ray.is_initialized()
    if ours:
        _connect(address)
    try:
        yield RayExecutor(resources, patience)
    finally:
        if ours:
            ray.shutdown()


def _connect(address: str | None) -> None:
    """Connect to the cluster at the address, or start one on this machine without a dashboard."""
    # Workers must not each take all cores before a unit says how many it has.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", include_dashboard=False, **quiet)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        raise NotEnoughResources(
            f"ray_address={address!r}: no Ray cluster answers there, or it refuses the token of this process "
            f"({str(error).splitlines()[0]}); set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as the cluster has them, "
            "or leave the address out to start one on this machine"
        ) from error
