"""From run stores to the sweep's cube and its report; done by one process."""

from collections.abc import Mapping, Sequence
from typing import Any

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import hyperparameters
from specdyn.storage.access.lease import Lease
from specdyn.storage.cube import write_cube
from specdyn.storage.members import Member
from specdyn.storage.places import Store
from specdyn.storage.schema import Variable
from specdyn.storage.sweeps import read_sweep
from specdyn.tasks.figures.summary import COMPUTED_ON
from specdyn.tasks.plan.contents import anything_known, contents_of_sweep, stored_contents
from specdyn.tasks.plan.planning import Cell, look_at
from specdyn.tasks.plan.sweeps import Sweep, sweep_of
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis
from specdyn.tasks.spectra.facts import facts_of


def gather(sweep: Sweep, store: Store, lease: Lease | None = None) -> tuple[str, bool]:
    """Rebuild the cube unless it holds just what is known already; returns its URL and whether it was built.

    A run belongs to it as soon as a block of it is analysed; what is not finished is missing there.
    """
    url = store.cube(sweep.name)
    record = read_sweep(store, sweep.name)
    specs = sweep_of(record).specs if record else sweep.specs
    cells = [cell for spec in specs if anything_known(cell := look_at(sweep, store, spec), sweep)]
    if not cells:
        return url, False
    members = [
        Member(
            run_id=cell.spec.run_id,
            url=store.run_store(cell.spec.experiment, cell.results),
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
    return url, rebuild(url, members, attributes, contents_of_sweep(cells, sweep), lease)


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
