"""Trackers, to which runs are sent. Their packages are imported when a run is opened.

A run that is sent again replaces the previous one, or continues under the same name.
"""

import importlib.util
import io
import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from specdyn.models.spec.checks import require_known
from specdyn.tasks.tracking.tracked import Scalars

if TYPE_CHECKING:
    from specdyn.tasks.tracking.tracked import Tracked

TAG = "specdyn.run_id"
"""The tag or setting in the tracker with the run's name here."""
BATCH = 500
"""Metrics per request to MLflow."""


class Stream(ABC):
    """An open run in a tracker."""

    where: str
    """Its URL or path in the tracker."""
    sent: dict[str, frozenset[int]]
    """The steps of each number in the tracker, by name."""

    @abstractmethod
    def add(self, scalars: Scalars) -> None:
        """Send numbers by name and step."""

    @abstractmethod
    def end(self, facts: Mapping[str, float], figures: Mapping[str, bytes]) -> None:
        """Send facts and figures of the finished run."""

    @abstractmethod
    def close(self, finished: bool) -> None:
        """Flush and close; the run can be opened again."""

    def send(self, scalars: Scalars) -> None:
        """Send numbers, and record that they are there."""
        self.add(scalars)
        for name, values in scalars.items():
            self.sent[name] = self.sent.get(name, frozenset()) | values.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracker:
    """A program for monitoring runs."""

    package: str
    extra: str
    open: "Callable[[Tracked, str, bool, Mapping[str, frozenset[int]]], Stream]"
    """Opens a run of a store: with `anew` it replaces an existing one, otherwise continues it.

    If the tracker cannot be queried, the steps in the record count as sent.
    """


class ToTensorBoard(Stream):
    """Event files in `tensorboard/STUDY/RUN` in the store, or in the working folder if the store is not local."""

    def __init__(self, run: "Tracked", store: str, anew: bool, recorded: Mapping[str, frozenset[int]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        base = Path("tensorboard").resolve() if "://" in store else Path(store) / "tensorboard"
        folder = base / run.study / run.run_id
        if anew:
            shutil.rmtree(folder, ignore_errors=True)
        self._tags = self._there(folder)
        self.where, self.sent = str(folder), {name: steps for name, steps in self._tags.items() if steps}
        self._writer = SummaryWriter(str(folder))
        if "settings/text_summary" not in self._tags:
            settings = {TAG: run.run_id, **run.settings}
            self._writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in settings.items()))

    @staticmethod
    def _there(folder: Path) -> dict[str, frozenset[int]]:
        """The steps of each number in the files, ignoring incomplete writes of killed processes."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        if not folder.is_dir():
            return {}
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        tags = events.Tags()
        others = dict.fromkeys([*tags["tensors"], *tags["images"]], frozenset[int]())
        return {**others, **{tag: frozenset(one.step for one in events.Scalars(tag)) for tag in tags["scalars"]}}

    def add(self, scalars: Scalars) -> None:
        for name, values in scalars.items():
            for step, value in values.items():
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, facts: Mapping[str, float], figures: Mapping[str, bytes]) -> None:
        from PIL import Image

        for name, value in facts.items():
            if f"run/{name}" not in self._tags:
                self._writer.add_scalar(f"run/{name}", value, 0)
        for name, png in figures.items():
            if name not in self._tags:
                picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
                self._writer.add_image(name, picture, dataformats="HWC")

    def close(self, finished: bool) -> None:
        self._writer.close()


class ToWandb(Stream):
    """The project in WANDB_PROJECT, or named after the study; WANDB_MODE=offline only writes files."""

    def __init__(self, run: "Tracked", store: str, anew: bool, recorded: Mapping[str, frozenset[int]]) -> None:
        import wandb

        if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.api.api_key:
            raise ValueError("not logged in: call `wandb login`, or set WANDB_API_KEY or WANDB_MODE=offline")
        self._there = wandb.init(
            project=os.environ.get("WANDB_PROJECT", run.study),
            id=run.run_id,
            name=run.run_id,
            group=run.study,
            config={**run.settings, TAG: run.run_id, "specdyn.store": store},
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )
        self._there.define_metric("step", hidden=True)
        self._there.define_metric("*", step_metric="step")
        self.where = str(self._there.url or self._there.dir)
        self.sent = {} if anew else dict(recorded)

    def add(self, scalars: Scalars) -> None:
        by_step: dict[int, dict[str, float]] = defaultdict(dict)
        for name, values in scalars.items():
            for step, value in values.items():
                by_step[step][name] = value
        for step in sorted(by_step):
            self._there.log({"step": step, **by_step[step]})

    def end(self, facts: Mapping[str, float], figures: Mapping[str, bytes]) -> None:
        import wandb
        from PIL import Image

        if figures:
            pictures = {name: wandb.Image(Image.open(io.BytesIO(png))) for name, png in figures.items()}
            self._there.log({f"figures/{name}": picture for name, picture in pictures.items()})
        self._there.summary.update(dict(facts))

    def close(self, finished: bool) -> None:
        self._there.finish()


class ToMlflow(Stream):
    """The experiment named after the study at MLFLOW_TRACKING_URI; a run sent again replaces the previous one."""

    def __init__(self, run: "Tracked", store: str, anew: bool, recorded: Mapping[str, frozenset[int]]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(run.study)
        experiment = found.experiment_id if found else self._client.create_experiment(run.study)
        old = self._client.search_runs([experiment], f"tags.`{TAG}` = '{run.run_id}'")
        for one in old if anew else ():
            self._client.delete_run(one.info.run_id)
        self.sent = {}
        if old and not anew:
            self.where = str(old[0].info.run_id)
            for name in old[0].data.metrics:
                history = self._client.get_metric_history(self.where, name)
                self.sent[name] = frozenset(metric.step for metric in history)
            return
        tags = {TAG: run.run_id, "specdyn.store": store, "mlflow.runName": run.run_id}
        self.where = str(self._client.create_run(experiment, tags=tags).info.run_id)
        params = [Param(name, str(value)) for name, value in run.settings.items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self.where, params=params[start : start + 100])

    def add(self, scalars: Scalars) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, of in scalars.items() for step, value in of.items()]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(self.where, metrics=metrics[start : start + BATCH])

    def end(self, facts: Mapping[str, float], figures: Mapping[str, bytes]) -> None:
        self.add({f"run/{name}": {0: value} for name, value in facts.items() if f"run/{name}" not in self.sent})
        with tempfile.TemporaryDirectory(prefix="specdyn-figures-") as folder:
            for name, png in figures.items():
                Path(folder, f"{name}.png").write_bytes(png)
            self._client.log_artifacts(self.where, folder, "figures")

    def close(self, finished: bool) -> None:
        if finished:
            self._client.set_terminated(self.where)


TRACKERS = {
    "mlflow": Tracker(package="mlflow", extra="mlflow", open=ToMlflow),
    "tensorboard": Tracker(package="tensorboard", extra="tensorboard", open=ToTensorBoard),
    "wandb": Tracker(package="wandb", extra="wandb", open=ToWandb),
}


def get_tracker(name: str) -> Tracker:
    """A tracker by name; ValueError for an unknown one, or if its package is missing."""
    require_known("log", name, TRACKERS)
    tracker = TRACKERS[name]
    if importlib.util.find_spec(tracker.package) is None:
        raise ValueError(f"log={name!r} needs {tracker.package}: pip install 'specdyn[{tracker.extra}]'")
    return tracker
