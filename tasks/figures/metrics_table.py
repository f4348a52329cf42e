"""Makes the table of all metrics from their declarations; `python -m` this module writes docs/metrics.md."""

import importlib
import re

import specdyn.tasks.spectra.facts
from specdyn.models.plugins.kinds import inside
from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import ANALYSES, Analysis
from specdyn.tasks.spectra.facts import FACTS

HEAD = """# Metrics

Made from the declarations in `tasks/analyses/` by `python -m specdyn.tasks.figures.metrics_table > docs/metrics.md`;
do not edit.

W is a parameter as a matrix of M rows and N columns, with R = min(M, N) singular values s_1 >= s_2 >= ... >= s_R and
singular vectors u_i, v_i. METHOD and CLAIMS are docs/method.md and docs/claims.md.
A value is NaN where it has no meaning, beyond a layer's rank, and where nothing was computed. Counts are stored as
whole numbers, -1 where there is none; their `_FillValue` says so, and xarray shows NaN.
"""


TABLE = ["| variable | meaning | formula and source | dimensions | units |", "|---|---|---|---|---|"]


def table() -> str:
    """All analyses of the package, sorted by name, each with its variables, as Markdown."""
    return "\n".join([HEAD, *map(section, inside(ANALYSES).values()), facts_section()])


def section(analysis: Analysis) -> str:
    """Heading, module docstring, and one row per variable."""
    module = importlib.import_module(f"specdyn.tasks.analyses.{analysis.name}")
    asked = "" if analysis.default else " Runs on request."
    rows = [row(name, variable) for name, variable in analysis.variables.items()]
    return "\n".join([f"## {analysis.name}", "", f"{(module.__doc__ or '').strip()}{asked}", "", *TABLE, *rows, ""])


def facts_section() -> str:
    """The facts of a whole run."""
    about = (specdyn.tasks.spectra.facts.__doc__ or "").strip()
    return "\n".join(["## Facts of a run", "", about, "", *TABLE, *map(row, FACTS, FACTS.values()), ""])


def row(name: str, variable: Variable) -> str:
    """One row of the table, with Markdown characters escaped."""
    formula = variable.about
    if variable.flags:
        meanings = ", ".join(f"{value} {flag}" for value, flag in enumerate(variable.flags))
        formula = f"{formula} ({meanings})" if formula else meanings
    if (threshold := variable.constants.get("threshold")) is not None:
        formula = f"{formula} (threshold {threshold:g})"
    cells = (f"`{name}`", variable.long_name, formula, ", ".join(variable.dims) or "run", variable.units)
    return "| " + " | ".join(re.sub(r"(?<!\w)_|[|*<]", r"\\\g<0>", cell) for cell in cells) + " |"


if __name__ == "__main__":
    print(table(), end="")
