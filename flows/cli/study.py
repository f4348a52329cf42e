"""What the commands that start a flow do and print: a plan, what is there already, or a run of the flow."""

import time
from typing import Any

from rich.markup import escape

from specdyn.flows.cli.terminal import err, out, quieten, show_plan, show_summary, span_of, table
from specdyn.flows.engine.engines import at_work, require_engines
from specdyn.flows.engine.imports import importing
from specdyn.flows.engine.settings import EXECUTORS
from specdyn.flows.outcome import Outcome, outcome_of
from specdyn.flows.parameters import (
    AnalyseParameters,
    ConnectParameters,
    Parameters,
    SweepParameters,
    TicketParameters,
    arguments_of,
)
from specdyn.flows.studies import study_from
from specdyn.models.spec.checks import require_known
from specdyn.models.wording import plural
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.probe import planned_store, require_store
from specdyn.tasks.plan.gathering import finished_results
from specdyn.tasks.plan.plan import Study, make_plan
from specdyn.tasks.plan.tables import duration


def start(asked: Parameters, verbose: bool) -> bool:
    """Run the flow of these parameters, then print what is there and where; False where something failed.

    Where only a plan is asked for, or nothing is left to do, no engine is started and nothing written.
    """
    since = time.monotonic()
    require_known("executor", asked.executor, EXECUTORS)
    objects.normalise(asked.store)  # empty is the service's store in a form, and a slip in a command
    study = study_from(asked)
    if asked.dry_run:
        store = planned_store(asked.store)
        study = study.checked(store, asks=True)
        show_plan(make_plan(study, store, threads=asked.resources.cpus, retry_failed=asked.retry_failed))
        return True
    if isinstance(asked, AnalyseParameters):
        _show_sources(study)
    store = Store(objects.normalise(asked.store))
    if done := finished_results(study, store, asked.report):
        _say(f"{plural(done.measured, *study.noun)} already done: nothing to do")
        outcome = outcome_of(study, Outcome(name=study.name, store=store.url), done, asked.report, built=False)
        _show_outcome(study, outcome, since)
        return True
    require_engines(asked.executor, asked.ray_address)
    study.checked(require_store(store.url), asks=True)
    if not verbose:
        quieten()
    _say(f"{study.name}: starting Prefect and the {asked.executor} executor")
    outcome, failure = _run(asked, study.name, verbose)
    if outcome.finished:
        _say(f"{plural(outcome.finished, *study.noun)} finished")
    elif not outcome.ran and not failure:
        _say(f"{plural(outcome.measured, *study.noun)} already done: nothing to do")
    _show_outcome(study, outcome, since)
    if failure:
        err.print(f"[bold red]failed:[/] {escape(failure)}", highlight=False, soft_wrap=True)
    return not failure


def _say(line: str) -> None:
    err.print(line, highlight=False, soft_wrap=True)


def _run(asked: Parameters, name: str, verbose: bool) -> tuple[Outcome, str]:
    """Run the flow; returns what it returned, and what failed."""
    with at_work(name, verbose) as begin:
        # Prefect takes seconds to import and reads its settings then: only once the input is known to be good.
        with importing():
            from specdyn.flows.analyse import analyse_checkpoints
            from specdyn.flows.connect import mode_connectivity
            from specdyn.flows.engine.run_study import StudyFailed
            from specdyn.flows.sweep import weight_decay_sweep
            from specdyn.flows.tickets import lottery_tickets

        flows: dict[type[Parameters], Any] = {
            SweepParameters: weight_decay_sweep,
            ConnectParameters: mode_connectivity,
            TicketParameters: lottery_tickets,
            AnalyseParameters: analyse_checkpoints,
        }
        try:
            outcome: Outcome = begin(flows[type(asked)])(**arguments_of(asked))
        except StudyFailed as error:
            return error.outcome, str(error)
        return outcome, ""


def _show_sources(study: Study) -> None:
    """Print what each place of a series has: its checkpoints, and what was passed over."""
    from specdyn.tasks.plan.series import SeriesStudy

    assert isinstance(study, SeriesStudy)
    for source in study.sources:
        found = source.series.found
        steps = plural(len(source.series.steps), "checkpoint"), span_of(source.series.steps, found.unit)
        err.print(f"{found.url}: {', '.join(steps)}", highlight=False, soft_wrap=True)
        for line in source.described:
            err.print(line, highlight=False, soft_wrap=True)
        for line in () if study.audited else found.told:  # an audit tells it, too
            err.print(line, highlight=False, soft_wrap=True)
        if found.skipped:
            names = ", ".join(f"{name} ({why})" for name, why in found.skipped[:5])
            err.print(f"skipped {len(found.skipped)}: {names}", highlight=False, soft_wrap=True)
    for line in study.told:
        err.print(line, highlight=False, soft_wrap=True)


def _show_outcome(study: Study, outcome: Outcome, since: float) -> None:
    """Print what a study has, where it lies, and how long the call took."""
    store = Store(outcome.store)
    _show_audit(outcome)
    if outcome.cube and study.kind == "sweep":
        show_summary(outcome.cube, store.report(study.name))
    if outcome.summary and not outcome.ran:
        out.print(outcome.summary, highlight=False, soft_wrap=True)
    if outcome.ran:
        work = outcome.work
        counts = f"{work.trainings} trainings, {work.evaluations} evaluations of a split"
        out.print(f"made         {counts}, {work.decompositions} decompositions", highlight=False)
    if outcome.cube:
        out.print(f"results      {outcome.cube}", highlight=False, soft_wrap=True)
    for url in outcome.report:
        out.print(f"{'figures' if url.endswith('.html') else 'figure':13}{url}", highlight=False, soft_wrap=True)
    if study.kind != "series":
        out.print(f"checkpoints  {store.checkpoints()}", highlight=False, soft_wrap=True)
    if outcome.cube:
        out.print("open them    import specdyn", highlight=False)
        out.print(f'             results = specdyn.open("{outcome.cube}")', highlight=False, soft_wrap=True)
    out.print(f"ended after {duration(time.monotonic() - since)}")


def _show_audit(outcome: Outcome) -> None:
    """Print what was found about the checkpoints, and what of them was not analysed."""
    if outcome.audit:
        from specdyn.tasks.foreign.audit import HEADINGS as AUDIT_HEADINGS
    for source, findings in outcome.audit.items():
        if findings:
            table(f"Audit of {source}", AUDIT_HEADINGS, findings)
        else:
            out.print(f"Audit of {source}: nothing unusual", highlight=False, soft_wrap=True)
    for source, left_out in outcome.not_analysed.items():
        if left_out:
            table(f"Not analysed in {source}", ("tensor", "shape", "why"), left_out)
