"""Where units of work run: in this process, or on a Ray cluster, local or given by address."""

import contextlib
import functools
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import ray
import torch
from annotated_types import Ge
from ray.exceptions import AuthenticationError, RayTaskError

from flows.shown import shown
from flows.unit_log import opened, recorded
from models.checks import require, require_known
from tasks.environment import use_gpu_share, use_threads

EXECUTORS = ("ray", "inline")
LOST_WORKER_RETRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What each unit of work (one training, one block of checkpoints) is given."""

    cpus: Annotated[int, Ge(1), shown("CPUs", "CPU cores, and threads, of one unit.")] = 1
    gpus: Annotated[
        Annotated[float, Ge(0)] | None,
        shown("GPUs", "Of one unit; a fraction shares one. Empty takes one where the cluster has GPUs."),
    ] = None
    cpu_if_no_gpu: Annotated[
        bool, shown("CPU if no GPU", "Run on the CPU where the GPUs asked for are not there, instead of refusing.")
    ] = False

    def __post_init__(self) -> None:
        require(self.cpus >= 1, "cpus", self.cpus, "an integer of 1 or more")
        require(self.gpus is None or 0 <= self.gpus < math.inf, "gpus", self.gpus, "None or a number of 0 or more")


class NotEnoughResources(ValueError):
    """The cluster can never meet a request: says what was asked and what there is."""


class Executor(Protocol):
    """Runs units of work: module-level functions of picklable values."""

    slots: int
    """Units that can run at the same time."""

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

    slots = 1

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

    def __init__(self, resources: Resources) -> None:
        total = ray.cluster_resources()
        cpus, gpus = int(total.get("CPU", 0)), _gpus_of_a_unit(resources, total.get("GPU", 0))
        if resources.cpus > cpus:
            raise NotEnoughResources(f"cpus={resources.cpus} asked for each unit, the Ray cluster has {cpus} in all")
        self.slots = max(1, min(cpus // resources.cpus, int(total.get("GPU", 0) / gpus) if gpus else cpus))
        self._given = (resources.cpus, gpus)
        options = {"num_cpus": resources.cpus, "num_gpus": gpus, "max_retries": LOST_WORKER_RETRIES}
        self._unit = ray.remote(run_unit).options(**options)
        self._recorded = ray.remote(recorded).options(name=run_unit.__name__, **options)

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
                while waiting and len(running) < 2 * self.slots:
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


def _gpus_of_a_unit(resources: Resources, available: float) -> float:
    """GPUs that each unit asks Ray for; NotEnoughResources where they can never be had."""
    if resources.gpus is None:
        return 1.0 if available >= 1 else 0.0
    if resources.gpus <= available:
        return resources.gpus
    if resources.cpu_if_no_gpu:
        return 0.0
    raise NotEnoughResources(
        f"gpus={resources.gpus:g} asked for each unit, the Ray cluster has {available:g}: "
        "ask for fewer, or allow the CPU with cpu_if_no_gpu"
    )


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
    kind: Literal["ray", "inline"], resources: Resources, address: str | None = None
) -> Iterator[Executor]:
    """The executor of that kind; a Ray cluster started here is stopped here, one that runs is left alone."""
    require_known("executor", kind, EXECUTORS)
    if kind == "inline":
        require(not resources.gpus, "gpus", resources.gpus, "none for inline work, which uses what torch sees")
        yield InlineExecutor(resources)
        return
    ours = not ray.is_initialized()
    if ours:
        _connect(address)
    try:
        yield RayExecutor(resources)
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
