"""A sweep: the specs of one grid, checked before anything is spent."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specdyn.models.experiments.base import get_experiment, read_spec
from specdyn.models.spec.checks import require, require_distinct
from specdyn.models.spec.run_spec import RunSpec, as_text, hyperparameters, to_json
from specdyn.models.spec.settings import with_settings
from specdyn.storage.sweeps import SweepRecord
from specdyn.tasks.plan.names import automatic_name, require_name
from specdyn.tasks.spectra.analysis import default_analyses, get_analysis


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The specs of one grid and the name their results go by."""

    name: str
    experiment: str
    preset: str
    specs: tuple[RunSpec, ...]
    analyses: tuple[str, ...]

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

    @property
    def record(self) -> SweepRecord:
        """What the store keeps of the sweep."""
        specs = tuple(to_json(spec) for spec in self.specs)
        return SweepRecord(name=self.name, experiment=self.experiment, preset=self.preset, specs=specs)


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
    """The grid of weight decays, seeds and any other settings on a preset; what is None comes from the preset.

    `axes` gives the values of a setting, `settings` the one value it has in every run: fields of the RunSpec, of its
    net or of its data. ValueError names the field, the value and what is allowed: unknown names, empty or duplicate
    grids, values that the setting may not have.
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
    """The axis of weight decays or of seeds, nothing where the setting is chosen under its own name."""
    if setting in chosen:
        require(given is None, field, given, f"nothing beside {setting}={chosen[setting]!r}")
        return {}
    return {setting: _axis(field, preset if given is None else given)}


def _axis(field: str, values: Sequence[Any]) -> Sequence[Any]:
    listed = isinstance(values, Sequence) and not isinstance(values, str)
    require(listed, field, values, "a list of values")
    require_distinct(field, values)
    return values


def sweep_of(record: SweepRecord) -> Sweep:
    """The sweep that a store's record describes, with the analyses that are made by default."""
    specs = tuple(read_spec(text, record.experiment) for text in record.specs)
    return Sweep(
        name=record.name,
        experiment=record.experiment,
        preset=record.preset,
        specs=specs,
        analyses=tuple(default_analyses()),
    )


def label(spec: RunSpec, varied: Sequence[str] = ()) -> str:
    """How people tell a run from its neighbours: weight decay, seed, other settings that vary, run_id."""
    flat = hyperparameters(spec)
    others = "".join(f" {name}={as_text(flat[name])}" for name in varied if name in flat)
    return f"wd={as_text(spec.decay.weight_decay)} seed={spec.seed}{others} ({spec.run_id[:6]})"
