"""What a cube and its report hold, told by their notes alone, and so whether a call has anything to do."""

import hashlib
import json
from collections.abc import Sequence

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.sweeps import read_sweep
from specdyn.tasks.plan.planning import Cell, look_at
from specdyn.tasks.plan.sweeps import Sweep, sweep_of
from specdyn.tasks.spectra.analysis import get_analysis
from specdyn.tasks.spectra.labels import FACTS_VERSION


def nothing_to_do(sweep: Sweep, store: Store, report: bool) -> bool:
    """Whether the store has all that a call asks for, so that it starts and writes nothing, nor waits; reads only.

    Ends at the first run that is not done; a run that failed never is.
    """
    record = read_sweep(store, sweep.name)
    if record is None or not set(sweep.record.specs) <= set(record.specs):
        return False
    asked, cells = set(sweep.specs), []
    for spec in sweep_of(record).specs:
        cell = look_at(sweep, store, spec)
        if spec in asked and cell.state != "done":
            return False
        cells.append(cell)
    contents = contents_of_sweep([cell for cell in cells if anything_known(cell, sweep)], sweep)
    if stored_contents(store.cube(sweep.name)) != contents:
        return False
    return not report or drawn(store.report(sweep.name), contents)


def drawn(folder: str, contents: str | None) -> bool:
    """Whether the report in the folder was drawn from a cube with these contents."""
    return objects.exists(f"{folder}/index.html") and noted(f"{folder}/drawn.json") == contents


def note_drawn(folder: str, contents: str | None) -> None:
    """Note that the report in the folder was drawn from a cube with these contents."""
    note(f"{folder}/drawn.json", contents)


def note(url: str, contents: str | None) -> None:
    """Note at a place what something was drawn from, as `noted` tells it."""
    objects.write(url, json.dumps({"contents": contents}).encode())


def noted(url: str) -> str | None:
    """The contents that something was drawn from, as an object says; None where there is none that does."""
    try:
        return str(json.loads(objects.read(url))["contents"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def contents_of_sweep(cells: Sequence[Cell], sweep: Sweep) -> str:
    """What decides the values of the sweep's cube, with these cells of it."""
    return contents_of([_identity(cell) for cell in cells], sweep.analyses)


def anything_known(cell: Cell, sweep: Sweep) -> bool:
    """Whether some analysis of some block of a finished run is there."""
    if cell.state not in ("done", "trained"):
        return False
    return len(cell.missing) < cell.blocks or any(set(names) < set(sweep.analyses) for names in cell.missing.values())


def _identity(cell: Cell) -> str:
    """What tells a run as far as it is analysed from the same run further on."""
    if not cell.missing:
        return cell.results
    lacks = sorted((block[0], block[-1], *names) for block, names in cell.missing.items())
    return f"{cell.results} without {hashlib.sha256(json.dumps(lacks).encode()).hexdigest()[:12]}"


def contents_of(results: Sequence[str], analyses: Sequence[str]) -> str:
    """What decides a cube's values: the results of its runs, by ids that say what they are of, and all versions."""
    versions = {name: get_analysis(name).version for name in analyses}
    return json.dumps({"runs": list(results), "analyses": versions, "facts": FACTS_VERSION}, sort_keys=True)


def stored_contents(url: str) -> str | None:
    """What the cube at a place holds, as `contents_of` says it; None where there is none."""
    found = generations.attributes(url).get("contents")
    return None if found is None else str(found)
