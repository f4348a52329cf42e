"""Stages of a run as Prefect tasks: train, analyse; each asks the store first what is left to do."""

import functools
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture

from specdyn.flows.engine.executor import Executor
from specdyn.flows.engine.processes import PartLost
from specdyn.flows.engine.progress import StageProgress, SweepProgress
from specdyn.flows.engine.unit_log import kept_log
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec, hyperparameters, to_json
from specdyn.models.wording import plural
from specdyn.storage import results
from specdyn.storage.checkpoints import DamagedCheckpoint, Manifest, mark_damaged, read_manifest
from specdyn.storage.datasets import DamagedData
from specdyn.storage.places import Store
from specdyn.storage.scratch import ScratchFactors, StoredFactors
from specdyn.tasks.data.prepare import NotPrepared
from specdyn.tasks.identity import results_id
from specdyn.tasks.plan.planning import Block, missing_blocks
from specdyn.tasks.plan.sweeps import Sweep
from specdyn.tasks.spectra.analysis import get_analysis
from specdyn.tasks.spectra.decomposition import Factors, NotFinite
from specdyn.tasks.spectra.network_layout import NetworkLayout, network_layout, run_layout
from specdyn.tasks.spectra.one_pass import Target, analyse_block, anchor_steps, decompose_step, need_vectors, needed
from specdyn.tasks.spectra.series import RunSeries, Series
from specdyn.tasks.training.training import Diverged, train

FINAL = (DamagedCheckpoint, DamagedData, Diverged, NotFinite, NotPrepared, PartLost, ValueError, TypeError)
"""Errors that come again however often a stage is tried."""


def _worth_retrying(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    try:
        state.result(raise_on_failure=True)
    except FINAL:
        return False
    except Exception:  # noqa: BLE001 - whatever else it is may pass
        return True
    return False


OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 1,
    "retry_delay_seconds": 2,
    "retry_condition_fn": _worth_retrying,
}


def failure_of(future: PrefectFuture[Any]) -> str:
    """Why a task did not complete; empty where it did."""
    future.wait()  # takes the state from the task itself; until then it is asked of the server, which lags
    state = future.state
    if state.is_completed():
        return ""
    try:
        future.result()
    except Exception as error:  # noqa: BLE001 - any failure goes into the table
        return f"{type(error).__name__}: {error}"
    return f"did not run: {state.name}"


@task(name="train", task_run_name="train {label}", **OPTIONS)
def train_run(
    label: str, spec: RunSpec, store: Store, executor: Executor, progress: SweepProgress, retry_failed: bool = False
) -> str:
    """Train one run to its end as one unit; Diverged where its loss stopped being finite."""
    progress.training(spec.run_id)
    with kept_log(store.run_of(spec).logs, "train"):
        manifest: Manifest = executor.run(train, spec, store, (), None, retry_failed)
    progress.trained(spec.run_id, len(manifest.checkpoints))
    if manifest.status != "complete":
        raise Diverged(manifest.reason)
    return f"{label}: {len(manifest.checkpoints)} checkpoints in {manifest.seconds:.0f} s on {manifest.device}"


@task(name="analyse", task_run_name="analyse {label}", **OPTIONS)
def analyse_run(
    label: str, spec: RunSpec, sweep: Sweep, store: Store, executor: Executor, progress: SweepProgress
) -> str:
    """Analyse the blocks of one run that are missing, a unit each; returns the number of decompositions."""
    manifest = read_manifest(store.run_of(spec))
    assert manifest is not None
    missing = missing_blocks(sweep, store, manifest)
    if not missing:
        return f"{label}: nothing left to analyse"
    results_of = results_id(manifest)
    attributes = {"run_id": spec.run_id, "spec": to_json(spec), "hyperparameters": hyperparameters(spec)}
    body, metrics = network_layout(spec), get_experiment(spec.experiment).metrics(spec)
    target = Target(
        url=store.run_store(spec.experiment, results_of),
        commits=store.commits(spec.experiment, results_of),
        layout=run_layout(body, manifest.steps, sweep.analyses, metrics, attributes),
    )
    results.allocate(target.url, target.layout)
    try:
        with kept_log(store.run_of(spec).logs, "analyse"):
            made = analyse_blocks(RunSeries(store=store, manifest=manifest), body, target, missing, executor, progress)
    except DamagedCheckpoint as error:
        mark_damaged(store, manifest, str(error))
        raise
    return f"{label}: {plural(made, 'SVD')} in {plural(len(missing), 'block')}, shared ones not counted"


def analyse_blocks(
    series: Series,
    body: NetworkLayout,
    target: Target,
    missing: Mapping[Block, tuple[str, ...]],
    executor: Executor,
    progress: StageProgress,
    kept: str = "",
) -> int:
    """Analyse blocks as units; no checkpoint is decomposed twice among them. Returns the decompositions of the blocks.

    Factors that blocks share pass through memory, or lie in the folder `kept` where one is given.
    """
    vectors = need_vectors(get_analysis(name) for names in missing.values() for name in names)
    anchors = {
        step: executor.start(decompose_step, series, body, step, vectors, _scratch(kept, step, vectors))
        for step in anchor_steps(series.steps, missing)
    }
    made: list[int] = []

    def done(block: tuple[Block, int]) -> None:
        made.append(block[1])
        progress.analysed(len(block[0]))

    scratch = functools.partial(ScratchFactors, Factors) if kept else dict
    calls = [
        (
            scratch,
            series,
            body,
            target,
            block,
            names,
            *(anchors[s] for s in needed(series.steps, block) if s in anchors),
        )
        for block, names in missing.items()
    ]
    executor.run_all(_analyse_block, calls, done)
    return sum(made)


def _scratch(kept: str, step: int, vectors: bool) -> Callable[[], MutableMapping[str, Factors]]:
    """Where the factors of a step are put."""
    folder = f"{kept}/{'factors' if vectors else 'values'}/step={step:08d}"
    return functools.partial(StoredFactors, folder, Factors) if kept else dict


def _analyse_block(scratch: Callable[[], MutableMapping[str, Factors]], *args: Any) -> tuple[Block, int]:
    """A block's steps and the decompositions it took; a unit."""
    return args[3], analyse_block(*args, scratch=scratch)
