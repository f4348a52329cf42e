"""Answers questions that need a network by asking another process, so that this one need not import torch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec, own_settings
from specdyn.tasks.later import Later

COST_NOTHING = {
    *("seed", "weight_decay", "learning_rate", "steps", "checkpoint_every", "decay_from", "decay_until", "start")
}
"""Settings that affect neither the network, nor the cost of a step, nor that of analysing a checkpoint."""
Ask = Callable[..., Any]
"""Calls a function in a process with torch, and returns its value."""
_asked: list[Ask] = []
_told: dict[object, Any] = {}
"""Cached answers about networks."""
KEPT = 1000
"""Most cached answers, since a service lives long."""


def alike(spec: RunSpec) -> object:
    """A key that is equal for runs with the same cost of a step and of analysing a checkpoint."""
    return tuple(value for name, value in own_settings(spec).items() if name not in COST_NOTHING)


@contextmanager
def asking(of: Ask) -> Iterator[None]:
    """Delegate the calls of this block to another process; its answers about networks are cached."""
    _asked.append(of)
    try:
        yield
    finally:
        _asked.remove(of)


def ask(function: Later, *args: Any) -> Any:
    """The value of a call, made by the delegate process if there is one, else here."""
    return _asked[-1](function, *args) if _asked else function(*args)


def of_network(function: Later, spec: RunSpec) -> Any:
    """The cached value of a function of a spec's network; the same for all specs that are `alike`."""
    key = (function, spec.experiment, experiment_of(spec).source, alike(spec))
    if key not in _told:
        value = ask(function, spec)
        if not _asked:
            return value
        if len(_told) >= KEPT:
            _told.pop(next(iter(_told)), None)
        _told[key] = value
    return _told[key]
