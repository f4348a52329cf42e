"""Sends runs of a study as they are measured: a thread of the command reads the cube, independently of training."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from specdyn.storage.access import objects
from specdyn.storage.generations import attributes
from specdyn.storage.places import Store
from specdyn.tasks.tracking.records import SentRecord, read_sent, sent_record
from specdyn.tasks.tracking.tracked import Measured, measured_of, tracked, without
from specdyn.tasks.tracking.trackers import Stream, get_tracker

if TYPE_CHECKING:
    import xarray as xr

EVERY_SECONDS = 10.0


class Sender:
    """Sends the numbers of each run of a study to a tracker as they are measured, and the rest once it is done.

    A record in the store says what was sent: no number is sent twice, even by later calls and after a kill. The first
    error is reported in one line and stops sending in this call; the runs are not affected.
    """

    def __init__(self, name: str, store: Store, experiment: str, study: str, say: Callable[[str], None]) -> None:
        self._tracker, self._name = get_tracker(name), name
        self._store, self._experiment, self._study, self._say = store, experiment, study, say
        self._failed, self._ended = False, threading.Event()
        self._known: dict[str, SentRecord | None] = {}
        self._looked: dict[str, str] = {}
        """The contents of each run at the last check."""
        self._streams: dict[str, Stream] = {}
        self._thread = threading.Thread(target=self._run, name=f"to {name}", daemon=True)
        self.sent: list[str] = []
        """Finished runs sent by this call."""
        self.where = ""
        """URL of the last of them in the tracker."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None or issubclass(kind, Exception):
            self._send()
        for stream in self._streams.values():
            with contextlib.suppress(Exception):  # the tracker's failure has been reported
                stream.close(finished=False)

    def _run(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._send()

    def _send(self) -> None:
        """Send what is new of every run."""
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
        for run, measured in measured_of(tree).items():
            url = sent_record(self._store, self._name, self._study, self._experiment, run)
            if run not in self._known:
                self._known[run] = read_sent(url)
            before = self._known[run]
            is_there = before is not None and before.contents == measured.contents
            if not is_there and self._looked.get(run) != f"{measured.done} {measured.contents}":
                self._send_one(tree, run, measured, url)
                self._looked[run] = f"{measured.done} {measured.contents}"

    def _send_one(self, tree: "xr.DataTree", run_id: str, measured: Measured, url: str) -> None:
        """Send what is new of a run and, if it is done, its figures and facts."""
        run, before = tracked(tree, run_id, self._study), self._known[run_id]
        # New values of a run that was sent completely, or in other versions, cannot be distinguished from sent ones.
        anew = before is not None and (bool(before.contents) or before.results != measured.results)
        if anew and run_id in self._streams:
            self._streams.pop(run_id).close(finished=False)
        record = before if before and not anew else SentRecord(where="", results=measured.results)
        if not (run.scalars or measured.done):
            return
        if run_id not in self._streams:
            self._streams[run_id] = self._tracker.open(run, self._store.url, anew, record.steps)
        stream = self._streams[run_id]
        new = without(run.scalars, stream.sent)
        steps = {name: stream.sent.get(name, frozenset()) | new.get(name, {}).keys() for name in {*stream.sent, *new}}
        record = replace(record, where=stream.where, steps=steps)
        if new:
            objects.write(url, record.encoded())
            stream.send(new)
        if measured.done:
            stream.end(run.facts, run.figures)
            self._streams.pop(run_id).close(finished=True)
            record = replace(record, contents=measured.contents)
            objects.write(url, record.encoded())
            self.where = record.where
            self.sent.append(run_id)
        self._known[run_id] = record
