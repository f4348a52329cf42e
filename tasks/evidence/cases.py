"""Case: the runs of studies that agree in all settings except the seed and those that a claim compares."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from specdyn.models.spec.run_spec import as_text
from specdyn.storage.schema import LIVE, PROVENANCE
from specdyn.tasks.evidence.claim import NotRun

LINES, TICKETS = "pair", "ticket"
"""Row dimensions of the cubes of lines and tickets."""
NO_SETTING = ("run_id", "series", *LIVE)
"""Coordinates of a run other than its settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneRun:
    """One run of a study, with lazily read values."""

    run_id: str
    study: str
    status: str
    seed: int
    settings: Mapping[str, Any]
    groups: Mapping[str, xr.Dataset]
    """The groups of the cube, restricted to this run."""

    def values(self, name: str, **at: Any) -> xr.DataArray:
        """A variable at these labels, without steps that the run lacks.

        NotRun if the study lacks the variable.
        """
        for data in self.groups.values():
            if name in data:
                found = data[name].sel(at).load()
                return found.dropna("step", how="all") if "step" in found.dims else found
        raise NotRun(f"{name} is not among the results of {self.study}: add the analysis that computes it")

    def has(self, name: str) -> bool:
        """Whether the study has the variable."""
        return any(name in data for data in self.groups.values())

    def final(self, name: str, **at: Any) -> np.ndarray:
        """A variable at the last step."""
        return self.values(name, **at).isel(step=-1).values

    @property
    def collapsed(self) -> np.ndarray:
        """Which layers have collapsed at the last step."""
        return np.asarray(self.values("collapse").isel(step=-1).values == 2)


Arm = Mapping[int, OneRun]
"""Runs by seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The runs on which a claim is judged together."""

    experiment: str
    label: str
    """The settings that distinguish it from other cases."""
    studies: tuple[str, ...]
    runs: tuple[OneRun, ...] = ()
    table: xr.Dataset | None = None
    """The cube of lines, or of tickets."""

    def arm(self, chosen: Callable[[Mapping[str, Any]], bool] = lambda settings: True) -> tuple[Arm, tuple[str, ...]]:
        """The finished runs with these settings by seed, and the missing ones with the reason."""
        own = [run for run in self.runs if chosen(run.settings)]
        there = {run.seed: run for run in own if run.status == "done"}
        lost = tuple(f"{run.run_id} (seed {run.seed}): {run.status}" for run in own if run.status != "done")
        return there, lost

    def levels(self, setting: str) -> list[Any]:
        """The values of a setting, ascending."""
        return sorted({run.settings[setting] for run in self.runs if setting in run.settings})

    def rows(self) -> xr.Dataset:
        """The cube of lines or tickets; NotRun if there is none."""
        if self.table is None:
            raise NotRun("these studies have no such cube")
        return self.table


def paired(*arms: Arm) -> tuple[int, ...]:
    """The seeds that all arms have; NotRun if there are none."""
    seeds = sorted(set.intersection(*(set(arm) for arm in arms)))
    if not seeds:
        raise NotRun("no seed is finished in all arms that are compared")
    return tuple(seeds)


def cases_of(trees: Mapping[str, xr.DataTree], varies: Sequence[str], experiments: Sequence[str] = ()) -> list[Case]:
    """The cases in cubes of runs by study name: one for each combination of all settings but these."""
    runs: dict[str, OneRun] = {}
    for study, tree in trees.items():
        for run in runs_in(study, tree):
            runs.setdefault(run.run_id, run)
    groups: dict[tuple[tuple[str, str], ...], list[OneRun]] = {}
    for run in runs.values():
        if experiments and run.settings.get("experiment") not in experiments:
            continue
        key = tuple(
            sorted((name, as_text(value)) for name, value in run.settings.items() if name not in {"seed", *varies})
        )
        groups.setdefault(key, []).append(run)
    told = _telling(list(groups))
    return [
        Case(
            experiment=str(group[0].settings.get("experiment", "")),
            label=", ".join([*dict.fromkeys(run.study for run in group), *says]),
            studies=tuple(dict.fromkeys(run.study for run in group)),
            runs=tuple(group),
        )
        for group, says in zip(groups.values(), told, strict=True)
    ]


def case_of_table(study: str, data: xr.Dataset, experiment: str) -> Case:
    """The case for a cube of lines or tickets."""
    return Case(experiment=experiment, label=study, studies=(study,), table=data)


def runs_in(study: str, tree: xr.DataTree) -> Iterable[OneRun]:
    """The runs of a cube, finished or not."""
    data = {name: node.to_dataset() for name, node in tree.children.items() if "run" in node.dims and name != "runs"}
    settings = tree["runs"].to_dataset() if "runs" in tree.children else next(iter(data.values()))
    experiment = str(tree.attrs.get("experiment", ""))
    for i, run_id in enumerate(settings["run"].values.tolist()):
        own = {"experiment": experiment, **_settings(settings, i)}
        if (seed := own.get("seed")) in (None, "") or (isinstance(seed, float) and math.isnan(seed)):
            own.pop("seed", None)  # for a series without that label, which must not be paired as a seed of another one
            own["source"] = f"{own.get('source', '')} {run_id}"
        else:
            own.pop("source", None)
        groups = {name: of.isel(run=i) for name, of in data.items()}
        yield OneRun(
            run_id=str(run_id),
            study=study,
            status=str(settings["status"].values[i]) if "status" in settings.coords else "done",
            seed=int(own.get("seed", 0)),
            settings=own,
            groups=groups,
        )


def _settings(data: xr.Dataset, i: int) -> dict[str, Any]:
    return {
        str(name): variable.values[i].item() if hasattr(variable.values[i], "item") else variable.values[i]
        for name, variable in data.variables.items()
        if variable.dims == ("run",)
        and name not in data.dims
        and name not in NO_SETTING
        and variable.attrs.get("role") != PROVENANCE
    }


def _telling(keys: Sequence[tuple[tuple[str, str], ...]]) -> list[tuple[str, ...]]:
    """The part of each key that not all keys of its experiment share."""
    found = []
    for key in keys:
        alike = [set(other) for other in keys if dict(other).get("experiment") == dict(key).get("experiment")]
        common = set.intersection(*alike)
        found.append(tuple(f"{name}={value}" for name, value in key if (name, value) not in common))
    return found
