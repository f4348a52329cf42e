"""What a form or the command `analyse` asks for, checked before anything is started; nothing here imports Prefect."""

from collections.abc import Sequence

from specdyn.models.spec.checks import require
from specdyn.storage.access import objects
from specdyn.tasks.foreign.names import TRANSPOSED
from specdyn.tasks.plan.names import name_of_series, require_name
from specdyn.tasks.spectra.analysis import default_analyses, get_analysis


def choose(analyses: Sequence[str] | None) -> tuple[str, ...]:
    """The analyses of that name, or all that need no data; ValueError where one needs data."""
    names = [n for n in default_analyses() if not get_analysis(n).needs_data] if analyses is None else analyses
    for name in names:
        require(not get_analysis(name).needs_data, "analyses", name, "analyses that need no data to evaluate on")
    require(len(names) > 0, "analyses", list(names), "at least one name")
    return tuple(dict.fromkeys(names))


def cube_name(
    name: str | None, sources: Sequence[str], pattern: str = "", heads: int = 0, transposed: str = TRANSPOSED
) -> str:
    """The name of the cube: the one given, or one for these sources and options alone."""
    require(len(sources) > 0, "sources", list(sources), "at least one folder or URL")
    options = {"heads": (heads, 0), "pattern": (pattern, ""), "transposed": (transposed, TRANSPOSED)}
    changed = {option: value for option, (value, usual) in options.items() if value != usual}
    chosen = name or name_of_series([objects.normalise(source) for source in sources], changed)
    require_name("name", chosen)
    return chosen
