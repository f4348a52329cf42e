"""What a form or the command `analyse` asks for, checked before anything is started; nothing here imports Prefect."""

import re
from collections.abc import Sequence

from flows.sweep import NAME
from models.checks import require
from storage import locations
from tasks.analysis import default_analyses, get_analysis


def choose(analyses: Sequence[str] | None) -> tuple[str, ...]:
    """The analyses of that name, or all that need no data; ValueError where one needs data."""
    names = [n for n in default_analyses() if not get_analysis(n).needs_data] if analyses is None else analyses
    for name in names:
        require(not get_analysis(name).needs_data, "analyses", name, "analyses that need no data to evaluate on")
    require(len(names) > 0, "analyses", list(names), "at least one name")
    return tuple(dict.fromkeys(names))


def cube_name(name: str | None, sources: Sequence[str]) -> str:
    """The name of the cube: the one given, or the last part of the first source."""
    require(len(sources) > 0, "sources", list(sources), "at least one folder or URL")
    chosen = name or re.sub(r"[^A-Za-z0-9._-]+", "-", locations.normalise(sources[0]).rsplit("/", 1)[-1]).strip("-.")
    require(bool(NAME.fullmatch(chosen)), "name", chosen, "letters, digits, '.', '_' and '-', at most 81 of them")
    return chosen
