"""The thread that writes a recording, and its handling of a failing store."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from specdyn.storage.access import objects
from specdyn.storage.access.lease import LeaseLost, hold
from specdyn.storage.access.writer import BackgroundWriter
from specdyn.storage.probe import require_store
from specdyn.storage.recordings import AlreadyRecorded, RecordingRecord, Written, read_recording, write_recording
from specdyn.tasks.recording.copies import Copies
from specdyn.tasks.recording.following import Following
from specdyn.tasks.recording.spectra import gathered

Metrics = dict[str, float | Tensor]


class Writing:
    """A recording whose lease this process holds; one thread writes everything in order."""

    def __init__(
        self,
        store: str,
        record: RecordingRecord,
        pending: int,
        fail: Callable[[str], None],
        follow: Callable[[str, str, int], Following] | None = None,
    ) -> None:
        """Raises like `Recorder`; later errors are passed to `fail`.

        `follow` starts the analysis, given the store's URL, the recording's name, and how many steps may wait.
        """
        self.pending, self._fail = pending, fail
        self._place = require_store(store).recording(record.name)
        with contextlib.ExitStack() as stack:
            lease = stack.enter_context(hold(self._place.lease, f"recording {record.name}", waits=False))
            before = read_recording(self._place)
            self._record = record if before is None else _continued(before, record, self._place.folder)
            self._said = before
            if before is None:
                self._say()
            self._written = Written(self._place, lease.check)
            self._analysis = follow(self._place.store.url, record.name, pending) if follow else None
            self._writer = stack.enter_context(BackgroundWriter(pending))
            self._open = stack.pop_all()
        self.steps = self._written.steps
        self._lines: dict[int, dict[str, float]] = {}
        self._back: int | None = None
        """The step to which training was rewound, until later steps have been removed."""
        self._failing = self._stopped = False

    def busy(self, skips: bool) -> bool:
        """Whether to skip a step now: the queue is full, and either steps may be skipped or the store fails."""
        return self._writer.full and (skips or self._failing)

    def submit(self, step: int, copies: Copies, lines: Mapping[int, Metrics]) -> None:
        """Queue a step; waits while the queue is full."""
        self._writer.submit(
            lambda: self._safely(lambda: self._write(step, copies, lines), f"step {step} is not written")
        )

    def truncate(self, step: int) -> None:
        """Queue the removal of everything after a step."""
        self._writer.submit(lambda: self._safely(lambda: self._truncate(step), f"steps after {step} are not removed"))

    def close(self, lines: Mapping[int, Metrics], finished: bool) -> None:
        """Write everything that is left, release the lease, and wait for the analysis if there is one."""
        self._writer.submit(lambda: self._safely(lambda: self._finish(lines, finished), "the end is not written"))
        self._open.close()
        if self._analysis:
            self._analysis.finish(whole=finished)

    def _safely(self, act: Callable[[], None], failed: str) -> None:
        """Act unless recording is stopped; reports errors, and stops recording if it might become inconsistent."""
        if self._stopped:
            return
        try:
            act()
            self._failing = False
        except (AlreadyRecorded, LeaseLost) as error:
            self._stopped = True
            self._fail(f"{failed}, and nothing more is recorded: {error}")
        except Exception as error:  # noqa: BLE001 - nothing raises into training
            self._failing = True
            self._fail(f"{failed}: {type(error).__name__}: {error}")

    def _write(self, step: int, copies: Copies, lines: Mapping[int, Metrics]) -> None:
        copies.wait()
        self._gather(lines)
        self._go_back()
        self._flush(step)
        spectra = self._record.keep == "spectra"
        url = self._place.spectrum(step) if spectra else self._place.checkpoint(step)
        self._written.put(url, step, copies.tensors)
        self._say(tied=copies.tied, finished=False)
        if self._analysis:
            self._analysis.told(step)

    def _truncate(self, step: int) -> None:
        self._lines = {at: line for at, line in self._lines.items() if at <= step}
        self._back = step if self._back is None else min(step, self._back)
        self._go_back()

    def _go_back(self) -> None:
        """Remove later steps of a previous training before writing new ones."""
        if self._back is not None:
            self._written.truncate(self._back)
            if self._analysis:
                self._analysis.back(self._back)
            self._back = None

    def _finish(self, lines: Mapping[int, Metrics], finished: bool) -> None:
        self._gather(lines)
        self._go_back()
        self._flush(max(self._lines, default=0))
        if self._record.keep == "spectra":
            objects.write(self._place.table, bytes(gathered(self._place).to_netcdf(engine="scipy")))
        self._say(finished=finished)

    def _gather(self, lines: Mapping[int, Metrics]) -> None:
        """Add lines to those left by a failed write."""
        for step, metrics in lines.items():
            self._lines.setdefault(step, {}).update({name: float(value) for name, value in metrics.items()})

    def _flush(self, step: int) -> None:
        self._written.put_lines(step, self._lines)
        self._lines = {}

    def _say(self, **changes: Any) -> None:
        """Write the record, if it has changed."""
        self._record = dataclasses.replace(self._record, **changes)
        if self._record != self._said:
            write_recording(self._place, self._record)
            self._said = self._record


def _continued(before: RecordingRecord, now: RecordingRecord, url: str) -> RecordingRecord:
    """The record of a continued recording; ValueError if it belongs to another training."""
    for field in ("settings", "keep", "layers"):
        was, given = getattr(before, field), getattr(now, field)
        if was != given:
            raise ValueError(f"{url} was recorded with {field}={was!r}, now {given!r}: choose another name")
    return dataclasses.replace(now, tied=before.tied)
