"""Runs a sweep from a program: in this process, or through the command with Prefect and Ray."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.checks import require, require_known
from specdyn.models.spec.run_spec import as_text
from specdyn.storage.access.objects import normalise
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.tasks.evaluation.environment import usable_cores
from specdyn.tasks.library.progress import counted
from specdyn.tasks.plan.gathering import finished_results
from specdyn.tasks.plan.here import Watcher, run_here
from specdyn.tasks.plan.sweeps import Sweep, make_sweep
from specdyn.tasks.tracking.sender import Sender
from specdyn.tasks.tracking.trackers import get_tracker

if TYPE_CHECKING:
    import xarray as xr

EXECUTORS = ("inline", "ray")


class SweepFailed(RuntimeError):
    """Some runs failed; the message says which and why. Results of the others are kept."""


def run(
    experiment: str,
    preset: str = "",
    *,
    store: str = "results",
    executor: Literal["inline", "ray"] = "inline",
    analyses: Sequence[str] | None = None,
    name: str = "",
    report: bool = False,
    threads: int = 1,
    log: str = "",
    progress: bool = True,
    **settings: Any,
) -> "xr.DataTree":
    """Train and analyse the runs of a grid that the store lacks, and return their cube.

    `settings` are those of the experiment, including `weight_decay` and `seed`: a list is an axis of the grid, a single
    value applies to every run, others come from the preset. `inline` trains in this process, one run after another;
    `ray` calls `specdyn run`, with Prefect and every core of this machine, or the cluster at RAY_ADDRESS. Each run
    computes with `threads` threads; 0 means every core available to this process. One thread, the command's default,
    is bitwise reproducible: sums over several threads are rounded differently. `log` is a tracker to which runs are
    sent as they are measured: tensorboard, wandb or mlflow. An interrupted call continues where it stopped. ValueError,
    before any work is done, if a setting is not allowed; SweepFailed, after all other runs are done, if runs failed.
    """
    from specdyn.tasks.library.opened import opened

    require_known("executor", executor, EXECUTORS)
    require(isinstance(threads, int) and threads >= 0, "threads", threads, "a whole number from 0")
    if log:
        get_tracker(log)
    preset = preset or get_experiment(experiment).usual
    axes = {key: list(value) for key, value in settings.items() if isinstance(value, list | range)}
    fixed = {key: value for key, value in settings.items() if key not in axes}
    sweep = make_sweep(
        experiment,
        preset,
        weight_decays=axes.pop("weight_decay", None),
        seeds=axes.pop("seed", None),
        sweep=name or None,
        analyses=analyses,
        axes=axes,
        settings=fixed,
    )
    place = Store(normalise(store))
    if executor == "ray":
        _by_command(sweep, place, report, threads, log, settings)
    else:
        require_store(place.url)
        with Sender(log, place, experiment, sweep.name, _say) if log else nullcontext():
            _in_this_process(sweep, place, threads or usable_cores(), report, progress)
    return opened(sweep.cube(place))


def _in_this_process(sweep: Sweep, store: Store, threads: int, report: bool, progress: bool) -> None:
    if finished_results(sweep, store, report):
        return
    sweep = sweep.checked(store)  # prepares samples, whose sizes are needed to count units
    total = sum(item.parts for item in sweep.items(store) if item.unit)
    with counted(f"{sweep.name}: checkpoints", total, progress) as advance:
        did = run_here(sweep, store, threads=threads, report=report, watcher=Watcher(advance=advance, say=_say))
    if did.failures:
        raise SweepFailed("; ".join(f"{what}: {why}" for what, why in did.failures.items()))


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _by_command(sweep: Sweep, store: Store, report: bool, threads: int, log: str, settings: Mapping[str, Any]) -> None:
    """Run `specdyn run`; its output goes to standard error as it comes."""
    command = [sys.executable, "-m", "specdyn", "run", sweep.experiment, "--preset", sweep.preset]
    command += ["--store", store.url, "--sweep", sweep.name, "--analyses", ",".join(sweep.analyses)]
    command += ["--cpus", str(threads or usable_cores())]
    command += [*([] if report else ["--no-report"]), *(["--log", log] if log else [])]
    for name, value in settings.items():
        axis = isinstance(value, list | range)
        flag = {"weight_decay": "-w", "seed": "-s"}.get(name, "-a" if axis else "--set")
        text = ",".join(map(as_text, value)) if axis else as_text(value)
        command += [flag, text if flag in ("-w", "-s") else f"{name}={text}"]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.stdout is not None
    last = ""
    for line in done.stdout:
        sys.stderr.write(line)
        last = line.strip() or last
    if done.wait():
        raise SweepFailed(f"`{' '.join(command[1:])}` ended with {done.returncode}: {last}")
