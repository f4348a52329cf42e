"""The flow that trains a grid of weight decays and seeds, analyses every run and gathers the results."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run

from specdyn.flows.engine.artifacts import next_call, show_failures, show_report, show_result
from specdyn.flows.engine.executor import Executor, open_executor
from specdyn.flows.engine.firing import lost_parameters
from specdyn.flows.engine.form import takes
from specdyn.flows.engine.lease import cube_lease
from specdyn.flows.engine.progress import SweepProgress
from specdyn.flows.engine.settings import chosen_cluster, chosen_store, patience
from specdyn.flows.engine.stages import analyse_run, failure_of, train_run
from specdyn.flows.parameters import SweepParameters
from specdyn.flows.studies import sweep_from
from specdyn.storage.access.lease import Lease
from specdyn.storage.access.objects import exists
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.sweeps import extend_sweep
from specdyn.tasks.figures.summary import summary_markdown
from specdyn.tasks.plan.contents import nothing_to_do
from specdyn.tasks.plan.extending import with_more_seeds
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.planning import Cell, Plan, make_plan, require_inputs
from specdyn.tasks.plan.sweeps import Sweep
from specdyn.tasks.plan.tables import plan_markdown, plan_summary
from specdyn.tasks.training.training import Diverged

REFRESH_SECONDS = 2.0


class SweepFailed(Exception):
    """Some cells failed: a table says which, at which stage and why; the others stand."""


def _flow_run_name() -> str:
    given = flow_run.parameters
    return f"{given.get('experiment')} {given.get('preset')}" + (" (dry run)" if given.get("dry_run") else "")


@flow(name="weight-decay-sweep", flow_run_name=_flow_run_name, persist_result=False)
@takes(SweepParameters)
def weight_decay_sweep(asked: SweepParameters) -> dict[str, Any]:
    """Train a grid of weight decays and seeds, analyse every checkpoint, gather one cube.

    Cells that the store already has are not computed again; calls with one sweep's name extend it, one after another.
    Runs that diverged stay failed, unless `retry_failed` trains them again.
    """
    if lost := lost_parameters():
        outcome: dict[str, Any] = weight_decay_sweep.fn(**weight_decay_sweep.validate_parameters(lost))
        return outcome
    sweep, store = sweep_from(asked), chosen_store(asked.store, asks=asked.dry_run)
    if asked.dry_run:
        sweep = with_more_seeds(sweep, store, asked.more_seeds)
        require_inputs(sweep.specs, store, asks=True)
        plan = _planned(sweep, store, asked)
        return {"sweep": sweep.name, "store": store.url, "todo": [cell.label for cell in plan.todo]}
    if not asked.more_seeds and nothing_to_do(sweep, store, asked.report):
        _planned(sweep, store, asked)
        return {**_shown(sweep, store, asked.report, built=False), "ran": []}
    with cube_lease(store.cube(sweep.name), store) as lease:
        sweep = with_more_seeds(sweep, store, asked.more_seeds)
        require_inputs(sweep.specs, store)
        return _run(_planned(sweep, store, asked), asked, lease)


def _planned(sweep: Sweep, store: Store, asked: SweepParameters) -> Plan:
    """The plan, in the log and as an artifact."""
    plan = make_plan(sweep, store, threads=asked.resources.cpus, retry_failed=asked.retry_failed)
    create_markdown_artifact(plan_markdown(plan, asked.resources.gpus), key="plan", description=f"Plan of {sweep.name}")
    get_run_logger().info(plan_summary(plan))
    return plan


def _run(plan: Plan, asked: SweepParameters, lease: Lease) -> dict[str, Any]:
    """Do what is left, gather and show it; SweepFailed where cells failed."""
    failures = {cell.label: f"{Diverged.__name__}: {cell.reason}" for cell in plan.failed}
    if plan.todo:
        with open_executor(asked.executor, asked.resources, chosen_cluster(asked.ray_address), patience()) as workers:
            extend_sweep(plan.store, plan.sweep.record)
            failures |= _work(plan, workers)
    else:
        extend_sweep(plan.store, plan.sweep.record)
    outcome = finish(plan.sweep, plan.store, asked.report, lease)
    if failures:
        show_failures(failures, plan.sweep.name)
        raise SweepFailed(_failure_text(failures, len(plan.cells)))
    return {**outcome, "ran": [cell.label for cell in plan.todo]}


def _work(plan: Plan, executor: Executor) -> dict[str, str]:
    """Train and analyse what is left; returns the reason of every cell that failed."""
    with SweepProgress(plan) as progress:
        stages = {cell.label: _submit(cell, plan, executor, progress) for cell in plan.todo}
        waiting: set[PrefectFuture[Any]] = {future for futures in stages.values() for future in futures}
        while waiting:
            waiting = set(wait(list(waiting), timeout=REFRESH_SECONDS).not_done)
            progress.refresh()
    failures = {run: _first_failure(futures) for run, futures in stages.items()}
    return {run: why for run, why in failures.items() if why}


def _submit(cell: Cell, plan: Plan, executor: Executor, progress: SweepProgress) -> list[PrefectFuture[Any]]:
    """The stages that a cell lacks; analysis starts as soon as this run is trained."""
    before: list[PrefectFuture[Any]] = []
    if cell.to_train:
        again = cell.state == "failed"
        before.append(train_run.submit(cell.label, cell.spec, plan.store, executor, progress, again))
    given: tuple[Any, ...] = (cell.label, cell.spec, plan.sweep, plan.store, executor, progress)
    analysis = analyse_run.submit(*given, return_state=False, wait_for=before)
    return [*before, analysis]


def _first_failure(futures: list[PrefectFuture[Any]]) -> str:
    """Why the first stage that did not complete did not; empty where all did."""
    return next((why for future in futures if (why := failure_of(future))), "")


def _failure_text(failures: dict[str, str], cells: int) -> str:
    lines = "\n".join(f"  {run}: {why}" for run, why in failures.items())
    others = "; the others are done" if len(failures) < cells else ""
    return f"{len(failures)} of {cells} runs failed{others}. {next_call(failures)}\n{lines}"


@task(name="gather", cache_policy=NO_CACHE, persist_result=False)
def finish(sweep: Sweep, store: Store, report: bool, lease: Lease) -> dict[str, Any]:
    """Gather the finished runs into the cube, write the report, show the summary as an artifact."""
    lease.ensure()
    _, built = gather(sweep, store, lease)
    return _shown(sweep, store, report, built)


def _shown(sweep: Sweep, store: Store, report: bool, built: bool) -> dict[str, Any]:
    """Show the cube, where there is one, and its report as artifacts; returns where they are."""
    cube = store.cube(sweep.name)
    outcome: dict[str, Any] = {"sweep": sweep.name, "store": store.url, "cube": cube, "rebuilt": built}
    if not built and not exists(f"{cube}/zarr.json"):
        return outcome
    show_result(cube, sweep.name, summary_markdown(open_results(cube)))
    if report:
        outcome["report"] = show_report(cube, store.report(sweep.name), store, sweep.name, built)
    return outcome
