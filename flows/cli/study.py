"""Shared by the commands that start a flow: print a plan or existing results, or run the flow."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from rich.markup import escape

from specdyn.flows.cli.options import err, out
from specdyn.flows.cli.terminal import TableForm, alone_on_stdout, quieten, say, show_graph, show_plan, show_summary
from specdyn.flows.engine.engines import at_work, require_engines
from specdyn.flows.engine.imports import importing
from specdyn.flows.engine.settings import EXECUTORS, chosen_executor
from specdyn.flows.outcome import Outcome, outcome_here, outcome_of
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
from specdyn.tasks.plan.gathering import complete_results, finished_results, gathered
from specdyn.tasks.plan.here import Watcher, run_here
from specdyn.tasks.plan.plan import Results, Study, make_plan
from specdyn.tasks.plan.sweeps import other_sources
from specdyn.tasks.plan.tables import duration
from specdyn.tasks.tracking.trackers import get_tracker


def start(asked: Parameters, verbose: bool, form: TableForm = TableForm.PEOPLE, tracker: str = "") -> bool:
    """Run the flow of these parameters, then print the results and their URLs; False if something failed.

    If only a plan is requested, or nothing is left to do, starts no engine and writes nothing. `form` is the form of
    the table of layers; JSON and CSV are the only output on standard output. Runs are sent to the `tracker` as they
    finish.
    """
    with alone_on_stdout(form):
        return _start(asked, verbose, form, tracker)


def _start(asked: Parameters, verbose: bool, form: TableForm, tracker: str) -> bool:
    since = time.monotonic()
    executors = ("auto", *EXECUTORS) if isinstance(asked, AnalyseParameters) else EXECUTORS
    require_known("executor", asked.executor, executors)
    objects.normalise(asked.store)  # an empty store means the service's in a form, but is a mistake in a command
    study = study_from(asked)
    if tracker:
        get_tracker(tracker)
    if asked.dry_run:
        store = planned_store(asked.store)
        study = study.checked(store, asks=True)
        show_plan(make_plan(study, store, threads=asked.resources.cpus, retry_failed=asked.retry_failed))
        _say_others(study, store)
        return True
    if isinstance(asked, AnalyseParameters):
        outcome, failure = _series(study, asked, verbose, form)
    else:
        with _sending(tracker, study, asked):
            outcome, failure = _done_or_run(study, asked, verbose)
    _show_outcome(study, outcome, since)
    if failure:
        err.print(f"[bold red]failed:[/] {escape(failure)}")
    return not failure


@contextlib.contextmanager
def _sending(tracker: str, study: Study, asked: Parameters) -> Iterator[None]:
    """Send runs to the tracker, if one is named, and print how many."""
    if not tracker:
        yield
        return
    from specdyn.tasks.tracking.sender import Sender

    with Sender(tracker, Store(objects.normalise(asked.store)), study.experiment, study.name, say) as sender:
        yield
    if sender.sent:
        say(f"{plural(len(sender.sent), 'run')} sent to {tracker}: {sender.where}")


def _series(study: Study, asked: AnalyseParameters, verbose: bool, form: TableForm) -> tuple[Outcome, str]:
    """The outcome and failures of a call for series; prints their audit and the table of layers."""
    from specdyn.flows.cli import series
    from specdyn.tasks.plan.series import SeriesStudy

    assert isinstance(study, SeriesStudy)
    series.show_sources(study)
    store = Store(objects.normalise(asked.store))
    if done := finished_results(study, store, asked.report):
        outcome, failure = _already_done(study, store, done, asked.report), ""
    elif asked.executor == "auto" and chosen_executor(study, asked) == "inline":
        return series.do_here(study, store, asked, form)
    else:
        outcome, failure = _by_engines(study, store, asked, verbose)
    series.show_audit(outcome.audit, outcome.not_analysed)
    if outcome.cube:
        series.show_tables((study.sound() if study.skip_damaged else study).results(store), form)
    return outcome, failure


def _done_or_run(study: Study, asked: Parameters, verbose: bool) -> tuple[Outcome, str]:
    """The outcome and failures of a call for a study; starts nothing if all is done."""
    store = Store(objects.normalise(asked.store))
    _say_others(study, store)
    if not (results := complete_results(study, store)):
        return _by_engines(study, store, asked, verbose)
    if gathered(results, asked.report):
        return _already_done(study, store, results, asked.report), ""
    return _gather(study, store, results, asked)


def _gather(study: Study, store: Store, results: Results, asked: Parameters) -> tuple[Outcome, str]:
    """Write the missing cube or report of a complete study in this process; returns the outcome and the failures."""
    say(f"{plural(results.measured, *study.noun)} already done: nothing to do but to gather them")
    did = run_here(study, store, threads=asked.resources.cpus, report=asked.report, watcher=Watcher(say=say))
    return outcome_here(did, store, asked.report)


def _already_done(study: Study, store: Store, done: Results, report: bool) -> Outcome:
    """The outcome of a study with nothing left to do."""
    say(f"{plural(done.measured, *study.noun)} already done: nothing to do")
    return outcome_of(study, Outcome(name=study.name, store=store.url), done, report, built=False)


def _by_engines(study: Study, store: Store, asked: Parameters, verbose: bool) -> tuple[Outcome, str]:
    """Run the flow of an unfinished study; returns the outcome and the failures."""
    executor = chosen_executor(study, asked)
    require_engines(executor, asked.ray_address)
    study.checked(require_store(store.url), asks=True)
    if not verbose:
        quieten()
    say(f"{study.name}: starting Prefect and the {executor} executor")
    outcome, failure = _run(asked, study.name, verbose)
    if outcome.finished:
        say(f"{plural(outcome.finished, *study.noun)} finished")
    elif not outcome.ran and not failure:
        say(f"{plural(outcome.measured, *study.noun)} already done: nothing to do")
    return outcome, failure


def _say_others(study: Study, store: Store) -> None:
    """Print how many runs of a study belong to another version of its experiment's source."""
    if others := other_sources(store, study.name, study.kind):
        say(others)


def _run(asked: Parameters, name: str, verbose: bool) -> tuple[Outcome, str]:
    """Run the flow; returns its outcome and the failures."""
    with at_work(name, verbose) as begin:
        # Importing Prefect takes seconds and reads its settings, so do it only once the input is known to be valid.
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


def _show_outcome(study: Study, outcome: Outcome, since: float) -> None:
    """Print a study's results and their URLs, and how long the call took."""
    store = Store(outcome.store)
    if outcome.cube and study.kind == "sweep":
        show_summary(outcome.cube, store.report(study.name))
    if outcome.cube and outcome.ran and study.kind in ("connectivity", "tickets"):
        show_graph(study, outcome.cube)
    if outcome.summary and not outcome.ran:
        out.print(outcome.summary)
    if outcome.ran:
        work = outcome.work
        counts = [plural(work.trainings, "training")] if work.trainings else []
        if work.evaluations:  # those of lines and ends are counted, those of analyses are not
            counts.append(plural(work.evaluations, "evaluation of a split", "evaluations of a split"))
        out.print(f"made         {', '.join([*counts, plural(work.decompositions, 'decomposition')])}")
    if outcome.cube:
        out.print(f"results      {outcome.cube}")
    for url in outcome.report:
        out.print(f"report       {url}")
    if study.kind != "series":
        out.print(f"checkpoints  {store.checkpoints()}")
    if outcome.cube:
        out.print("open them    import specdyn")
        out.print(f'             results = specdyn.open("{outcome.cube}")')
    out.print(f"ended after {duration(time.monotonic() - since)}")
