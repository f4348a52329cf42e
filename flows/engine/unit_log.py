"""Collects the log of a unit of work, wherever it runs, for Prefect and the store."""

import contextlib
import contextvars
import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError

LOGGER = "specdyn"
"""The logger whose children the tasks log to."""
CARRIED = "specdyn_log"
LARGEST = 1000
"""Most lines stored per unit: the last ones of a longer log."""
log = logging.getLogger("specdyn.log")
_stage: contextvars.ContextVar["list[str] | None"] = contextvars.ContextVar("lines of the stage", default=None)


class Recorded(NamedTuple):
    """The value of a unit, and its log."""

    value: Any
    lines: list[str]


_FORM = logging.Formatter(f"%(asctime)s {platform.node()}:%(process)d %(levelname)s %(message)s")
_FORM.converter = time.gmtime


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.setFormatter(_FORM)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        del self.lines[:-LARGEST]


def recorded(function: Callable[..., Any], *args: Any) -> Recorded:
    """Call a function and record what it logs; an error that it raises carries the lines."""
    handler, logger = _Lines(), logging.getLogger(LOGGER)
    logger.addHandler(handler)
    if logger.level != logging.INFO:  # setting it clears the cache of every logger in the process
        logger.setLevel(logging.INFO)
    logger.propagate = False  # the caller of the unit passes the lines on
    try:
        return Recorded(function(*args), handler.lines)
    except Exception as error:
        logger.error("%s: %s", type(error).__name__, error)
        setattr(error, CARRIED, handler.lines)
        raise
    finally:
        logger.removeHandler(handler)


def opened(unit: Callable[[], Recorded]) -> Any:
    """The value of a recorded unit; passes its lines on, even if it raises."""
    try:
        ended = unit()
    except Exception as error:
        pass_on(getattr(error, CARRIED, ()))
        raise
    pass_on(ended.lines)
    return ended.value


def pass_on(lines: Sequence[str]) -> None:
    """Write lines to the log of the current Prefect task or flow, and to the stage's log."""
    if not lines:
        return
    # Imported here, as workers import this module but do not need Prefect.
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    kept = _stage.get()
    if kept is not None:
        kept.extend(lines)
    with contextlib.suppress(MissingContextError):
        logger = get_run_logger()
        for line in lines:
            logger.info(line)


@contextlib.contextmanager
def kept_log(folder: str, stage: str) -> Iterator[None]:
    """Store the logs of the units in the block as an object in the folder, named by the stage and the time.

    A log that cannot be stored only causes a warning, so as not to hide a unit's own failure.
    """
    lines: list[str] = []
    token = _stage.set(lines)
    try:
        yield
    finally:
        _stage.reset(token)
        if lines:
            moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            try:
                objects.write(f"{folder}/{stage}-{moment}.log", "\n".join([*lines, ""]).encode())
            except StoreError as error:
                log.warning("a log is not kept: %s", error)
