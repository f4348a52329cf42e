"""From run stores to the sweep's cube and its report; done by one process."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import hyperparameters
from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.cube import write_cube
from specdyn.storage.members import Member
from specdyn.storage.places import Layout
from specdyn.storage.schema import Variable
from specdyn.storage.sweeps import read_sweep
from specdyn.tasks.figures.summary import COMPUTED_ON
from specdyn.tasks.plan.planning import Cell, look_at
from specdyn.tasks.plan.sweeps import Sweep, sweep_of
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis
from specdyn.tasks.spectra.facts import FACTS_VERSION, facts_of


def gather(sweep: Sweep, store: str, lease: Lease | None = None) -> tuple[str, bool]:
    """Rebuild the cube unless it holds just what is known already; gives its URL and whether it was built.

    A run belongs to it as soon as a block of it is analysed; what is not finished is missing there.
    """
    url = Layout(store).cube(sweep.name)
    record = read_sweep(store, sweep.name)
    specs = sweep_of(record).specs if record else sweep.specs
    cells = [cell for spec in specs if _anything_known(cell := look_at(sweep, store, spec), sweep)]
    if not cells:
        return url, False
    members = [
        Member(
            run_id=cell.spec.run_id,
            url=Layout(store).run_store(cell.spec.experiment, cell.results),
            hyperparameters=hyperparameters(cell.spec),
            provenance={COMPUTED_ON: cell.computed_on},
            unknown=_unknown(cell),
        )
        for cell in cells
    ]
    experiment = get_experiment(sweep.experiment)
    attributes = {
        "title": f"{experiment.title}: {sweep.name}",
        "sweep": sweep.name,
        "experiment": sweep.experiment,
        "preset": sweep.preset,
        "data": data_titles(sweep),
    }
    return url, rebuild(url, members, attributes, _contents(cells, sweep), lease)


def nothing_to_do(sweep: Sweep, store: str, report: bool) -> bool:
    """Whether the store has all that a call asks for, so that it starts and writes nothing, nor waits; reads only.

    Ends at the first run that is not done; a run that failed never is.
    """
    where, record = Layout(store), read_sweep(store, sweep.name)
    if record is None or not set(sweep.record.specs) <= set(record.specs):
        return False
    asked, cells = set(sweep.specs), []
    for spec in sweep_of(record).specs:
        cell = look_at(sweep, store, spec)
        if spec in asked and cell.state != "done":
            return False
        cells.append(cell)
    contents = _contents([cell for cell in cells if _anything_known(cell, sweep)], sweep)
    if stored_contents(where.cube(sweep.name)) != contents:
        return False
    return not report or drawn(where.report(sweep.name), contents)


def drawn(folder: str, contents: str | None) -> bool:
    """Whether the report in the folder was drawn from a cube with these contents."""
    return objects.exists(f"{folder}/index.html") and _noted(f"{folder}/drawn.json") == contents


def _noted(url: str) -> str | None:
    try:
        return str(json.loads(objects.read(url))["contents"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _contents(cells: Sequence[Cell], sweep: Sweep) -> str:
    return contents_of([_identity(cell) for cell in cells], sweep.analyses)


def _anything_known(cell: Cell, sweep: Sweep) -> bool:
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


def _unknown(cell: Cell) -> dict[str, frozenset[int] | None]:
    """The variables that are not finished, with the steps that they lack; None for one of the run as a whole."""
    metrics = get_experiment(cell.spec.experiment).metrics(cell.spec)
    found: dict[str, frozenset[int] | None] = {}
    for block, names in cell.missing.items():
        for analysis in map(get_analysis, names):
            for name in analysis.variables_for(metrics):
                if analysis.of != "run":
                    found[name] = frozenset({*(found.get(name) or ()), *block})
                elif block == cell.last_block:
                    found[name] = None
    return found


def data_titles(sweep: Sweep) -> str:
    """What the runs were trained on, with a word where it is a sample; empty for data made from nothing."""
    sets = [get_dataset(*needed) for needed in sweep.datasets]
    return "; ".join(f"{found.title} (sample data)" if found.variant == "sample" else found.title for found in sets)


def rebuild(
    url: str, members: Sequence[Member], attributes: Mapping[str, Any], contents: str, lease: Lease | None = None
) -> bool:
    """Write the cube unless it holds these contents already; says whether it was written."""
    if stored_contents(url) == contents:
        return False
    write_cube(url, members, {**attributes, "contents": contents}, declared(), facts_of, lease)
    return True


def declared() -> dict[str, Variable]:
    """Every variable that has one name, by it."""
    found = (get_analysis(name).variables for name in analysis_names())
    return {name: variable for variables in found for name, variable in variables.items() if "{" not in name}


def contents_of(results: Sequence[str], analyses: Sequence[str]) -> str:
    """What decides a cube's values: the results of its runs, by ids that say what they are of, and all versions."""
    versions = {name: get_analysis(name).version for name in analyses}
    return json.dumps({"runs": list(results), "analyses": versions, "facts": FACTS_VERSION}, sort_keys=True)


def stored_contents(url: str) -> str | None:
    """What the cube at a place holds, as `contents_of` says it; None where there is none."""
    found = generations.attributes(url).get("contents")
    return None if found is None else str(found)
