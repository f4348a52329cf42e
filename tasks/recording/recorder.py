"""`Recorder`: writes checkpoints and metrics of a user's training loop while it runs."""

from __future__ import annotations

import atexit
import json
import logging
import operator
import os
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, get_args

from torch import Tensor, nn

from specdyn.models.spec.checks import require
from specdyn.storage.access.lease import LeaseHeld
from specdyn.storage.recordings import RecordingRecord
from specdyn.tasks.evaluation.environment import versions
from specdyn.tasks.plan.names import require_name
from specdyn.tasks.recording.copies import Copies, copied, is_spread, require_copyable, unwrapped, watched
from specdyn.tasks.recording.following import Following, WhenBehind
from specdyn.tasks.recording.processes import from_first
from specdyn.tasks.recording.schedule import schedule
from specdyn.tasks.recording.spectra import require_pattern, singular_values
from specdyn.tasks.recording.writing import Metrics, Writing

log = logging.getLogger("specdyn.recording")

Keep = Literal["checkpoints", "spectra"]
WhenFull = Literal["wait", "skip"]
MOST_ERRORS = 100
"""Most errors that are kept, as one may recur at every step."""


class Recorder:
    """Records weights and metrics of a training loop at some of its steps, always including the first and the last.

    The loop waits for a copy of the weights, which a thread writes. Training is not affected: no random numbers are
    drawn, no mode is set, and no exception is raised into it; errors are collected in `errors`.
    """

    def __init__(
        self,
        store: str,
        name: str,
        *,
        every: int | None = None,
        at: Iterable[int] = (),
        per_decade: int = 0,
        settings: Mapping[str, Any] | None = None,
        keep: Keep = "checkpoints",
        layers: str = "",
        when_full: WhenFull = "wait",
        pending: int = 2,
        analyse: bool | Sequence[str] = False,
        when_behind: WhenBehind = "later",
        resume_from: int | None = None,
        enabled: bool = True,
    ) -> None:
        """Open `STORE/recorded/NAME`; all processes of a distributed training must call this, and the first one writes.

        Steps are multiples of `every` (100 if no schedule is given), those in `at`, and `per_decade` of each power of
        ten. `settings` distinguish this training from others. `keep="spectra"` keeps only the singular values of the
        layers that match the regular expression `layers`, no weights. Up to `pending` copies may wait to be written;
        beyond, the loop waits or skips the step. `analyse` (True or names of analyses) makes another process analyse
        recorded steps during training, into the study NAME; if it falls more than `pending` steps behind, it catches up
        later, or the writing thread waits for it. `resume_from` removes what was recorded after that step. With
        `enabled=False` it does nothing at all.

        ValueError for invalid arguments, or if the name has a recording with other settings; StoreError if the store
        cannot be used, or another process records under that name.
        """
        require_name("name", name)
        require(keep in get_args(Keep), "keep", keep, "one of " + ", ".join(get_args(Keep)))
        require(when_full in get_args(WhenFull), "when_full", when_full, "one of " + ", ".join(get_args(WhenFull)))
        require(isinstance(pending, int) and pending >= 1, "pending", pending, "a whole number from 1")
        require(not layers or keep == "spectra", "layers", layers, "nothing, unless keep='spectra'")
        require_pattern("layers", layers)
        behind = get_args(WhenBehind)
        require(when_behind in behind, "when_behind", when_behind, "one of " + ", ".join(behind))
        require(not analyse or keep == "checkpoints", "analyse", analyse, "False where no checkpoints are kept")
        self._analyses = _chosen(analyse)
        self._when_behind = when_behind
        begins = resume_from is None or (isinstance(resume_from, int) and resume_from >= 0)
        require(begins, "resume_from", resume_from, "a step from 0, or None")
        self.errors: list[str] = []
        """Errors in order, up to 100; the first is logged."""
        self.skipped: list[int] = []
        """Steps that were due but skipped, as the queue was full."""
        self._schedule = schedule(every, at, per_decade)
        self._keep, self._layers, self._when_full = keep, layers, when_full
        self._enabled, self._closed, self._pid = enabled, False, os.getpid()
        self._writing: Writing | None = None
        self._steps: set[int] = set()
        self._model: nn.Module | None = None
        self._watched: list[Tensor] = []
        self._last: _Seen | None = None
        self._lines: dict[int, Metrics] = {}
        self._busy, self._since, self._until = 0.0, 0.0, 0.0
        if not enabled:
            return
        record = RecordingRecord(
            name=name,
            settings=_plain(settings or {}),
            keep=keep,
            layers=layers,
            every=self._schedule.every,
            at=tuple(sorted(self._schedule.at)),
            per_decade=per_decade,
            versions=versions(),
        )
        self._steps = from_first(lambda: self._open(str(store), record, pending))
        self._at_exit = _AtExit(self)
        if resume_from is not None:
            self.resume(resume_from)

    def _open(self, store: str, record: RecordingRecord, pending: int) -> set[int]:
        try:
            self._writing = Writing(store, record, pending, self._fail, self._follow if self._analyses else None)
        except LeaseHeld as error:
            raise LeaseHeld(
                f"{error}; choose another name, or, for several processes of one training, call "
                "torch.distributed.init_process_group first"
            ) from None
        return set(self._writing.steps)

    def _follow(self, store: str, name: str, pending: int) -> Following:
        return Following(store, name, self._analyses, pending if self._when_behind == "wait" else None, self._fail)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(finished=error is None)

    @property
    def share(self) -> float:
        """The share of time that the loop spent in here between the first step and the last; 0 before that."""
        return self._busy / (self._until - self._since) if self._until > self._since else 0.0

    def due(self, step: int) -> bool:
        """Whether `step` would record this step: check before computing expensive metrics."""
        return self._active and (not self._steps or self._schedule.has(step))

    def step(self, step: int, model: nn.Module, /, **metrics: Any) -> None:
        """Announce that `step` updates are done; records weights and metrics if the step is due.

        If a step is announced several times, as with gradient accumulation, the first counts. Metrics are numbers or
        one-element tensors, which are copied asynchronously; None is left out.
        """
        self._guarded(step, model, metrics, forced=False)

    def record(self, step: int, model: nn.Module, /, **metrics: Any) -> None:
        """Record this step even if it is not due."""
        self._guarded(step, model, metrics, forced=True)

    def log(self, step: int, /, **metrics: Any) -> None:
        """Record only metrics of a step, such as an evaluation's."""
        if self._active:
            self._add_line(step, {name: float(value) for name, value in self._numbers(step, metrics).items()})

    def resume(self, step: int) -> None:
        """Continue training from this step: removes what was recorded after it."""
        if not self._active:
            return
        self._steps = {at for at in self._steps if at <= step}
        self._lines = {at: line for at, line in self._lines.items() if at <= step}
        self._last = None
        if self._writing:
            self._writing.truncate(step)

    def close(self, finished: bool = True) -> None:
        """Record the last announced step, write everything queued, and note whether training finished.

        Call it before the weights change again, or the last step cannot be recorded. If training finished, waits for
        the analysis, if there is one.
        """
        if not self._active:
            return
        try:
            last = self._last
            if last and last.step not in self._steps and (finished or not is_spread(last.model)):
                if last.changed():
                    what = "the weights changed before close(); call step() after the update that it counts"
                    self._fail(f"step {last.step}, the last, is not recorded: {what}")
                else:
                    self._take(last, forced=True)
        except Exception as error:  # noqa: BLE001 - nothing raises into training
            self._fail(f"the last step: {type(error).__name__}: {error}")
        finally:
            self._closed, self._last, self._model, self._watched = True, None, None, []
            self._at_exit.forget()
            if self._writing:
                self._writing.close(self._lines, finished)

    @property
    def _active(self) -> bool:
        """Whether it is active in this process: a forked process lacks its thread."""
        return self._enabled and not self._closed and self._pid == os.getpid()

    def _guarded(self, step: int, model: nn.Module, metrics: Mapping[str, Any], forced: bool) -> None:
        if not self._active:
            if self._closed:
                self._fail(f"step {step} is not recorded: it came after close()")
            return
        began = time.perf_counter()
        try:
            self._told(operator.index(step), model, metrics, forced)
        except Exception as error:  # noqa: BLE001 - nothing raises into training
            self._fail(f"step {step}: {type(error).__name__}: {error}")
        self._until = time.perf_counter()
        if self._since:
            self._busy += self._until - began
        else:
            self._since = self._until

    def _told(self, step: int, model: nn.Module, metrics: Mapping[str, Any], forced: bool) -> None:
        before = self._last.step if self._last else 0
        require(step >= before, "step", step, f"{before} or more; call resume({step}) if training was rewound")
        if self._last and step == before and not (forced and step not in self._steps):
            return
        if model is not self._model:
            require_copyable(model)
            self._model, self._watched = model, watched(model)
        last = self._last = _Seen(step, model, self._watched, self._numbers(step, metrics))
        if forced or self.due(step):
            self._take(last, forced or not self._steps)

    def _take(self, seen: _Seen, forced: bool) -> None:
        """Queue a step, or skip it; if tensors are sharded, all processes take part in the copy."""
        writing, spread = self._writing, is_spread(seen.model)
        skips = self._when_full == "skip" and not spread  # all processes must agree
        if writing is not None and not forced and writing.busy(skips):
            self.skipped.append(seen.step)
            if len(self.skipped) == 1:
                log.warning("step %d is not recorded: %d copies wait to be written", seen.step, writing.pending)
            if spread:
                self._copies(seen.model, wanted=False)
                self._steps.add(seen.step)
            return
        self._steps.add(seen.step)
        if writing is None:
            if spread:
                self._copies(seen.model, wanted=False)
            return
        self._add_line(seen.step, seen.metrics)
        lines, self._lines = self._lines, {}
        writing.submit(seen.step, self._copies(seen.model, wanted=True), lines)

    def _copies(self, model: nn.Module, wanted: bool) -> Copies:
        if self._keep == "checkpoints":
            return copied(model, wanted)
        found, wrong = singular_values(unwrapped(model), self._layers, wanted)
        for error in wrong:
            self._fail(error)
        return Copies(tensors=found)

    def _numbers(self, step: int, metrics: Mapping[str, Any]) -> Metrics:
        """The numeric metrics; adds errors for others."""
        found: Metrics = {}
        for name, value in metrics.items():
            try:
                if value is not None:
                    require(name != "step", "metric", name, "another name")
                    found[name] = _number(name, value)
            except Exception as error:  # noqa: BLE001 - nothing raises into training
                self._fail(f"metric {name!r} of step {step}: {error}")
        return found

    def _add_line(self, step: int, metrics: Metrics) -> None:
        if metrics and self._writing:
            self._lines.setdefault(step, {}).update(metrics)

    def _fail(self, what: str) -> None:
        """Add an error; the first one is logged."""
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(what)
        if len(self.errors) == 1:
            log.warning("recording: %s (training goes on; what follows is in Recorder.errors)", what)


