"""Updates the cube of a study while its units run, in one thread."""

import logging
import threading
import time
from types import TracebackType
from typing import Self

from specdyn.tasks.plan.gathering import Following
from specdyn.tasks.plan.units import Unit

EVERY_SECONDS = 4.0
"""Least seconds between two updates."""
SHARE = 0.1
"""Largest share of the time that updates may take; on a slow store they are less frequent."""

log = logging.getLogger("specdyn.live")


class LiveCube:
    """Writes a cube with all rows at once, then what is new of rows whose units made something.

    Anything that cannot be written now is written at the end of the call.
    """

    def __init__(self, following: Following | None) -> None:
        self._following = following
        self._lock, self._changed = threading.Lock(), set[str]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live cube", daemon=True)

    def __enter__(self) -> Self:
        if self._following:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        if self._following:
            self._thread.join()

    def landed(self, unit: Unit) -> None:
        """Record that a unit has ended or finished a part."""
        with self._lock:
            self._changed.add(unit.row)

    def _run(self) -> None:
        assert self._following is not None
        pause = self._update(set())
        while not self._ended.wait(pause):
            with self._lock:
                changed, self._changed = self._changed - {""}, set()
            if changed:
                pause = self._update(changed)

    def _update(self, changed: set[str]) -> float:
        """Write what is new of these rows; returns the seconds until the next update."""
        assert self._following is not None
        began = time.monotonic()
        try:
            self._following.update(changed)
        except Exception as error:  # noqa: BLE001 - the end of the call writes it all, and raises what is wrong
            log.warning("the results are not up to date before the end of this call: %s", error)
        return pause_after(time.monotonic() - began, EVERY_SECONDS)


def pause_after(took: float, least: float) -> float:
    """Seconds to wait after an update that took `took`: at least `least`, and enough to keep updates within SHARE."""
    return max(least, took / SHARE)
