"""Sends runs of a study as they are done: a thread of the command reads the cube. Training knows nothing of it."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from specdyn.storage.access import objects
from specdyn.storage.generations import attributes
from specdyn.storage.places import Store
from specdyn.tasks.tracking.tracked import finished_runs, tracked
from specdyn.tasks.tracking.trackers import described, get_tracker, parsed

EVERY_SECONDS = 10.0


def sent_record(store: Store, tracker: str, study: str, experiment: str, run_id: str) -> str:
    """The object that says where a run of a study is in a tracker; it goes with the run's logs."""
    return f"{store.logs(experiment, run_id)}/sent-to-{tracker}-{study}.json"


class Sender:
    """Sends each run of a study to a tracker once it is done, and the rest when the call ends.

    An object in the store says where a run is there, and of which values: what was sent is not sent again, also by
    later calls. The first error is said in one line, and ends the sending of this call; the runs are not touched by it.
    """

    def __init__(self, name: str, store: Store, experiment: str, study: str, say: Callable[[str], None]) -> None:
        self._tracker, self._name = get_tracker(name), name
        self._store, self._experiment, self._study, self._say = store, experiment, study, say
        self._failed, self._ended = False, threading.Event()
        self._known: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name=f"to {name}", daemon=True)
        self.sent: list[str] = []
        """Runs that this call sent."""
        self.where = ""
        """Where the last of them is."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None or issubclass(kind, Exception):
            self._send()

    def _run(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._send()

    def _send(self) -> None:
        """Send every run that is done and was not sent as it is."""
        if self._failed:
            return
        try:
            self._send_new()
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the runs go on
            self._failed = True
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self._say(f"warning: {self._name} takes no more runs of this call ({reason}); the next call sends the rest")

    def _send_new(self) -> None:
        from specdyn.storage.query import open_results

        cube = self._store.cube(self._study)
        if not attributes(cube):
            return
        tree = open_results(cube)
        for run, contents in finished_runs(tree).items():
            record = sent_record(self._store, self._name, self._study, self._experiment, run)
            if run not in self._known and objects.exists(record):
                self._known[run] = str(parsed(objects.read(record)).get("contents", ""))
            if self._known.get(run) == contents:
                continue
            where = self._tracker.send(tracked(tree, run, self._study), self._store.url)
            objects.write(record, described(where, contents))
            self.where = where
            self._known[run] = contents
            self.sent.append(run)
