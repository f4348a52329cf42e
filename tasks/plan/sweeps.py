"""Sweep: the specs of one grid, checked before any work is done."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from specdyn.models.experiments.base import get_experiment, present_specs, source_in
from specdyn.models.spec.checks import require, require_distinct
from specdyn.models.spec.run_spec import RunSpec, as_text, hyperparameters, to_json
from specdyn.models.spec.settings import with_settings
from specdyn.models.wording import plural
from specdyn.storage.places import Store
from specdyn.storage.studies import DEFAULT_ANALYSES, StudyKind, StudyRecord, read_study, record_study
from specdyn.tasks.plan.cells import Cell, look_at_all, require_inputs
from specdyn.tasks.plan.names import automatic_name, require_name
from specdyn.tasks.plan.plan import Item
from specdyn.tasks.spectra.analysis import analysis_names, default_analyses, get_analysis

if TYPE_CHECKING:
    from specdyn.tasks.plan.sweep_cube import SweepCube


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The specs of one grid, and the name of their results."""

    kind: ClassVar = "sweep"
    noun: ClassVar = ("run", "runs")
    takes_seconds: ClassVar = False
    """The time of trainings is unknown."""
    name: str
    experiment: str
    preset: str
    specs: tuple[RunSpec, ...]
    analyses: tuple[str, ...]
    more_seeds: int = 0
    """Seeds that a call adds per setting once all stored runs of the sweep are done."""

    @property
    def varied(self) -> tuple[str, ...]:
        """Settings besides weight decay and seed in which the runs differ."""
        flat = [hyperparameters(spec) for spec in self.specs]
        names = dict.fromkeys(name for settings in flat for name in settings if name not in ("weight_decay", "seed"))
        return tuple(name for name in names if len({settings.get(name) for settings in flat}) > 1)

    @property
    def datasets(self) -> tuple[tuple[str, str], ...]:
        """Name and variant of every data set that the runs need."""
        needed = get_experiment(self.experiment).dataset
        return tuple(dict.fromkeys(found for spec in self.specs if (found := needed(spec))))

    def cells(self, store: Store) -> list[Cell]:
        """What exists of each run in the store, and what is missing."""
        varied = self.varied
        return look_at_all(
            self.specs, [label(spec, varied) for spec in self.specs], self.analyses, store, self.cube(store)
        )

    def items(self, store: Store, retry_failed: bool = False, whole: bool = True) -> list[Item]:
        """The training and the analysis of every run."""
        cube = self.cube(store)
        pairs = [cell.items(store, cube, self.analyses, retry_failed) for cell in self.cells(store)]
        return [item for items in zip(*pairs, strict=True) for item in items]

    def checked(self, store: Store, asks: bool = False) -> "Sweep":
        """The sweep including added seeds; NotPrepared or ValueError if the store lacks what runs need."""
        whole = replace(self, specs=_with_more_seeds(self, store), more_seeds=0)
        require_inputs(whole.specs, store, asks)
        return whole

    def recorded(self, store: Store) -> bool:
        """Whether all its runs and analyses are in the store's record."""
        record, own = read_study(store, self.name, "sweep"), self._record
        return (
            record is not None
            and set(own.specs) <= set(record.specs)
            and set(self.analyses) <= set(requested_analyses(record.analyses))
        )

    def record(self, store: Store) -> None:
        """Add its runs and analyses to the store's record."""
        record_study(store, self._record)

    @property
    def _record(self) -> StudyRecord:
        analyses, default = list(self.analyses), default_analyses()
        if set(default) <= set(analyses):
            analyses = [DEFAULT_ANALYSES, *(name for name in analyses if name not in default)]
        return StudyRecord(
            name=self.name,
            kind="sweep",
            experiment=self.experiment,
            preset=self.preset,
            specs=tuple(to_json(spec) for spec in self.specs),
            analyses=tuple(analyses),
        )

    def cube(self, store: Store) -> str:
        """URL of its cube."""
        return store.cube(self.name)

    def results(self, store: Store) -> "SweepCube":
        """The cube of all runs in the store's record."""
        from specdyn.tasks.plan.sweep_cube import sweep_cube

        record = read_study(store, self.name, "sweep")
        whole = replace(self, specs=sweep_of(record).specs) if record else self
        return sweep_cube(whole, store, self.specs)

    def clean(self, store: Store) -> None:
        """Does nothing: its units share factors in memory."""


