"""`--json` of the commands that print tables: tables as JSON on standard output, all else on standard error."""

import functools
import inspect
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import typer

from specdyn.flows.cli.options import JsonOption
from specdyn.flows.cli.terminal import TableForm, alone_on_stdout, collected

NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def with_json(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the option `--json`: `{"title": ..., "rows": [{heading: cell}]}` for each of its tables.

    Cells that are numbers are numbers, as precise as they are shown, and `-` is null.
    """

    @functools.wraps(command)
    def called(*args: Any, as_json: bool = False, **typed: Any) -> None:
        if not as_json:
            command(*args, **typed)
            return
        with alone_on_stdout(TableForm.JSON), collected() as tables:
            try:
                command(*args, **typed)
                code = 0
            except typer.Exit as end:  # signals a problem that the tables show
                code = end.exit_code
                if code and not tables:
                    raise
        shown = [
            {"title": title, "rows": [dict(zip(headings, map(_plain, cells), strict=True)) for cells in rows]}
            for title, headings, rows in tables
        ]
        sys.stdout.write(json.dumps(shown, indent=1) + "\n")
        if code:
            raise typer.Exit(code)

    signature = inspect.signature(command)
    option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)
    called.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), option]
    )
    called.__annotations__ = {**command.__annotations__, "as_json": JsonOption}
    return called


def _plain(cell: str) -> str | int | float | None:
    if cell == "-":
        return None
    if NUMBER.fullmatch(cell) and not re.fullmatch(r"0\d+", cell):
        return float(cell) if "." in cell or "e" in cell else int(cell)
    return cell
