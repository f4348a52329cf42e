"""A sweep: the specs of one grid, checked before anything is spent."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.checks import require
from models.experiment import get_experiment, read_spec
from models.run_spec import RunSpec, to_json
from storage.sweeps import SweepRecord
from tasks.analysis import analysis_names, get_analysis

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The specs of one grid and the name their results go by."""

    name: str
    experiment: str
    preset: str
    specs: tuple[RunSpec, ...]
    analyses: tuple[str, ...]

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
) -> Sweep:
    """The grid of weight decays and seeds on a preset; what is None comes from the preset.

    ValueError names the field, the value and what is allowed: unknown names, empty or duplicate
    grids, negative weight decays.
    """
    chosen = get_experiment(experiment).preset(preset)
    decays = _axis("weight_decays", chosen.weight_decays if weight_decays is None else weight_decays)
    seeds = _axis("seeds", chosen.seeds if seeds is None else seeds)
    names = _axis("analyses", analysis_names() if analyses is None else analyses)
    for analysis in names:
        get_analysis(analysis)
    name = sweep or f"{experiment}-{preset}"
    require(bool(NAME.fullmatch(name)), "sweep", name, "letters, digits, '.', '_' and '-', at most 81 of them")
    specs = tuple(
        dataclasses.replace(chosen.spec, weight_decay=float(decay), seed=int(seed))
        for decay in decays
        for seed in seeds
    )
    return Sweep(name=name, experiment=experiment, preset=preset, specs=specs, analyses=tuple(names))


def _axis(field: str, values: Sequence[Any]) -> Sequence[Any]:
    require(len(values) > 0, field, list(values), "at least one value")
    require(len(set(values)) == len(values), field, list(values), "no value twice")
    return values


def sweep_of(record: SweepRecord) -> Sweep:
    """The sweep that a store's record describes, with all analyses."""
    specs = tuple(read_spec(text, record.experiment) for text in record.specs)
    return Sweep(
        name=record.name,
        experiment=record.experiment,
        preset=record.preset,
        specs=specs,
        analyses=tuple(analysis_names()),
    )


def label(spec: RunSpec) -> str:
    """How people tell a run from its neighbours."""
    return f"wd={spec.weight_decay:g} seed={spec.seed} ({spec.run_id[:6]})"
