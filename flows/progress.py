"""How far a sweep is: bars in the terminal and progress artifacts in Prefect, fed from the store."""

import sys
import threading
import time
from collections import Counter
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flows.planning import Plan
from storage.checkpoints import checkpoints_written

ARTIFACT_SECONDS = 5.0
STAGES = ("training", "analysis")


class SweepProgress:
    """Checkpoints trained and analysed, of all that the plan asks for; updated from the flow's own thread.

    Training is counted by what lies in the store, whichever engine or process writes it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._lock = plan, threading.Lock()
        self._training: dict[str, int] = {}
        self._done: Counter[str] = Counter()
        self._totals = {
            "training": sum(cell.checkpoints for cell in plan.cells if cell.to_train),
            "analysis": sum(len(block) for cell in plan.cells for block in cell.missing),
        }
        self._bars = _bars()
        self._bar: dict[str, TaskID] = {}
        self._artifacts: dict[str, UUID] = {}
        self._shown = dict.fromkeys(STAGES, 0.0)
        self._published = 0.0

    def __enter__(self) -> "SweepProgress":
        self._bars.start()
        for stage in (stage for stage in STAGES if self._totals[stage]):
            self._bar[stage] = self._bars.add_task(stage, total=self._totals[stage])
            self._artifacts[stage] = _as_uuid(
                create_progress_artifact(
                    0.0, key=f"{stage}-progress", description=f"{stage.capitalize()} of {self._plan.sweep.name}"
                )
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh(publish=True)
        self._bars.stop()

    def training(self, run_id: str) -> None:
        """A run is being trained."""
        with self._lock:
            self._training[run_id] = 0

    def analysed(self, checkpoints: int) -> None:
        """A block of that many checkpoints is analysed."""
        with self._lock:
            self._done["analysis"] += checkpoints

    def trained(self, run_id: str, checkpoints: int) -> None:
        """A run has ended with that many checkpoints."""
        with self._lock:
            self._training.pop(run_id, None)
            self._done["training"] += checkpoints

    def refresh(self, publish: bool = False) -> None:
        """Count what lies in the store and show it; artifacts every few seconds, or now with `publish`."""
        with self._lock:
            running, done = list(self._training), Counter(self._done)
        experiment = self._plan.sweep.experiment
        done["training"] += sum(checkpoints_written(self._plan.store, experiment, run_id) for run_id in running)
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
