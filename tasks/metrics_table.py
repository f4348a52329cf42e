"""The table of all metrics, made of what the analyses declare: `python -m tasks.metrics_table > docs/metrics.md`."""

import importlib
import re

from storage.schema import Variable
from tasks.analysis import Analysis, analysis_names, get_analysis

HEAD = """# Metrics

Made by `python -m tasks.metrics_table > docs/metrics.md` from the declarations in `tasks/analyses/`; do not edit.

W is a parameter as a matrix of M rows and N columns, with R = min(M, N) singular values s_1 >= s_2 >= ... >= s_R and
singular vectors u_i, v_i. METHOD and CLAIMS are docs/method.md and docs/claims.md.
A value is NaN where it has no meaning, beyond a layer's rank, and where nothing was computed.
"""


def table() -> str:
    """All analyses in the order of their names, each with its variables, as Markdown."""
    return "\n".join([HEAD, *(section(get_analysis(name)) for name in analysis_names())])


def section(analysis: Analysis) -> str:
    """Heading, what the module says of itself, and a row a variable."""
    module = importlib.import_module(f"tasks.analyses.{analysis.name}")
    asked = "" if analysis.default else " Runs on request."
    rows = [row(name, variable) for name, variable in analysis.variables.items()]
    head = ["| variable | meaning | formula and source | dimensions | units |", "|---|---|---|---|---|"]
    return "\n".join([f"## {analysis.name}", "", f"{(module.__doc__ or '').strip()}{asked}", "", *head, *rows, ""])


def row(name: str, variable: Variable) -> str:
    """One row of the table; what Markdown would read as its own is escaped."""
    formula = variable.about
    if variable.flags:
        meanings = ", ".join(f"{value} {flag}" for value, flag in enumerate(variable.flags))
        formula = f"{formula} ({meanings})" if formula else meanings
    cells = (f"`{name}`", variable.long_name, formula, ", ".join(variable.dims), variable.units)
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _escape(cell: str) -> str:
    return re.sub(r"(?<!\w)_|[|*<]", r"\\\g<0>", cell)


if __name__ == "__main__":
    print(table(), end="")
