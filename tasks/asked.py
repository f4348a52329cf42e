"""What is known only once a network is built, asked of another process by one that does without torch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec, own_settings
from specdyn.tasks.later import Later

COST_NOTHING = {
    *("seed", "weight_decay", "learning_rate", "steps", "checkpoint_every", "decay_from", "decay_until", "start")
}
"""Settings that change neither a network, nor the work of a step, nor that of a checkpoint."""
Ask = Callable[..., Any]
"""Calls a function with arguments where torch is, and returns its value."""
_asked: list[Ask] = []
_told: dict[object, Any] = {}
"""What was asked and answered of networks."""
KEPT = 1000
"""Answers that are kept at most: a service lives long."""


def alike(spec: RunSpec) -> object:
    """What is equal for runs of which a step costs the same, and the analysis of a checkpoint too."""
    return tuple(value for name, value in own_settings(spec).items() if name not in COST_NOTHING)


@contextmanager
def asking(of: Ask) -> Iterator[None]:
    """Have another process make the calls of this block; what it told of networks is known from then on."""
    _asked.append(of)
    try:
        yield
    finally:
        _asked.remove(of)


def ask(function: Later, *args: Any) -> Any:
    """The value of a call, made by the process that is asked where there is one, else here."""
    return _asked[-1](function, *args) if _asked else function(*args)


def of_network(function: Later, spec: RunSpec) -> Any:
    """The value of a function of a spec's network, which is the same for all specs that are alike."""
    key = (function, spec.experiment, experiment_of(spec).source, alike(spec))
    if key not in _told:
        value = ask(function, spec)
        if not _asked:
            return value
        if len(_told) >= KEPT:
            _told.pop(next(iter(_told)), None)
        _told[key] = value
    return _told[key]
