"""The cube of a sweep: what decides what it holds, its runs, its report."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec, hyperparameters
from specdyn.storage.places import Store
from specdyn.tasks.plan.cells import Cell
from specdyn.tasks.plan.gathering import RunsCube, contents_of
from specdyn.tasks.plan.sweeps import Sweep
from specdyn.tasks.spectra.analysis import get_analysis

if TYPE_CHECKING:
    from specdyn.storage.members import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepCube(RunsCube):
    """The cube of all runs that belong to a sweep, as far as they are analysed."""

    sweep: Sweep
    """With all runs of the store's record."""
    known: tuple[Cell, ...]
    """The finished runs of which something is analysed; what is not is missing in the cube."""

    @property
    def measured(self) -> int:
        """Runs in the cube."""
        return len(self.known)

    @property
    def contents(self) -> str:
        """The results of its runs, by ids that say what they are of, and all versions."""
        return contents_of([_identity(cell) for cell in self.known], self.sweep.analyses)

    def members(self) -> "list[Member]":
        """The runs, each with what is not finished of it."""
        from specdyn.storage.members import Member
        from specdyn.tasks.figures.summary import COMPUTED_ON

        return [
            Member(
                run_id=cell.spec.run_id,
                url=self.store.run_store(cell.spec.experiment, cell.results),
                hyperparameters=hyperparameters(cell.spec),
                provenance={COMPUTED_ON: cell.computed_on},
                unknown=_unknown(cell),
            )
            for cell in self.known
        ]

    def attributes(self) -> dict[str, str]:
        """Title, experiment, preset, and what the runs were trained on."""
        return {
            "title": f"{get_experiment(self.sweep.experiment).title}: {self.name}",
            "sweep": self.name,
            "experiment": self.sweep.experiment,
            "preset": self.sweep.preset,
            "data": data_titles(self.sweep),
        }


def sweep_cube(sweep: Sweep, store: Store, asked: Collection[RunSpec]) -> SweepCube:
    """The cube of a sweep with all runs of its record, of which some are asked for; one that failed is never done."""
    cells = sweep.cells(store)
    done = {cell.spec for cell in cells if cell.state == "done"}
    return SweepCube(
        name=sweep.name,
        store=store,
        complete=set(asked) <= done and not sweep.more_seeds,
        sweep=sweep,
        known=tuple(cell for cell in cells if cell.trained and anything_known(cell, sweep.analyses)),
    )


def anything_known(cell: Cell, analyses: tuple[str, ...]) -> bool:
    """Whether some analysis of some block is there."""
    return len(cell.missing) < len(cell.blocks) or any(set(names) < set(analyses) for names in cell.missing.values())


def _identity(cell: Cell) -> str:
    """What tells a run as far as it is analysed from the same run further on."""
    if not cell.missing:
        return cell.results
    lacks = sorted((block[0], block[-1], *names) for block, names in cell.missing.items())
    return f"{cell.results} without {hashlib.sha256(json.dumps(lacks).encode()).hexdigest()[:12]}"


def _unknown(cell: Cell) -> dict[str, frozenset[int] | None]:
    """The variables that are not finished, with the steps that they lack; None for one of the run as a whole."""
    metrics = get_experiment(cell.spec.experiment).metrics(cell.spec)
    unknown: dict[str, frozenset[int] | None] = {}
    for block, names in cell.missing.items():
        for analysis in map(get_analysis, names):
            for name in analysis.variables_for(metrics):
                if analysis.of != "run":
                    unknown[name] = frozenset({*(unknown.get(name) or ()), *block})
                elif block == cell.blocks[-1]:
                    unknown[name] = None
    return unknown


def data_titles(sweep: Sweep) -> str:
    """What the runs were trained on, with a word where it is a sample; empty for data made from nothing."""
    sets = [get_dataset(*needed) for needed in sweep.datasets]
    return "; ".join(f"{one.title} (sample data)" if one.variant == "sample" else one.title for one in sets)
