"""Runs and controls the process that analyses a recording while training writes it.

Training announces new steps, and the analysis reports up to which step it has analysed. The steps themselves are in
the store, so messages are single words.
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Literal

NEW, END = "new", "end"
"""Messages of training: there are new steps; there will be no more."""
ANALYSED, FAILED = "analysed", "failed"
"""Answers of the analysis."""
NICENESS = 10
WhenBehind = Literal["later", "wait"]

log = logging.getLogger("specdyn.recording")


class Following:
    """The analysis of a recording in a separate process, controlled by the training process.

    It has one thread, a lower priority and no GPU.
    """

    def __init__(
        self, store: str, name: str, analyses: Sequence[str], pending: int | None, fail: Callable[[str], None]
    ) -> None:
        """Start it. With `pending`, a thread that announces a step waits until at most that many are unanalysed."""
        self._name, self._pending, self._fail = name, pending, fail
        self._changed = threading.Condition()
        self._behind: list[int] = []
        """Announced steps that it has not reported as analysed."""
        self._looking = self._ended = self._expected = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "specdyn.tasks.recording.following", store, name, *analyses],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is only for training
        )
        self._ears = threading.Thread(target=self._hear, name="analysis of a recording", daemon=True)
        self._ears.start()

    def told(self, step: int) -> None:
        """Announce a written step; with `pending`, waits while too many are unanalysed."""
        with self._changed:
            self._behind.append(step)
            self._say_new()
            if self._pending is not None:
                self._changed.wait_for(lambda: not self._looking or len(self._behind) <= (self._pending or 0))

    def back(self, step: int) -> None:
        """Announce that steps after this one were removed."""
        with self._changed:
            self._behind = [at for at in self._behind if at <= step]

    def finish(self, whole: bool) -> None:
        """If `whole`, wait until everything is analysed; else let it finish its present work and leave the rest."""
        with self._changed:
            self._expected = True
            if whole:
                self._say(END)
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if whole:
            log.info("waiting for the analysis of %s", self._name)
            try:
                self._ears.join()
            except BaseException:
                self._process.kill()
                raise

    def _say_new(self) -> None:
        if not (self._looking or self._ended):
            self._looking = True
            self._say(NEW)

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended, which `_hear` notices
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()

    def _hear(self) -> None:
        """Read its answers until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, _, what = line.strip().partition(" ")
            with self._changed:
                self._looking = False
                if word == ANALYSED:
                    self._behind = [at for at in self._behind if at > int(what)]
                    if self._behind and not self._expected:
                        self._say_new()
                else:
                    self._fail(f"analysis: {what}")
                self._changed.notify_all()
        self._process.stdout.close()
        code = self._process.wait()
        with self._changed:
            self._looking, self._ended = False, True
            if code or not self._expected:
                self._fail(f"the analysis ended with {code}: call `specdyn analyse` for what is left")
            self._changed.notify_all()


def follow(store: str, name: str, analyses: Sequence[str]) -> None:
    """Analyse a recording each time standard input requests it; answers go to standard output."""
    from specdyn.tasks.spectra.analysis import get_analysis

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # other output must not be mistaken for answers
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    # Analyses that depend on the last or on all checkpoints would be repeated with each new one.
    growing = [one for one in analyses if get_analysis(one).depends in ("own", "initial", "previous")]
    for line in sys.stdin:
        ends = line.strip() == END
        try:
            answer = f"{ANALYSED} {analyse_recording(store, name, analyses if ends else growing)}"
        except Exception as error:  # noqa: BLE001 - training says it, and the next time may do
            answer = f"{FAILED} {type(error).__name__}: {' '.join(str(error).split())[:500]}"
        with contextlib.suppress(BrokenPipeError):  # training was killed
            print(answer, file=answers)
        if ends:
            return


def analyse_recording(store: str, name: str, analyses: Sequence[str]) -> int:
    """Analyse new steps of a recording like `specdyn analyse`, into a study of its name; returns the last step.

    StoreError if something could not be analysed.
    """
    from specdyn.storage.access.objects import StoreError, normalise
    from specdyn.storage.foreign.found import Search
    from specdyn.storage.places import Store
    from specdyn.tasks.foreign.network.layout import Look
    from specdyn.tasks.plan.here import run_here
    from specdyn.tasks.plan.series import SeriesStudy
    from specdyn.tasks.plan.sources import look_at

    place = Store(normalise(store))
    sources = look_at([place.recording(name).folder], Search(), Look())
    if analyses:
        study = SeriesStudy(name=name, sources=sources, analyses=tuple(analyses), audited=False)
        did = run_here(study, place, threads=1, report=False, live=False)
        if did.failures:
            raise StoreError("; ".join(did.failures.values()))
    return sources[0].series.steps[-1]


if __name__ == "__main__":
    follow(sys.argv[1], sys.argv[2], sys.argv[3:])