class _Seen:
    """The last announced step, which can detect whether the weights have changed since."""

    def __init__(self, step: int, model: nn.Module, tensors: Sequence[Tensor], metrics: Metrics) -> None:
        self.step, self.model, self.metrics = step, model, metrics
        self._versions = [(tensor, tensor._version) for tensor in tensors]

    def changed(self) -> bool:
        """Whether weights have been changed in place since; cannot detect changes by fused optimizers."""
        return any(tensor._version != version for tensor, version in self._versions)


class _AtExit:
    """Closes an open recorder when the program ends, without keeping it alive."""

    def __init__(self, recorder: Recorder) -> None:
        self._of = weakref.ref(recorder)
        atexit.register(self)

    def __call__(self) -> None:
        if (recorder := self._of()) is not None:
            recorder.close(finished=False)

    def forget(self) -> None:
        atexit.unregister(self)


def _chosen(analyse: bool | Sequence[str]) -> tuple[str, ...]:
    """The requested analyses; ValueError for an unknown one, or one that needs data."""
    if isinstance(analyse, bool) and not analyse:
        return ()
    from specdyn.tasks.plan.series import choose

    return choose(None if isinstance(analyse, bool) else analyse)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON values; numpy and torch numbers become plain ones."""
    try:
        text = json.dumps(dict(settings), default=lambda value: value.item())
        return dict(json.loads(text))
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"settings={settings!r} are not allowed: expected what JSON can hold ({error})") from None


def _number(name: str, value: Any) -> float | Tensor:
    """A metric as a number; a tensor on a GPU as an asynchronous copy."""
    if isinstance(value, Tensor):
        require(value.numel() == 1, name, tuple(value.shape), "one number")
        return float(value.detach()) if value.device.type == "cpu" else value.detach().clone()
    return float(value)
