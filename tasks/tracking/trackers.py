"""Trackers: each sends one run and returns where it is there. Their packages are imported when something is sent.

A run that is sent again replaces the one before, or goes on under the same name.
"""

import importlib.util
import io
import json
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.models.spec.checks import require_known

if TYPE_CHECKING:
    from specdyn.tasks.tracking.tracked import Tracked

TAG = "specdyn.run_id"
"""The tag, or setting, by which a run there is found by its name here."""
BATCH = 500
"""Metrics of MLflow that are sent in one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracker:
    """A program that people watch runs in."""

    package: str
    extra: str
    send: "Callable[[Tracked, str], str]"
    """Sends a run of a store, and returns where it is."""


def to_tensorboard(run: "Tracked", store: str) -> str:
    """Write event files to `tensorboard/STUDY/RUN` in the store, or here where the store is no folder."""
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    base = Path("tensorboard").resolve() if "://" in store else Path(store) / "tensorboard"
    folder = base / run.study / run.run_id
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        settings = {TAG: run.run_id, **run.settings}
        writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in settings.items()))
        for name, values in run.scalars.items():
            for step, value in values.items():
                writer.add_scalar(name, value, step)
        for name, value in run.facts.items():
            writer.add_scalar(f"run/{name}", value, 0)
        for name, png in run.figures.items():
            writer.add_image(name, np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), dataformats="HWC")
    return str(folder)


def to_wandb(run: "Tracked", store: str) -> str:
    """Send to the project of WANDB_PROJECT, or of the study's name; WANDB_MODE=offline writes files alone."""
    import wandb
    from PIL import Image

    if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.api.api_key:
        raise ValueError("nobody is logged in: call `wandb login`, or set WANDB_API_KEY or WANDB_MODE=offline")
    with wandb.init(
        project=os.environ.get("WANDB_PROJECT", run.study),
        id=run.run_id,
        name=run.run_id,
        group=run.study,
        config={**run.settings, TAG: run.run_id, "specdyn.store": store},
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
    ) as there:
        there.define_metric("step", hidden=True)
        there.define_metric("*", step_metric="step")
        by_step: dict[int, dict[str, float]] = defaultdict(dict)
        for name, values in run.scalars.items():
            for step, value in values.items():
                by_step[step][name] = value
        for step in sorted(by_step):
            there.log({"step": step, **by_step[step]})
        if run.figures:
            there.log({f"figures/{name}": wandb.Image(Image.open(io.BytesIO(p))) for name, p in run.figures.items()})
        there.summary.update(dict(run.facts))
        return str(there.url or there.dir)


def to_mlflow(run: "Tracked", store: str) -> str:
    """Send to the experiment of the study's name at MLFLOW_TRACKING_URI; a run that was there before is replaced."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient()
    found = client.get_experiment_by_name(run.study)
    experiment = found.experiment_id if found else client.create_experiment(run.study)
    old = client.search_runs([experiment], f"tags.`{TAG}` = '{run.run_id}'")
    tags = {TAG: run.run_id, "specdyn.store": store, "mlflow.runName": run.run_id}
    there = client.create_run(experiment, tags=tags).info.run_id
    now = int(time.time() * 1000)
    params = [Param(name, str(value)) for name, value in run.settings.items()]
    metrics = [Metric(n, value, now, step) for n, values in run.scalars.items() for step, value in values.items()]
    metrics += [Metric(f"run/{name}", value, now, 0) for name, value in run.facts.items()]
    for start in range(0, len(params), 100):
        client.log_batch(there, params=params[start : start + 100])
    for start in range(0, len(metrics), BATCH):
        client.log_batch(there, metrics=metrics[start : start + BATCH])
    with tempfile.TemporaryDirectory(prefix="specdyn-figures-") as folder:
        for name, png in run.figures.items():
            Path(folder, f"{name}.png").write_bytes(png)
        client.log_artifacts(there, folder, "figures")
    client.set_terminated(there)
    for one in old:
        client.delete_run(one.info.run_id)
    return str(there)


TRACKERS = {
    "mlflow": Tracker(package="mlflow", extra="mlflow", send=to_mlflow),
    "tensorboard": Tracker(package="tensorboard", extra="tensorboard", send=to_tensorboard),
    "wandb": Tracker(package="wandb", extra="wandb", send=to_wandb),
}


def get_tracker(name: str) -> Tracker:
    """A tracker by its name; ValueError for an unknown one, and where its package is missing."""
    require_known("log", name, TRACKERS)
    tracker = TRACKERS[name]
    if importlib.util.find_spec(tracker.package) is None:
        raise ValueError(f"log={name!r} needs {tracker.package}: pip install 'specdyn[{tracker.extra}]'")
    return tracker


def described(where: str, contents: str) -> bytes:
    """The record of a run that was sent."""
    return json.dumps({"where": where, "contents": contents}).encode()


def parsed(text: bytes) -> dict[str, Any]:
    """What such a record says; nothing where it is something else."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
