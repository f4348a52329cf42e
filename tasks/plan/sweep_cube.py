"""The cube of a sweep: its runs with their results, and its report."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import experiment_of, get_experiment
from specdyn.models.spec.run_spec import RunSpec, hyperparameters, own_settings
from specdyn.models.spec.schedules import step_coordinates
from specdyn.models.spec.settings import described_settings
from specdyn.storage.places import Store
from specdyn.storage.results import RunLayout
from specdyn.storage.rows import Row
from specdyn.tasks.plan.cells import Cell, look_at
from specdyn.tasks.plan.cost import train_examples
from specdyn.tasks.plan.gathering import RunsCube, counting_variables
from specdyn.tasks.plan.sweeps import Sweep

STATUS = {"done": "done", "failed": "failed", "damaged": "damaged"}
"""Status of a row by the state of its cell; otherwise it depends on the results."""


@dataclass(frozen=True, kw_only=True)
class SweepCube(RunsCube):
    """The cube of all runs of a sweep, with their results."""

    sweep: Sweep
    """The sweep, including all runs of the store's record."""
    cells: tuple[Cell, ...]

    @property
    def analyses(self) -> tuple[str, ...]:
        """The requested analyses, and others with results."""
        there = {name for cell in self.cells for counting in cell.parts.values() for name in counting}
        return tuple(dict.fromkeys([*self.sweep.analyses, *sorted(there)]))

    @functools.cached_property
    def rows(self) -> list[Row]:
        """All runs, trained or not."""
        analyses, varied = self.analyses, ("weight_decay", "seed", *self.sweep.varied)
        alike = _Alike(analyses, self.store)
        return [alike.row(cell, varied) for cell in self.cells]

    @property
    def meanings(self) -> dict[str, dict[str, str]]:
        """Meaning and unit of each setting of the runs."""
        # They depend on the kinds of net and data alone; of a name that several have, the last run's meaning counts.
        kinds = {(type(cell.spec.net), type(cell.spec.data)): cell.spec for cell in reversed(self.cells)}
        return {name: of for spec in reversed(kinds.values()) for name, of in described_settings(spec).items()}

    def again(self, keys: Collection[str] | None = None) -> "SweepCube":
        """The cube with refreshed runs: those with these ids, or all."""
        cells = [
            look_at(cell.spec, cell.label, self.sweep.analyses, self.store)
            if keys is None or cell.run_id in keys
            else cell
            for cell in self.cells
        ]
        return replace(self, cells=tuple(cells))

    def attributes(self) -> dict[str, str]:
        """Title, experiment, preset, and the runs' training data."""
        return {
            "title": f"{get_experiment(self.sweep.experiment).title}: {self.name}",
            "sweep": self.name,
            "experiment": self.sweep.experiment,
            "preset": self.sweep.preset,
            "data": data_titles(self.sweep),
        }


@dataclass(frozen=True, slots=True)
class _Seedless:
    """A spec that is equal to others which differ in the seed alone."""

    settings: tuple[Any, ...]
    spec: RunSpec = field(compare=False)

    @classmethod
    def of(cls, spec: RunSpec) -> "_Seedless":
        return cls(tuple(value for name, value in own_settings(spec).items() if name != "seed"), spec)


class _Alike:
    """Makes the rows of runs, and works out once what those have in common that differ in the seed alone."""

    def __init__(self, analyses: tuple[str, ...], store: Store) -> None:
        self._analyses, self._store = analyses, store
        self._settings = functools.cache(lambda of: hyperparameters(of.spec))
        self._metrics = functools.cache(lambda of: experiment_of(of.spec).metrics(of.spec))
        self._counting = functools.cache(lambda of, found: counting_variables({"": found}, self._metrics(of))[""])

    def row(self, cell: Cell, varied: Sequence[str]) -> Row:
        """The row of a run, with these settings as coordinates."""
        of = _Seedless.of(cell.spec)
        settings = {**self._settings(of), "seed": cell.spec.seed}
        return Row(
            key=cell.run_id,
            status=STATUS.get(cell.state, "partial" if cell.parts else "planned"),
            layout_of=functools.partial(_layout_of, of, cell.spec, cell.steps, self._analyses, self._store),
            coordinates={name: settings[name] for name in varied if name in settings},
            settings=settings,
            provenance={"computed_on": cell.computed_on},
            results=cell.results,
            trained=cell.remembered,
            parts={url: self._counting(of, found) for url, found in cell.parts.items()},
        )


_EXAMPLES: dict[tuple[Any, ...], int] = {}
"""Numbers of training examples, which take a split of the data, by what decides them."""
KEPT = 50_000
"""The most of them, since a service lives long."""


def _examples(spec: RunSpec, store: Store) -> int:
    key = (spec.experiment, spec.source, spec.data, spec.seed, store)
    if key not in _EXAMPLES:
        if len(_EXAMPLES) >= KEPT:
            _EXAMPLES.clear()
        _EXAMPLES[key] = train_examples(spec, store)
    return _EXAMPLES[key]


def _layout_of(
    of: _Seedless, spec: RunSpec, steps: tuple[int, ...], analyses: tuple[str, ...], store: Store
) -> RunLayout:
    """Labels and variables of a run; may count its examples, whose number may depend on the seed."""
    return _layout(of, steps, analyses, _examples(spec, store))


@functools.lru_cache(maxsize=256)
def _layout(of: _Seedless, steps: tuple[int, ...], analyses: tuple[str, ...], examples: int) -> RunLayout:
    """Labels and variables, the same for all seeds; builds the network without weights."""
    from specdyn.tasks.spectra.network_layout import network_layout, run_layout

    spec = replace(of.spec, seed=0)
    metrics = experiment_of(spec).metrics(spec)
    layout = run_layout(network_layout(spec), steps, analyses, metrics, {})
    return replace(layout, extras={**layout.extras, **step_coordinates(spec, steps, examples)})


def sweep_cube(sweep: Sweep, store: Store, asked: Collection[RunSpec]) -> SweepCube:
    """The cube of a sweep with all runs of its record; `asked` are requested. Failed runs are never complete."""
    cells = sweep.cells(store)
    done = {cell.spec for cell in cells if cell.state == "done"}
    return SweepCube(
        name=sweep.name,
        store=store,
        complete=set(asked) <= done and not sweep.more_seeds,
        sweep=sweep,
        cells=tuple(cells),
    )


def data_titles(sweep: Sweep) -> str:
    """Titles of the runs' data sets, marking samples; empty for generated data."""
    sets = [get_dataset(*needed) for needed in sweep.datasets]
    return "; ".join(f"{one.title} (sample data)" if one.variant == "sample" else one.title for one in sets)
