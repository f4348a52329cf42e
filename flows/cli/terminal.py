"""What the command prints: tables of plans, runs and results."""

import os
import warnings
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specdyn.tasks.plan.gathering import stored_contents
from specdyn.tasks.plan.plan import Plan
from specdyn.tasks.plan.tables import RUNS, STAGES, plan_summary, run_rows, stage_rows

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
    table(f"{plan.study.name}, {plan.study.kind}, in {plan.store}", STAGES, stage_rows(plan))
    if rows := run_rows(plan):
        table("Runs", RUNS, rows)
    out.print(plan_summary(plan), highlight=False, soft_wrap=True)


def span_of(steps: Sequence[int], unit: str = "steps") -> str:
    """Steps, or what else they count, for people, from the first to the last."""
    return f"{unit.removesuffix('s')} {steps[0]}" if len(steps) == 1 else f"{unit} {steps[0]} to {steps[-1]}"


def quieten() -> None:
    """Leave the terminal to the progress bars; Prefect's server keeps its log all the same."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    warnings.filterwarnings("ignore", module="prefect")


def show_summary(cube: str, report: str) -> None:
    """Print the summary table of a cube: the one beside its report where that is of all that the cube holds."""
    from specdyn.tasks.figures.summary import SUMMARY, headings, read_summary, summary_of

    summary = read_summary(f"{report}/{SUMMARY}")
    if summary is None or summary.contents != stored_contents(cube):
        from specdyn.storage.query import open_measured

        summary = summary_of(open_measured(cube))
    table("Results", headings(summary.rows), [row.cells for row in summary.rows])
    if summary.computed_on:
        out.print(f"computed on  {summary.computed_on}", highlight=False, soft_wrap=True)
