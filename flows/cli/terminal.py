"""Prints tables of plans, runs and results."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specdyn.flows.cli.options import err, out

if TYPE_CHECKING:
    from specdyn.tasks.plan.plan import Plan, Study

GAP = 3
"""Most characters between columns."""
TEXT = 24
"""Length from which a cell with spaces is a text that may wrap between words."""
MOST_COLUMNS = 10_000
"""Line width if the output is not a terminal."""


class TableForm(Enum):
    """The format of a table that other programs may read."""

    PEOPLE = "people"
    JSON = "json"
    CSV = "csv"


def table_form(as_json: bool, as_csv: bool) -> TableForm:
    """The form selected by the two options; ValueError if both are given."""
    if as_json and as_csv:
        raise ValueError("--json and --csv are two forms of the same table: choose one of them")
    return TableForm.JSON if as_json else TableForm.CSV if as_csv else TableForm.PEOPLE


@contextmanager
def alone_on_stdout(form: TableForm) -> Iterator[None]:
    """Send everything that is printed for people to standard error if programs read standard output."""
    out.stderr = form is not TableForm.PEOPLE
    try:
        yield
    finally:
        out.stderr = False


Collected = list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]
_tables: list[Collected] = []
"""Stack of collectors for tables that are not printed; the last one is active."""


@contextmanager
def collected() -> Iterator[Collected]:
    """The tables that the block would print: title, headings, rows."""
    tables: Collected = []
    _tables.append(tables)
    try:
        yield tables
    finally:
        _tables.pop()


def say(line: str) -> None:
    """Print a progress line on standard error."""
    err.print(line)


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings without breaking names or numbers; columns that do not fit follow in a second block.

    If the output is a pipe or a file, each row is one line.
    """
    if _tables:
        _tables[-1].append((title, headings, rows))
        return
    out.print(f"[bold]{escape(title)}[/]")
    columns = [[heading, *(cells[i] for cells in rows)] for i, heading in enumerate(headings)]
    least = [_least_width(column) for column in columns]
    for chosen in _side_by_side(least, out.width - 2) if out.is_terminal else [range(len(headings))]:
        shown = Table(box=SIMPLE_HEAD, pad_edge=False)
        for i in chosen:
            whole = least[i] == max(map(len, columns[i]))
            shown.add_column(escape(headings[i]), no_wrap=whole or not out.is_terminal, min_width=least[i])
        for cells in rows:
            shown.add_row(*(escape(cells[i]) for i in chosen))
        if out.is_terminal:
            out.print(shown, crop=False, soft_wrap=False)
        else:
            Console(file=out.file, width=MOST_COLUMNS).print(shown)


def _least_width(column: Sequence[str]) -> int:
    """The least width that keeps names and numbers whole; the heading and long texts may wrap at spaces."""
    heading, *cells = column
    words = [word for text in cells for word in (text.split() if len(text) > TEXT else [text])]
    return max(map(len, [*heading.split(), *words]), default=0)


def _side_by_side(widths: Sequence[int], room: int) -> list[list[int]]:
    """Split columns into groups that fit the width; every group starts with the first column."""
    groups = [[0]]
    for column in range(1, len(widths)):
        taken = sum(widths[one] + GAP for one in groups[-1])
        if taken + widths[column] > room and len(groups[-1]) > 1:
            groups.append([0])
        groups[-1].append(column)
    return groups


def show_plan(plan: "Plan", worked: bool = False) -> None:
    """Print a plan, or a status if nothing is estimated; `worked` says whether a process works on the study."""
    from specdyn.tasks.plan.tables import ESTIMATED, RUNS, STAGES, plan_summary, run_rows, stage_rows

    columns = len(STAGES) if plan.estimates else STAGES.index(ESTIMATED)
    stages = [row[:columns] for row in stage_rows(plan)]
    table(f"{plan.study.name}, {plan.study.kind}, in {plan.store}", STAGES[:columns], stages)
    if rows := run_rows(plan, worked):
        table("Runs", RUNS, rows)
    out.print(plan_summary(plan, worked))


def span_of(steps: Sequence[int], unit: str = "steps") -> str:
    """A readable range of steps (or other units), from the first to the last."""
    return f"{unit.removesuffix('s')} {steps[0]}" if len(steps) == 1 else f"{unit} {steps[0]} to {steps[-1]}"


def quieten() -> None:
    """Keep log lines off the terminal, for the progress bars; Prefect's server still stores them."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    warnings.filterwarnings("ignore", module="prefect")


def show_graph(study: "Study", cube: str) -> None:
    """Print the results of a study of lines or tickets."""
    from specdyn.models.experiments.base import get_experiment
    from specdyn.storage.query import open_measured
    from specdyn.tasks.figures.graph_summary import lines_summary, tickets_summary
    from specdyn.tasks.plan.branching.graph import Graph

    assert isinstance(study, Graph)
    data = open_measured(cube).to_dataset()
    metric = next(iter(get_experiment(study.experiment).metrics(study.trunks[0])))
    table(*(lines_summary if study.kind == "connectivity" else tickets_summary)(data, metric))


def show_summary(cube: str, report: str) -> None:
    """Print the summary table of a cube: the one next to its report if that covers the whole cube."""
    from specdyn.tasks.figures.summary import SUMMARY, headings, read_summary, summary_of
    from specdyn.tasks.plan.gathering import stored_contents

    summary = read_summary(f"{report}/{SUMMARY}")
    if summary is None or summary.contents != stored_contents(cube):
        from specdyn.storage.query import open_measured

        summary = summary_of(open_measured(cube))
    if not summary.rows:
        out.print("no run has values yet")
        return
    table("Results", headings(summary.rows), [row.cells for row in summary.rows])
    if summary.computed_on:
        out.print(f"computed on  {summary.computed_on}")
