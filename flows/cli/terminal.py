"""What the command prints: tables of plans, runs and results."""

import os
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specdyn.flows.engine.engines import at_work, require_engines
from specdyn.flows.engine.settings import EXECUTORS
from specdyn.flows.parameters import (
    AnalyseParameters,
    SweepParameters,
    arguments_of,
)
from specdyn.flows.studies import sweep_from
from specdyn.models.spec.checks import require_known
from specdyn.models.wording import plural
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.tasks.plan.contents import nothing_to_do, stored_contents
from specdyn.tasks.plan.planning import Plan, require_inputs
from specdyn.tasks.plan.tables import HEADINGS, duration, plan_summary, row

if TYPE_CHECKING:
    from specdyn.storage.foreign.find import Found

UNBROKEN = 14
"""Cells up to this length, such as a run_id, stay on one line in a narrow terminal."""

out, err = Console(), Console(stderr=True)


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings."""
    out.print(f"[bold]{escape(title)}[/]", highlight=False, soft_wrap=True)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, heading in enumerate(headings):
        widest = max((len(cells[column]) for cells in rows), default=0)
        shown.add_column(heading, overflow="fold", no_wrap=len(heading) <= widest <= UNBROKEN)
    for cells in rows:
        shown.add_row(*map(escape, cells))
    out.print(shown)


def show_plan(plan: Plan) -> None:
    """Print a plan, or with nothing estimated a status."""
    table(f"{plan.sweep.name} in {plan.store}", HEADINGS, [row(cell) for cell in plan.cells])
    out.print(plan_summary(plan), highlight=False, soft_wrap=True)


def run_sweep(asked: SweepParameters, verbose: bool) -> bool:
    """Run the flow, then print its summary and where everything lies; False where cells failed."""
    sweep = sweep_from(asked)
    require_known("executor", asked.executor, EXECUTORS)
    since, failure = time.monotonic(), None
    store = Store(objects.normalise(asked.store))
    if nothing_to_do(sweep, store, asked.report):
        err.print(_what_ran(0, len(sweep.specs)), highlight=False)
        _show_results(store, sweep.name, since)
        return True
    require_engines(asked.executor, asked.ray_address)
    require_store(store.url)
    require_inputs(sweep.specs, store)
    if not verbose:
        quieten()
    err.print(f"{sweep.name}: starting Prefect and the {asked.executor} executor", highlight=False)
    with at_work(sweep.name, verbose) as begin:
        # Prefect takes seconds to import and reads its settings then: only once the input is known to be good.
        from specdyn.flows.sweep import SweepFailed, weight_decay_sweep

        try:
            ran = begin(weight_decay_sweep)(**arguments_of(asked))["ran"]
            err.print(_what_ran(len(ran), len(sweep.specs)), highlight=False)
        except SweepFailed as error:
            failure = error
    _show_results(store, sweep.name, since)
    if failure:
        err.print(f"[bold red]failed:[/] {escape(str(failure))}", highlight=False, soft_wrap=True)
    return failure is None


def _show_results(store: Store, name: str, since: float) -> None:
    """Print the summary of a sweep, where its results lie, and how long the call took."""
    cube = store.cube(name)
    if objects.exists(cube):
        show_summary(cube, store.report(name))
        _show_places(store, name, cube)
    out.print(f"ended after {duration(time.monotonic() - since)}")


def span_of(steps: Sequence[int]) -> str:
    """Steps for people, from the first to the last."""
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"


def run_analysis(asked: AnalyseParameters, verbose: bool) -> None:
    """Audit and analyse series of checkpoints, then say where everything lies."""
    from specdyn.flows.studies import series_from
    from specdyn.tasks.plan.sources import checked, finished_sources, require_sound, told

    since = time.monotonic()
    require_known("executor", asked.executor, EXECUTORS)
    store = Store(objects.normalise(asked.store))
    name, chosen, sources = series_from(asked)
    for source in sources:
        _show_found(source.series.found)
    if finished := finished_sources(name, sources, store, chosen, asked.report):
        sound = checked(finished, asked.audited)
        require_sound(sound)
        err.print(f"{plural(len(sound), 'series', 'series')} already analysed: nothing to do", highlight=False)
        _show_analysis({"store": store.url, "name": name, "cube": store.cube(name), **told(sound)}, since)
        return
    require_engines(asked.executor, asked.ray_address)
    require_store(store.url)
    if not verbose:
        quieten()
    with at_work(f"The analysis of {asked.sources[0]}", verbose) as begin:
        from specdyn.flows.analyse import analyse_checkpoints

        outcome = begin(analyse_checkpoints)(**arguments_of(asked))
    _show_analysis(outcome, since)


def _show_found(found: "Found") -> None:
    """Print what a place has: its checkpoints, and what was passed over."""
    steps = [checkpoint.step for checkpoint in found.checkpoints]
    err.print(f"{found.url}: {plural(len(steps), 'checkpoint')}, {span_of(steps)}", highlight=False, soft_wrap=True)
    if found.skipped:
        names = ", ".join(f"{name} ({why})" for name, why in found.skipped[:5])
        err.print(f"skipped {len(found.skipped)}: {names}", highlight=False, soft_wrap=True)


def _show_analysis(outcome: dict[str, Any], since: float) -> None:
    """Print what was found about series, where their results lie, and how long the call took."""
    show_audit(outcome)
    _show_places(Store(outcome["store"]), outcome["name"], outcome["cube"])
    out.print(f"ended after {duration(time.monotonic() - since)}")


def show_audit(outcome: dict[str, Any]) -> None:
    """Print what was found about the checkpoints, and what of them was not analysed."""
    from specdyn.tasks.foreign.audit import HEADINGS as AUDIT_HEADINGS

    for source, findings in outcome["audit"].items():
        if findings:
            table(f"Audit of {source}", AUDIT_HEADINGS, findings)
        else:
            out.print(f"Audit of {source}: nothing unusual", highlight=False, soft_wrap=True)
    for source, left_out in outcome["left_out"].items():
        if left_out:
            table(f"Not analysed in {source}", ("tensor", "shape", "why"), left_out)


def _what_ran(ran: int, asked: int) -> str:
    if not ran:
        return f"{plural(asked, 'run')} already done: nothing to do"
    return f"{plural(ran, 'run')} finished" + (f", {asked - ran} already done" if ran < asked else "")


def quieten() -> None:
    """Leave the terminal to the progress bars; Prefect's server keeps its log all the same."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    warnings.filterwarnings("ignore", module="prefect")


def _show_places(store: Store, sweep: str, cube: str) -> None:
    out.print(f"results      {cube}", highlight=False, soft_wrap=True)
    page = f"{store.report(sweep)}/index.html"
    if objects.exists(page):
        out.print(f"figures      {page}", highlight=False, soft_wrap=True)
    out.print(f"checkpoints  {store.checkpoints()}", highlight=False, soft_wrap=True)
    out.print("open them    import specdyn", highlight=False)
    out.print(f'             results = specdyn.open("{cube}")', highlight=False, soft_wrap=True)


def show_summary(cube: str, report: str) -> None:
    """Print the summary table of a cube: the one beside its report where that is of all that the cube holds."""
    from specdyn.tasks.figures.summary import SUMMARY, headings, read_summary, summary_of

    summary = read_summary(f"{report}/{SUMMARY}")
    if summary is None or summary.contents != stored_contents(cube):
        from specdyn.storage.query import open_results

        summary = summary_of(open_results(cube))
    table("Results", headings(summary.rows), [row.cells for row in summary.rows])
    if summary.computed_on:
        out.print(f"computed on  {summary.computed_on}", highlight=False, soft_wrap=True)
