"""A background thread that writes in order, behind a bounded queue."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType


class BackgroundWriter:
    """Runs writes one after another in a thread; `submit` waits while `pending` writes are queued.

    The first failed write stops all later ones and is raised by the next `submit` or on leaving the context.
    """

    def __init__(self, pending: int = 2) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=pending)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoint-writer", daemon=True)

    def __enter__(self) -> "BackgroundWriter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    @property
    def full(self) -> bool:
        """Whether another `submit` would wait."""
        return self._queue.full()

    def submit(self, write: Callable[[], None]) -> None:
        """Queue a write; raises the error of an earlier one, if any."""
        self._raise()
        self._queue.put(write)

    def _run(self) -> None:
        while (write := self._queue.get()) is not None:
            if self._error is None:
                try:
                    write()
                except BaseException as error:  # noqa: BLE001 - handed to the thread that submits
                    self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
