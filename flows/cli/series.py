"""Output of `specdyn analyse`, and short analyses in this process without Prefect or Ray."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from specdyn.flows.cli.options import err, out
from specdyn.flows.cli.terminal import TableForm, say, span_of, table
from specdyn.flows.outcome import Outcome, outcome_here
from specdyn.flows.parameters import AnalyseParameters
from specdyn.models.wording import plural
from specdyn.storage.places import Store
from specdyn.tasks.foreign.findings import HEADINGS
from specdyn.tasks.library.progress import counted
from specdyn.tasks.library.table import COLUMNS, MEASURED, LayerTable, table_of_row
from specdyn.tasks.plan.here import Watcher, run_here
from specdyn.tasks.plan.plan import Results
from specdyn.tasks.plan.series import SeriesStudy
from specdyn.tasks.plan.series_cube import SeriesCube
from specdyn.tasks.plan.sources import audit_of, left_out_of

MOST_LINES = 300
"""The most rows of tables for people, over all series; beyond that only summaries are printed."""


def show_sources(study: SeriesStudy) -> None:
    """Print the checkpoints found for each series, and what was skipped."""
    for source in study.sources:
        found = source.series.found
        steps = plural(len(source.series.steps), "checkpoint"), span_of(source.series.steps, found.unit)
        err.print(f"{found.url}: {', '.join(steps)}")
        for line in source.described:
            err.print(line)
        for line in () if study.audited else found.told:  # an audit reports it, too
            err.print(line)
        if found.skipped:
            names = ", ".join(f"{name} ({why})" for name, why in found.skipped[:5])
            err.print(f"skipped {len(found.skipped)}: {names}")
    for line in study.told:
        err.print(line)


def do_here(study: SeriesStudy, store: Store, asked: AnalyseParameters, form: TableForm) -> tuple[Outcome, str]:
    """Do a short analysis in this process; prints the table before writing the cube and the report.

    Returns the outcome and the failures.
    """
    checkpoints = sum(len(source.series.steps) for source in study.sources)
    with counted(f"{study.name}: checkpoints", checkpoints) as advance:

        def measured(results: Results) -> None:
            assert isinstance(results, SeriesCube)
            show_audit(audit_of(results.sources), left_out_of(results.sources))
            show_tables(results, form)

        did = run_here(
            study,
            store,
            threads=asked.resources.cpus,
            report=asked.report,
            live=False,
            watcher=Watcher(advance=advance, say=say, measured=measured),
        )
    return outcome_here(did, store, asked.report)


def show_audit(
    audit: Mapping[str, Sequence[tuple[str, ...]]], not_analysed: Mapping[str, Sequence[tuple[str, str, str]]]
) -> None:
    """Print the findings of the audit, and the tensors that were not analysed."""
    for source, findings in audit.items():
        if findings:
            table(f"Audit of {source}", HEADINGS, findings)
        else:
            out.print(f"Audit of {source}: nothing unusual")
    for source, left_out in not_analysed.items():
        if left_out:
            table(f"Not analysed in {source}", ("tensor", "shape", "why"), left_out)


def show_tables(results: Results, form: TableForm) -> None:
    """Print the layers of the last checkpoint of each series."""
    assert isinstance(results, SeriesCube)
    tables = [table_of_row(row) for row in results.rows if row.parts]
    match form:
        case TableForm.JSON:
            json.dump([of.plain() for of in tables], sys.stdout, indent=1, allow_nan=False)
            sys.stdout.write("\n")
        case TableForm.CSV:
            _write_csv(tables)
        case TableForm.PEOPLE:
            _show(tables)


def _show(tables: Sequence[LayerTable]) -> None:
    tables = [of for of in tables if of.measured]  # other analyses have nothing to show
    whole = len(tables) == 1 or sum(len(of.layers) for of in tables) <= MOST_LINES
    for of in tables:
        if whole:
            headings = ("layer", "role", "shape", *(MEASURED[name] for name in of.measured), "")
            table(f"Layers of {of.run} at {of.step}", headings, [_cells(layer, of.measured) for layer in of.layers])
        out.print(of.summary())
    if not whole:
        out.print("--csv or --json prints every layer")


def _cells(layer: Mapping[str, Any], measured: Sequence[str]) -> tuple[str, ...]:
    numbers = ("-" if layer[name] is None else f"{layer[name]:.4g}" for name in measured)
    shape = f"{layer['rows']} x {layer['columns']}"
    return layer["layer"], layer["role"], shape, *numbers, "collapsed" if layer["collapsed"] else ""


def _write_csv(tables: Sequence[LayerTable]) -> None:
    writer = csv.DictWriter(sys.stdout, ["run", "step", "layer", *COLUMNS], lineterminator="\n")
    writer.writeheader()
    for of in tables:
        writer.writerows({"run": of.run, "step": of.step, **layer} for layer in of.layers)
