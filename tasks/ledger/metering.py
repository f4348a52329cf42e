"""Measures the cost of calls where they run, and passes it to the unit that made them."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

SPENT = "specdyn_spent"


class Spent(NamedTuple):
    """The cost of one call."""

    started: float
    """Seconds since 1970."""
    seconds: float
    cpu_seconds: float
    """CPU time of its process meanwhile, of all threads."""
    device: str
    processor: str
    threads: int
    gpus: float
    written: int | None
    """Bytes of checkpoints; None if it wrote none."""


Later = Callable[[], Spent | None]
"""Returns the cost of a call that was not awaited; None if it failed."""
_written: ContextVar["list[int] | None"] = ContextVar("bytes of checkpoints", default=None)
_unit: ContextVar["list[Spent | Later] | None"] = ContextVar("calls of the unit", default=None)


def metered(gpus: float, function: Callable[..., Any], *args: Any) -> tuple[Any, Spent]:
    """A call's value and its cost; an error that it raises carries the cost.

    `gpus` is its share of a GPU, if it computes on one.
    """
    written: list[int] = []
    token, started, clock, cpu = _written.set(written), time.time(), time.perf_counter(), time.process_time()

    def spent() -> Spent:
        import torch

        from specdyn.tasks.evaluation.environment import pick_device

        seconds, cpu_seconds, device = time.perf_counter() - clock, time.process_time() - cpu, pick_device()
        share = gpus if device.type == "cuda" else 0.0
        total = sum(written) if written else None
        threads = torch.get_num_threads()
        return Spent(started, seconds, cpu_seconds, device.type, _processor(device), threads, share, total)

    try:
        value = function(*args)
    except Exception as error:
        setattr(error, SPENT, spent())
        raise
    finally:
        _written.reset(token)
    return value, spent()


@functools.cache
def _processor(device: Any) -> str:
    from specdyn.tasks.evaluation.environment import processor

    return processor(device)


def wrote(size: int) -> None:
    """Add bytes of checkpoints to the current call."""
    written = _written.get()
    if written is not None:
        written.append(size)


def taken(call: Callable[[], tuple[Any, Spent]]) -> Any:
    """The value of a metered call; adds its cost to the current unit, even if it raises."""
    try:
        value, spent = call()
    except Exception as error:
        if found := getattr(error, SPENT, None):
            add(found)
        raise
    add(spent)
    return value


def add(spent: Spent | Later) -> None:
    """Add the cost of a call, or a function that returns it once the unit has ended, to the current unit."""
    calls = _unit.get()
    if calls is not None:
        calls.append(spent)


@contextmanager
def noted(note: Callable[[Sequence[Spent], bool], None]) -> Iterator[None]:
    """Treat the block as a unit; calls `note` with the costs of its calls and whether it failed."""
    calls: list[Spent | Later] = []
    token, failed = _unit.set(calls), True
    try:
        yield
        failed = False
    finally:
        _unit.reset(token)
        found = [one if isinstance(one, Spent) else one() for one in calls]
        note([one for one in found if one], failed)
