"""The flow that trains a grid of weight decays and seeds, analyses every run and gathers the results."""

from typing import Annotated, Any, Literal

from annotated_types import Ge
from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait

from flows.gathering import gather
from flows.planning import Cell, Plan, make_plan, require_datasets
from flows.progress import SweepProgress
from flows.runtime import Executor, Resources, open_executor
from flows.stages import analyse_run, failure_of, train_run
from flows.sweep import Sweep, make_sweep
from flows.tables import plan_markdown, plan_summary
from storage.locations import Layout, exists
from storage.probe import require_store
from storage.query import open_results
from storage.sweeps import extend_sweep
from tasks.figures import write_report
from tasks.summary import markdown_table, sweep_table

REFRESH_SECONDS = 2.0


class SweepFailed(Exception):
    """Some cells failed: a table says which, at which stage and why; the others stand."""


def _flow_run_name() -> str:
    given = runtime.flow_run.parameters
    return f"{given.get('experiment')} {given.get('preset')}" + (" (dry run)" if given.get("dry_run") else "")


@flow(name="weight-decay-sweep", flow_run_name=_flow_run_name, persist_result=False)
def weight_decay_sweep(
    experiment: str = "modular_addition",
    preset: str = "demo",
    weight_decays: list[Annotated[float, Ge(0)]] | None = None,
    seeds: list[Annotated[int, Ge(0)]] | None = None,
    store: str = "results",
    sweep: str | None = None,
    analyses: list[str] | None = None,
    axes: dict[str, list[Any]] | None = None,
    settings: dict[str, Any] | None = None,
    executor: Literal["ray", "inline"] = "ray",
    ray_address: str | None = None,
    resources: Resources = Resources(),  # noqa: B008 - frozen
    report: bool = True,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Train a grid of weight decays and seeds, analyse every checkpoint, gather one cube.

    Cells that the store already has are not computed again. With `dry_run` only the plan is made.

    Args:
        experiment: Name of an experiment.
        preset: Name of one of its presets: network, data, optimizer and schedule.
        weight_decays: Grid of weight decays; empty for the preset's own.
        seeds: Grid of seeds; empty for the preset's own.
        store: Local folder or s3://bucket/prefix. Credentials come from the AWS environment.
        sweep: Name of the sweep; calls with one name extend one cube.
        analyses: Names of analyses; empty for all.
        axes: Further axes of the grid: any setting of a run with its values, e.g. {"learning_rate": [1e-3, 1e-2]}.
        settings: Settings that every run has in place of the preset's, e.g. {"steps": 1000}.
        executor: Where units of work run: on Ray, or in this process.
        ray_address: Address of a running Ray cluster; empty starts one on this machine.
        resources: CPUs and GPUs of each unit.
        report: Write figures at the end.
        dry_run: Only show what would run.
    """
    chosen = make_sweep(experiment, preset, weight_decays, seeds, sweep, analyses, axes, settings)
    store = require_store(store)
    require_datasets(chosen, store)
    plan = make_plan(chosen, store)
    create_markdown_artifact(plan_markdown(plan), key="plan", description=f"Plan of {chosen.name}")
    log = get_run_logger()
    log.info(plan_summary(plan))
    if dry_run:
        return {"sweep": chosen.name, "store": store, "todo": [cell.label for cell in plan.todo]}
    failures: dict[str, str] = {}
    if plan.todo:
        with open_executor(executor, resources, ray_address) as workers:
            extend_sweep(store, chosen.record)
            failures = _work(plan, workers)
    else:
        extend_sweep(store, chosen.record)
    outcome = finish(chosen, store, report)
    if failures:
        create_table_artifact(
            [{"run": run, "why": why} for run, why in failures.items()], key="failures", description="What failed"
        )
        raise SweepFailed(_failure_text(failures, len(plan.cells)))
    return {**outcome, "ran": [cell.label for cell in plan.todo]}


def _work(plan: Plan, executor: Executor) -> dict[str, str]:
    """Train and analyse what is left; gives the reason of every cell that failed."""
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
        before.append(train_run.submit(cell.label, cell.spec, plan.store, executor, progress))
    given: tuple[Any, ...] = (cell.label, cell.spec, plan.sweep, plan.store, executor, progress)
    analysis = analyse_run.submit(*given, return_state=False, wait_for=before)
    return [*before, analysis]


def _first_failure(futures: list[PrefectFuture[Any]]) -> str:
    """Why the first stage that did not complete did not; empty where all did."""
    return next((why for future in futures if (why := failure_of(future))), "")


def _failure_text(failures: dict[str, str], cells: int) -> str:
    lines = "\n".join(f"  {run}: {why}" for run, why in failures.items())
    return f"{len(failures)} of {cells} runs failed; the others are done, the next call tries these again:\n{lines}"


@task(name="gather", cache_policy=NO_CACHE, persist_result=False)
def finish(sweep: Sweep, store: str, report: bool) -> dict[str, Any]:
    """Gather the finished runs into the cube, write the report, show the summary as an artifact."""
    cube, built = gather(sweep, store)
    outcome: dict[str, Any] = {"sweep": sweep.name, "store": store, "cube": cube, "rebuilt": built}
    if not built and not exists(f"{cube}/zarr.json"):
        return outcome
    rows = sweep_table(open_results(cube))
    create_markdown_artifact(
        f"{markdown_table(rows)}\n\n```python\nfrom storage.query import open_results\n"
        f'results = open_results("{cube}")\n```\n',
        key="summary",
        description=f"Summary of {sweep.name}",
    )
    if report:
        folder = Layout(store).report(sweep.name)
        page = f"{folder}/index.html"
        outcome["report"] = page if not built and exists(page) else write_report(cube, folder)[0]
    return outcome
