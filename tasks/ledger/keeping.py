"""Writes the ledger of a study: the cost of each unit as it ends."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import SimpleQueue

from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.tasks.ledger.entries import Entry, write_entry
from specdyn.tasks.ledger.metering import Spent
from specdyn.tasks.plan.units import Unit

LAST_SECONDS = 10.0
"""Seconds to wait at the end of a call for the last entries to be written."""
log = logging.getLogger("specdyn.ledger")
Note = Callable[[Unit, Sequence[Spent], bool], None]
"""Called with a finished unit, the cost of its calls, and whether it failed."""


class _Ledger:
    """Writes entries in a thread, so that no unit waits; stops after the first failure."""

    def __init__(self, store: Store, experiment: str, executor: str, estimates: Mapping[str, float]) -> None:
        self._store, self._experiment = store, experiment
        self._executor, self._estimates = executor, estimates
        self._queue: SimpleQueue[tuple[str, Entry] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()
        self.problem = ""

    def note(self, unit: Unit, calls: Sequence[Spent], failed: bool) -> None:
        """Queue an entry for a finished unit."""
        started = min((call.started for call in calls), default=time.time())
        written = [call.written for call in calls if call.written is not None]
        entry = Entry(
            kind=unit.kind,
            key=unit.key,
            label=unit.label,
            executor=self._executor,
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds"),
            seconds=round(sum(call.seconds for call in calls), 6),
            cpu_seconds=round(sum(call.cpu_seconds for call in calls), 6),
            failed=failed,
            device=_joined([call.device for call in calls]),
            processor=_joined([call.processor for call in calls]),
            threads=max((call.threads for call in calls), default=0),
            gpus=max((call.gpus for call in calls), default=0.0),
            written=sum(written) if written else None,
            estimate=self._estimates.get(unit.key),
        )
        self._queue.put((unit.log or unit.key, entry))

    def close(self) -> None:
        """Wait a bounded time for the remaining entries."""
        self._queue.put(None)
        self._thread.join(LAST_SECONDS)
        if self._thread.is_alive():
            self.problem = self.problem or f"{self._store} did not take the last entries in {LAST_SECONDS:g} s"

    def _write(self) -> None:
        while (one := self._queue.get()) is not None:
            if self.problem:
                continue
            try:
                write_entry(self._store, self._experiment, *one)
            except (StoreError, OSError) as error:
                self.problem = str(error)


@contextmanager
def kept_ledger(
    store: Store,
    experiment: str,
    executor: str,
    estimates: Mapping[str, float],
    warn: Callable[[str], None] = log.warning,
) -> Iterator[Note]:
    """Yields a function that records the cost of units; `estimates` are seconds by the keys of units.

    If entries cannot be written, only calls `warn` once, at the end.
    """
    ledger = _Ledger(store, experiment, executor, estimates)
    try:
        yield ledger.note
    finally:
        ledger.close()
        if ledger.problem:
            warn(f"the ledger is incomplete: {ledger.problem}")


def _joined(texts: Sequence[str]) -> str:
    return " + ".join(dict.fromkeys(texts))
