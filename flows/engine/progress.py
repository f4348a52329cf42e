"""How far a sweep is: bars in the terminal and progress artifacts in Prefect, fed from the store."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Self
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from specdyn.storage.checkpoints import checkpoints_written
from specdyn.tasks.plan.planning import Plan

ARTIFACT_SECONDS = 5.0


class StageProgress:
    """Checkpoints that each stage has done, of all it has to do; shown from the flow's own thread."""

    def __init__(self, title: str, totals: Mapping[str, int]) -> None:
        self._title, self._lock = title, threading.Lock()
        self._totals = {stage: total for stage, total in totals.items() if total}
        self._done: Counter[str] = Counter()
        self._bars = _bars()
        self._bar: dict[str, TaskID] = {}
        self._artifacts: dict[str, UUID] = {}
        self._shown = dict.fromkeys(totals, 0.0)
        self._published = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        for stage, total in self._totals.items():
            self._bar[stage] = self._bars.add_task(stage, total=total)
            self._artifacts[stage] = _as_uuid(
                create_progress_artifact(
                    0.0, key=f"{stage}-progress", description=f"{stage.capitalize()} of {self._title}"
                )
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh(publish=True)
        self._bars.stop()

    def analysed(self, checkpoints: int) -> None:
        """A block of that many checkpoints is analysed."""
        self.advance("analysis", checkpoints)

    def advance(self, stage: str, units: int) -> None:
        """That many more of a stage are done."""
        with self._lock:
            self._done[stage] += units

    def counted(self) -> Counter[str]:
        """Checkpoints done by stage."""
        with self._lock:
            return Counter(self._done)

    def refresh(self, publish: bool = False) -> None:
        """Show what is done; artifacts every few seconds, or now with `publish`."""
        done = self.counted()
        for stage, bar in self._bar.items():
            self._bars.update(bar, completed=done[stage])
        if publish or time.monotonic() - self._published > ARTIFACT_SECONDS:
            self._publish(done)

    def _publish(self, done: Counter[str]) -> None:
        self._published = time.monotonic()
        for stage, artifact in self._artifacts.items():
            percent = round(100.0 * min(1.0, done[stage] / self._totals[stage]), 1)
            if percent != self._shown[stage]:
                update_progress_artifact(artifact, percent)
                self._shown[stage] = percent


class SweepProgress(StageProgress):
    """Checkpoints trained and analysed, of all that the plan asks for.

    Training is counted by what lies in the store, whichever engine or process writes it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._training: set[str] = set()
        totals = {
            "training": sum(cell.checkpoints for cell in plan.todo if cell.to_train),
            "analysis": sum(len(block) for cell in plan.todo for block in cell.missing),
        }
        super().__init__(plan.sweep.name, totals)

    def training(self, run_id: str) -> None:
        """A run is being trained."""
        with self._lock:
            self._training.add(run_id)

    def trained(self, run_id: str, checkpoints: int) -> None:
        """A run has ended with that many checkpoints."""
        with self._lock:
            self._training.discard(run_id)
            self._done["training"] += checkpoints

    def counted(self) -> Counter[str]:
        """Checkpoints done by stage; those of runs in training as the store lists them."""
        with self._lock:
            running, done = list(self._training), Counter(self._done)
        experiment = self._plan.sweep.experiment
        done["training"] += sum(checkpoints_written(self._plan.store.run(experiment, run_id)) for run_id in running)
        return done


def _bars() -> Progress:
    columns = (
        TextColumn("{task.description:9}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn("checkpoints"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty())


def _as_uuid(value: object) -> UUID:
    assert isinstance(value, UUID)
    return value