def make_sweep(
    experiment: str,
    preset: str,
    weight_decays: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
    sweep: str | None = None,
    analyses: Sequence[str] | None = None,
    axes: Mapping[str, Sequence[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Sweep:
    """The grid of weight decays, seeds and any other settings on a preset; None means the preset's value.

    `axes` has the values of varied settings, `settings` the single value of others: settings of the run, its net or its
    data. ValueError names the field, the value and what is allowed, for unknown names, empty or duplicate grids, and
    invalid values.
    """
    chosen = get_experiment(experiment).preset(preset)
    fixed, axes = dict(settings or {}), {name: _axis(name, values) for name, values in (axes or {}).items()}
    for name in (both := sorted(fixed.keys() & axes.keys())):
        require(not both, name, fixed[name], "one value for every run or an axis, not both")
    names = _axis("analyses", default_analyses() if analyses is None else analyses)
    for analysis in names:
        get_analysis(analysis)
    grid = {
        **{field: values for field, values in chosen.axes.items() if field not in fixed},
        **axes,
        **_usual("weight_decay", "weight_decays", weight_decays, chosen.weight_decays, {**axes, **fixed}),
        **_usual("seed", "seeds", seeds, chosen.seeds, {**axes, **fixed}),
    }
    specs = tuple(
        with_settings(chosen.spec, **{**fixed, **dict(zip(grid, values, strict=True))})
        for values in itertools.product(*grid.values())
    )
    name = sweep or automatic_name(preset, chosen, specs[0], fixed, axes)
    require_name("sweep", name)
    return Sweep(name=name, experiment=experiment, preset=preset, specs=specs, analyses=tuple(names))


def _usual(
    setting: str, field: str, given: Sequence[Any] | None, preset: Sequence[Any], chosen: Mapping[str, Any]
) -> dict[str, Sequence[Any]]:
    """The axis of weight decays or seeds; empty if the setting is chosen under its own name."""
    if setting in chosen:
        require(given is None, field, given, f"nothing beside {setting}={chosen[setting]!r}")
        return {}
    return {setting: _axis(field, preset if given is None else given)}


def _axis(field: str, values: Sequence[Any]) -> Sequence[Any]:
    listed = isinstance(values, Sequence) and not isinstance(values, str)
    require(listed, field, values, "a list of values")
    require_distinct(field, values)
    return values


def sweep_of(record: StudyRecord) -> Sweep:
    """The sweep that a store's record describes.

    Omits runs of other versions of the experiment's source (`other_sources`) and analyses of plug-ins that are not
    there; both stay in the record.
    """
    present = analysis_names()
    return Sweep(
        name=record.name,
        experiment=record.experiment,
        preset=record.preset,
        specs=present_specs(record.specs, record.experiment),
        analyses=tuple(name for name in requested_analyses(record.analyses) if name in present),
    )


def requested_analyses(recorded: Sequence[str]) -> list[str]:
    """Names of the analyses in a record, including the default ones of today if it has DEFAULT_ANALYSES."""
    names = (default_analyses() if name == DEFAULT_ANALYSES else [name] for name in recorded)
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def other_sources(store: Store, name: str, kind: str) -> str:
    """A note on the runs of a study that belong to another version of the experiment's source; empty if none do."""
    record = read_study(store, name, cast(StudyKind, kind))
    if record is None or not record.specs:
        return ""
    source = get_experiment(record.experiment).source
    if not (others := sum(source_in(text) != source for text in record.specs)):
        return ""
    them = "is" if others == 1 else "are"
    return (
        f"{plural(others, 'run')} of {name} {them} of another version of {record.experiment}'s source: kept, and "
        "included again if that source is restored"
    )


def _with_more_seeds(sweep: Sweep, store: Store) -> tuple[RunSpec, ...]:
    """The sweep's runs; if it adds seeds, also all stored ones, and new seeds once these are done.

    New seeds follow the largest existing one. A run that failed for good does not block them.
    """
    record = read_study(store, sweep.name, "sweep") if sweep.more_seeds else None
    if record is None or record.experiment != sweep.experiment:
        return sweep.specs
    specs = tuple(dict.fromkeys([*sweep_of(record).specs, *sweep.specs]))
    if any(cell.state not in ("done", "failed") for cell in replace(sweep, specs=specs).cells(store)):
        return specs
    first = max(spec.seed for spec in specs) + 1
    kinds = dict.fromkeys(replace(spec, seed=0) for spec in specs)
    new = [replace(kind, seed=seed) for seed in range(first, first + sweep.more_seeds) for kind in kinds]
    return (*sweep.specs, *new)


def label(spec: RunSpec, varied: Sequence[str] = ()) -> str:
    """The display name of a run: weight decay, seed, other varied settings, run_id."""
    flat = hyperparameters(spec)
    others = "".join(f" {name}={as_text(flat[name])}" for name in varied if name in flat)
    return f"wd={as_text(spec.decay.weight_decay)} seed={spec.seed}{others} ({spec.run_id[:6]})"
