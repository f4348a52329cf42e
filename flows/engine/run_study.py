"""Common to all flows: plan a study, run what is left, gather and show results, report failures."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from rich.console import Console

from specdyn.flows.engine.artifacts import next_call, show_failures, show_figures, show_page, show_result
from specdyn.flows.engine.executor import open_executor
from specdyn.flows.engine.settings import chosen_cluster, chosen_executor, patience, server_is_temporary
from specdyn.flows.engine.units import run_units
from specdyn.flows.outcome import Outcome, outcome_of
from specdyn.flows.parameters import Parameters
from specdyn.models.wording import plural
from specdyn.storage.access.lease import Lease, hold
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.tasks.asked import asking
from specdyn.tasks.failures import Diverged
from specdyn.tasks.foreign.findings import HEADINGS
from specdyn.tasks.ledger.keeping import kept_ledger
from specdyn.tasks.plan.gathering import finished_results, gather
from specdyn.tasks.plan.live import LiveCube
from specdyn.tasks.plan.plan import Plan, Results, Study, make_plan, planned
from specdyn.tasks.plan.tables import plan_markdown, plan_summary

SHOWN = 20
"""The most lines about units that were left out."""


class StudyFailed(Exception):
    """Some units failed: a table says which and why; the results of the others are kept."""

    def __init__(self, text: str, outcome: Outcome) -> None:
        super().__init__(text)
        self.outcome = outcome


def run_study(study: Study, store: Store, asked: Parameters) -> Outcome:
    """Print what is left and what it costs, do it, and gather the results; writes nothing if nothing is left.

    StudyFailed if units failed, now or before.
    """
    if asked.dry_run:
        plan = make_plan(
            study.checked(store, asks=True), store, threads=asked.resources.cpus, retry_failed=asked.retry_failed
        )
        return replace(_shown_plan(plan, asked), todo=_labels(plan))
    if done := finished_results(study, store, asked.report):
        outcome = _shown_plan(planned(study, store, asked.retry_failed), asked)
        return _shown(study, done, outcome, asked.report, built=False)
    require_store(store.url)
    with cube_lease(study.cube(store), store) as lease:
        study = study.checked(store)
        plan = planned(study, store, asked.retry_failed)
        failures = {f"{item.kind}: {item.label}": f"{Diverged.__name__}: {item.reason}" for item in plan.failed}
        left_out = {f"{i.kind}: {i.label}": plan.left_out[i.key] for i in plan.items if i.key in plan.left_out}
        if plan.todo:
            cluster, kind = chosen_cluster(asked.ray_address), chosen_executor(study, asked)
            with open_executor(kind, asked.resources, cluster, patience()) as workers:
                # Before any unit starts, as requests to workers would then wait for the units.
                with asking(workers.run) if kind == "ray" else nullcontext():
                    plan = plan.estimated(asked.resources.cpus)
                    outcome = _shown_plan(plan, asked)
                    study.record(store)
                    following = study.results(store).following(lease)
                    following.prepare()
                ledger = kept_ledger(store, study.experiment, kind, plan.seconds_of, get_run_logger().warning)
                with ledger as note, LiveCube(following) as live:
                    ended = run_units(plan, workers, landed=live.landed, note=note, tell=lease.tell)
                study.clean(store)
            failures, left_out = {**failures, **ended.failures}, dict(ended.left_out)
            ran = tuple(dict.fromkeys(unit.label for unit in ended.done))
            finished = sum(unit.kind == plan.kinds[-1] for unit in ended.done)
            outcome = replace(outcome, ran=ran, finished=finished, work=ended.work)
        else:
            outcome = _shown_plan(plan, asked)
            study.record(store)
        try:
            outcome = finish(study, store, outcome, asked.report, lease)
        except StoreError as error:  # failures of units came first, and may be its cause
            if not failures:
                raise
            failures[f"results: {study.name}"] = f"{type(error).__name__}: {error}"
    raise_failures(failures, left_out, outcome)
    return outcome


@contextmanager
def cube_lease(cube: str, store: Store) -> Iterator[Lease]:
    """Hold the lease of a cube, by its URL, and of its results; waits while another call holds it.

    Reports whom it waits for in the flow's log and, if the terminal does not show that log, on the terminal.
    """
    with hold(store.lease(cube), cube.rsplit("/", 2)[-2], _say) as lease:
        yield lease


def _say(line: str) -> None:
    logger = get_run_logger()
    logger.info(line)
    if not _on_terminal(logging.getLogger("prefect.flow_runs")):
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)


def _on_terminal(logger: logging.Logger) -> bool:
    """Whether the terminal shows this logger's INFO messages."""
    here = any(isinstance(each, logging.StreamHandler) and each.level <= logging.INFO for each in logger.handlers)
    return here or bool(logger.propagate and logger.parent and _on_terminal(logger.parent))


def _shown_plan(plan: Plan, asked: Parameters) -> Outcome:
    """The outcome of a plan, which is shown in the log and as an artifact."""
    text = plan_markdown(plan, asked.resources.gpus)
    create_markdown_artifact(text, key="plan", description=f"Plan of {plan.study.name}")
    summary = plan_summary(plan)
    get_run_logger().info(summary)
    return Outcome(name=plan.study.name, store=plan.store.url, summary=summary)


def _labels(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.label for item in plan.todo))


@task(name="gather", cache_policy=NO_CACHE, persist_result=False)
def finish(study: Study, store: Store, outcome: Outcome, report: bool, lease: Lease) -> Outcome:
    """Gather results into the cube, write the report, and show both."""
    lease.ensure()
    results, built = gather(study, store, report, lease)
    return _shown(study, results, outcome, report, built)


def _shown(study: Study, results: Results, outcome: Outcome, report: bool, built: bool) -> Outcome:
    """Show the cube, if there is one, and its report as artifacts; returns the outcome with their URLs."""
    outcome = outcome_of(study, outcome, results, report, built)
    rows = [dict(zip(HEADINGS, cells, strict=True)) for found in outcome.audit.values() for cells in found]
    if rows:
        create_table_artifact(rows, key="audit", description="What is unusual about the checkpoints")
    if not outcome.cube:
        return outcome
    show_result(results.url, study.name, _table(study, results), one_group=study.kind in ("connectivity", "tickets"))
    if report:
        show_report(results, Store(outcome.store), study.name)
    return outcome


def _table(study: Study, results: Results) -> str:
    """The start of the results artifact."""
    if study.kind == "sweep":
        from specdyn.storage.query import open_measured
        from specdyn.tasks.figures.summary import summary_markdown

        return summary_markdown(open_measured(results.url))
    return f"{plural(results.measured, *study.noun)}."


def show_report(results: Results, store: Store, title: str) -> None:
    """Show a report's page, and its first figures if the server outlives the flow."""
    for page in results.report:
        show_page(page, store, title)
    if not server_is_temporary():
        from specdyn.tasks.figures.report import first_figures

        show_figures(first_figures(results.url))


def raise_failures(failures: Mapping[str, str], left_out: Mapping[str, str], outcome: Outcome) -> None:
    """Raise StudyFailed with a line for each failure, if there are any, and show a table of them in Prefect."""
    if not failures:
        return
    show_failures(failures, outcome.name)
    lines = [f"  {what}: {why}" for what, why in failures.items()]
    lines += [f"  {what}: left out, as {why}" for what, why in list(left_out.items())[:SHOWN]]
    if (more := len(left_out) - SHOWN) > 0:
        lines.append(f"  and {more} more left out")
    text = "\n".join([f"{len(failures)} failed; results of the others are kept. {next_call(failures)}", *lines])
    raise StudyFailed(text, outcome)
