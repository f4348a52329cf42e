"""Common queries of results: means over seeds, scores, ratios to chance, grokking steps."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from specdyn.models.spec.checks import require, require_known
from specdyn.storage.schema import GROUPS, METRICS_GROUP, RUNS_GROUP
from specdyn.tasks.spectra.labels import CHANCE_OF, LOGARITHMS

if TYPE_CHECKING:
    import xarray as xr

Results = TypeVar("Results", "xr.Dataset", "xr.DataTree")

SCORE = "_score"
"""Suffix of means over the leading ranks (METHOD 5)."""


def mean_over(data: Results, over: str = "seed") -> Results:
    """The mean over the runs that agree in all settings except `over`; settings are never mixed.

    `data` is a group of a cube, or a cube, with every setting that varies as a coordinate of `run`. The result has one
    entry of `run` for each combination of the other settings, named after it, with these settings as coordinates. Its
    coordinate `runs` is the number of runs with values. If some of these lack a value at a position, such as a step not
    yet reached, the mean is over the others, and a coordinate `NAME_runs` counts them at each position. Flags and texts
    are left out. ValueError if runs have no such setting, or if two runs have the same settings.
    """
    import xarray as xr

    if isinstance(data, xr.DataTree):
        groups = {path: of for path, of in _groups(data).items() if "run" in of.dims and path != f"/{RUNS_GROUP}"}
        require(bool(groups), "data", data.attrs.get("title", ""), "a cube of runs")
        return _tree(data, {path: mean_over(of, over) for path, of in groups.items()})
    require("run" in data.dims, "data", list(map(str, data.dims)), "a data set with the dimension 'run'")
    places, labels = _alike(data, over)
    known = np.zeros(data.sizes["run"], dtype=bool)
    means: dict[str, xr.DataArray] = {}
    counts: dict[str, xr.DataArray] = {}
    for name, variable in data.data_vars.items():
        if "run" not in variable.dims:
            means[str(name)] = variable
        elif variable.dtype.kind in "fiu" and "flag_values" not in variable.attrs:
            values = variable.variable.compute()
            there = values.notnull()
            known |= there.any([dim for dim in values.dims if dim != "run"]).values
            parts = [values.isel(run=at) for at in places]
            mean = xr.Variable.concat([part.mean("run", dtype=np.float64) for part in parts], "run")
            kept = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
            means[str(name)] = xr.DataArray(mean.astype(kept), attrs=variable.attrs)
            counts[str(name)] = xr.DataArray(
                xr.Variable.concat([there.isel(run=at).sum("run") for at in places], "run")
            )
    runs = np.array([known[at].sum() for at in places])
    of_runs: dict[str, Any] = {"runs": ("run", runs, {"long_name": "runs that each mean is of", "units": "1"})}
    for name, count in counts.items():
        most = xr.DataArray(runs, dims="run")
        if ((count > 0) & (count < most)).any():
            of_runs[f"{name}_runs"] = count.assign_attrs(long_name=f"runs that the mean of {name} is of", units="1")
    return xr.Dataset(means, _coordinates(data, over, places, labels) | of_runs, data.attrs)


def scores(data: Results) -> Results:
    """The agreement and alignment scores in results: means over the ten leading ranks (METHOD 5).

    For a group its scores, for a cube the scores of every group. ValueError, naming the analyses that measure them, if
    there are none.
    """
    return _chosen(
        data,
        lambda of: {str(name): of[name] for name in of.data_vars if str(name).endswith(SCORE)},
        "no scores in these results: the analyses agreement, agreement_initial, agreement_previous and alignment "
        "measure them",
    )


def above_chance(data: Results, *names: str) -> Results:
    """Values divided by their chance level for the same layer or pair; 1 is chance, NaN where that level is 0.

    For every variable that has a chance level, or for the named ones, in a group or in a whole cube. If there are two
    levels, of a Gaussian and of a shuffled matrix, the result has their dimension `null`. Which level belongs
    to which variable is `CHANCE_OF` in `specdyn.tasks.spectra.labels`. ValueError if the results have no chance level.
    """
    import xarray as xr

    for name in names:
        require_known("variable", name, sorted(set(CHANCE_OF) - LOGARITHMS))
    every = [data] if isinstance(data, xr.Dataset) else list(_groups(data).values())
    # Heads have the same labels as pairs: their level is stored with the pairs.
    levels = {str(name): of[name] for of in every for name in of.data_vars if name in set(CHANCE_OF.values())}

    def ratios(of: "xr.Dataset") -> dict[str, xr.DataArray]:
        found = {}
        for name in names or map(str, of.data_vars):
            level = levels.get(CHANCE_OF.get(name, ""))
            if name not in of.data_vars or level is None or name in LOGARITHMS:
                continue
            level = level.reset_coords(drop=True)
            if "attention" in of[name].dims and "pair" in level.dims:
                level = level.sel(pair=of["attention"].values).rename(pair="attention")
            if set(level.dims) - {"null"} <= set(of[name].dims):
                found[name] = _ratio(of[name], level)
        return found

    which = f"of {', '.join(names)} " if names else ""
    return _chosen(data, ratios, f"no levels by chance {which}in these results: the analysis null_levels measures them")


def grok_step(data: "xr.Dataset | xr.DataTree", threshold: float = 0.05) -> "xr.Dataset":
    """The step at which each run groks: its first checkpoint with a validation error below the threshold.

    `data` is a cube or its group `metrics`. Returns `grok_step` along `run`, NaN if a run never groks or this is
    unknown, and `grok_censored`: 1 if every checkpoint was measured and none is below, 0 if the run groks, NaN if an
    unmeasured checkpoint may have been the first. ValueError if no error was measured.
    """
    import xarray as xr

    from specdyn.tasks.spectra.facts import FACTS, grokking

    require(0 < threshold <= 1, "threshold", threshold, "an error above 0 and at most 1")
    if isinstance(data, xr.DataTree):
        node = data.children.get(METRICS_GROUP, data)
        metrics = node.to_dataset()
    else:
        metrics = data
    if "err" not in metrics or "run" not in metrics["err"].dims:
        raise ValueError("no validation error in these results: expected the variable err of the group metrics")
    error = metrics["err"].sel(split="val", drop=True).load()
    whole = error["status"].values == "done" if "status" in error.coords else np.zeros(error.sizes["run"], dtype=bool)
    found = []
    for i in range(error.sizes["run"]):
        of_run = error.isel(run=i)
        # A cube has the steps of all runs; a finished run lacks the steps of others.
        measured = of_run.dropna("step") if whole[i] else of_run
        found.append(grokking(measured if measured.size else of_run, threshold))
    along = {name: of for name, of in error.coords.items() if of.dims == ("run",)}
    facts = {
        name: ("run", [of[name] for of in found], {"long_name": FACTS[name].long_name, "threshold": threshold})
        for name in ("grok_step", "grok_censored")
    }
    return xr.Dataset(facts, along)


def _ratio(values: "xr.DataArray", level: "xr.DataArray") -> "xr.DataArray":
    ratio = (values / level.where(level != 0)).transpose(*values.dims, ...).assign_coords(values.coords)
    said = values.attrs.get("long_name", values.name)
    return ratio.assign_attrs(long_name=f"{said} / its level by chance", units="1")


def _alike(data: "xr.Dataset", over: str) -> tuple[list[list[int]], list[str]]:
    """Positions of the runs that agree in all settings but one, and the name of each group."""
    from specdyn.tasks.figures.configurations import configurations_of, settings_of

    runs = data[[name for name in data.coords if data[name].dims == ("run",)]]
    settings = settings_of(runs)
    require_known("over", over, sorted(settings))
    first = next((name for name in settings if name != over), None)
    if first is None:
        return [list(range(data.sizes["run"]))], ["all"]
    grid = configurations_of(runs, first, (over,))
    labels = [
        ",".join(f"{axis}={value}" for axis, value in zip(grid.axes, one.values, strict=True))
        for one in grid.configurations
    ]
    return [list(one.runs) for one in grid.configurations], labels


def _coordinates(data: "xr.Dataset", over: str, places: list[list[int]], labels: list[str]) -> dict[str, Any]:
    """Coordinates of means: those that the runs of each group share."""
    from specdyn.tasks.figures.configurations import settings_of

    settings = settings_of(data[[name for name in data.coords if data[name].dims == ("run",)]])
    first = [at[0] for at in places]
    found: dict[str, Any] = {"run": ("run", np.array(labels, np.dtypes.StringDType()), data["run"].attrs)}
    for name, of in data.coords.items():
        if "run" not in of.dims:
            found[str(name)] = of.variable
        elif of.dims == ("run",):
            if name in settings and name != over:
                found[str(name)] = of.variable.isel(run=first)
        elif all(_same(of.variable, at) for at in places):
            found[str(name)] = of.variable.isel(run=first)
    return found


def _same(variable: "xr.Variable", at: list[int]) -> bool:
    return all(variable.isel(run=i).equals(variable.isel(run=at[0])) for i in at[1:])


def _groups(tree: "xr.DataTree") -> dict[str, "xr.Dataset"]:
    """The groups by their paths within the tree, which may itself be a group."""
    return {f"/{path.removeprefix('.')}": node.to_dataset() for path, node in tree.subtree_with_keys}


def _tree(tree: "xr.DataTree", groups: Mapping[str, "xr.Dataset"]) -> "xr.DataTree":
    """A tree of these groups with the attributes of another one."""
    import xarray as xr

    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=tree.attrs), **groups})


def _chosen(data: Results, choose: "Callable[[xr.Dataset], Mapping[str, xr.DataArray]]", otherwise: str) -> Results:
    """The chosen variables of a group, or of every group of a cube; ValueError if there are none."""
    import xarray as xr

    if isinstance(data, xr.Dataset):
        if not (found := choose(data)):
            raise ValueError(otherwise)
        return xr.Dataset(found, attrs=data.attrs)
    groups = {path: xr.Dataset(of, attrs=at.attrs) for path, at in _groups(data).items() if (of := choose(at))}
    if not groups:
        raise ValueError(otherwise)
    return _tree(data, groups)


def group_of(data: "xr.Dataset") -> str:
    """The group of a cube to which a data set belongs, by its dimensions."""
    return next((group for dim, group in GROUPS.items() if dim in data.dims), METRICS_GROUP)
