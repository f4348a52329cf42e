"""`--json` of the commands that show something: their tables for programs, and what they say on standard error."""

import functools
import inspect
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from specdyn.flows.cli.options import JsonOption
from specdyn.flows.cli.terminal import TableForm, alone_on_stdout, collected

NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def with_json(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with the option `--json`: `{"title": ..., "rows": [{heading: cell}]}` for each of its tables.

    Cells that are numbers are numbers, as precise as they are shown, and `-` is null.
    """

    @functools.wraps(command)
    def called(*args: Any, as_json: bool = False, **typed: Any) -> Any:
        if not as_json:
            return command(*args, **typed)
        with alone_on_stdout(TableForm.JSON), collected() as tables:
            done = command(*args, **typed)
        shown = [
            {"title": title, "rows": [dict(zip(headings, map(_plain, cells), strict=True)) for cells in rows]}
            for title, headings, rows in tables
        ]
        sys.stdout.write(json.dumps(shown, indent=1) + "\n")
        return done

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
