"""Merges several studies into one cube."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.models.spec.checks import require
from specdyn.storage.schema import PROVENANCE, RUNS_GROUP

if TYPE_CHECKING:
    import xarray as xr


def compare(*studies: "xr.DataTree", names: Sequence[str] = ()) -> "xr.DataTree":
    """The runs of several cubes in one, with the coordinate `study` along `run`.

    `studies` are results of `open` or `analyse`, `names` their labels, by default their own names. Layers, steps and
    other labels are the union over all, NaN where a study has none. A setting in which runs of different studies differ
    becomes a coordinate, so that figures and `groupby` can use it. A run shared by several studies appears once for
    each, as `study/run`. ValueError for fewer than two studies, a different number of names, cubes of lines or tickets,
    and series with different units, such as steps and epochs.
    """
    import xarray as xr

    from specdyn.tasks.library.accessor import register

    register()
    require(len(studies) > 1, "studies", len(studies), "two or more")
    called = list(names) or [str(tree.attrs.get("sweep") or tree.attrs.get("title", "")) for tree in studies]
    require(len(called) == len(studies), "names", called, f"one for each of the {len(studies)} studies")
    called = [f"{name} ({i + 1})" if called.count(name) > 1 else name for i, name in enumerate(called)]
    units = {str(tree.attrs.get("unit", "steps")) for tree in studies}
    require(len(units) == 1, "studies", sorted(units), "series whose steps count the same")
    for tree in studies:
        require(
            RUNS_GROUP in tree.children, "studies", tree.attrs.get("title"), "cubes of runs, not of lines or tickets"
        )
    apart = len({run for tree in studies for run in _runs(tree)}) == sum(len(_runs(tree)) for tree in studies)
    varied = _varied(studies)
    groups = dict.fromkeys(name for tree in studies for name in tree.children)
    together: dict[str, xr.Dataset] = {}
    for group in groups:
        parts = [
            _named(tree[group].to_dataset(), tree, name, varied, apart)
            for tree, name in zip(studies, called, strict=True)
            if group in tree.children
        ]
        parts = _apart(parts)
        texts = {name for part in parts for name, of in part.variables.items() if of.dtype.kind in "TOU"}
        fill: dict[Any, Any] = dict.fromkeys(texts, "")
        together[f"/{group}"] = xr.concat(parts, "run", fill_value=fill, **JOINED)
    attributes = {**studies[0].attrs, "title": " and ".join(called)}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), **together})


def _apart(parts: Sequence["xr.Dataset"]) -> list["xr.Dataset"]:
    """The groups of all studies; coordinates that differ, such as a layer's shape, get the dimension of the runs."""
    names = dict.fromkeys(name for part in parts for name in part.coords if "run" not in part[name].dims)
    differing = [name for name in names if not _agree([part[name] for part in parts if name in part.coords])]
    return [
        part.assign_coords({name: part[name].expand_dims(run=part["run"]) for name in differing if name in part.coords})
        for part in parts
    ]


def _agree(columns: Sequence["xr.DataArray"]) -> bool:
    """Whether every label has the same value in all."""
    known: dict[Any, Any] = {}
    for column in columns:
        if column.ndim != 1 or column.name in column.dims:
            continue
        for label, value in zip(column[column.dims[0]].values.tolist(), column.values.tolist(), strict=True):
            if str(known.setdefault(label, value)) != str(value):
                return False
    return True


def _runs(tree: "xr.DataTree") -> list[str]:
    return [str(run) for run in tree[RUNS_GROUP].to_dataset()["run"].values]


def _settings(tree: "xr.DataTree") -> Mapping[str, Any]:
    """The settings of the runs: one-dimensional along `run`, as coordinates or in the group of all settings."""
    from specdyn.storage.schema import LIVE

    table = tree[RUNS_GROUP].to_dataset()
    columns = {str(name): table[name] for name in table.variables if table[name].dims == ("run",)}
    left_out = {"run", *LIVE, "source", *_names(tree)}
    return {name: column for name, column in columns.items() if name not in left_out}


def _names(tree: "xr.DataTree") -> set[str]:
    """Coordinates of the runs that do not identify them, such as the name of a series with labels."""
    of_all = (coordinate for group in tree.children.values() for coordinate in group.to_dataset().coords.items())
    return {str(name) for name, of in of_all if of.attrs.get("role") == PROVENANCE and name != "status"}


JOINED: dict[str, Any] = {
    "data_vars": "all",
    "coords": "different",
    "compat": "equals",
    "join": "outer",
    "combine_attrs": "drop_conflicts",
}
STRING = np.dtypes.StringDType()


def _varied(studies: Sequence["xr.DataTree"]) -> dict[str, Any]:
    """Settings that differ among runs of all studies, or that some studies show; with their fill values.

    A missing setting counts as a different value.
    """
    of_each = [_settings(tree) for tree in studies]
    shown = [{name for group in tree.children.values() for name in group.to_dataset().coords} for tree in studies]
    names = dict.fromkeys(name for settings in of_each for name in settings)
    return {
        name: "" if any(of[name].dtype.kind in "TOU" for of in of_each if name in of) else np.nan
        for name in names
        if len({str(value) for of in of_each for value in (of[name].values.tolist() if name in of else [None])}) > 1
        or 0 < sum(name in of for of in shown) < len(shown)
    }


def _named(data: "xr.Dataset", tree: "xr.DataTree", study: str, varied: Mapping[str, Any], apart: bool) -> "xr.Dataset":
    """A group of a study with its name and all varied settings along its runs."""
    settings = _settings(tree)
    data = data.drop_vars(_names(tree), errors="ignore")  # runs of other studies have none
    known = {name: ("run", settings[name].values, settings[name].attrs) for name in varied if name in settings}
    missing = {
        name: ("run", np.full(data.sizes["run"], none, STRING if none == "" else float))
        for name, none in varied.items()
        if name not in settings and name not in data.variables
    }
    runs = np.array([str(run) if apart else f"{study}/{run}" for run in data["run"].values], STRING)
    data = data.drop_vars([name for name in varied if name in data.data_vars], errors="ignore")
    names = np.full(data.sizes["run"], study, STRING)
    return data.assign_coords({**known, **missing, "run": ("run", runs, data["run"].attrs), "study": ("run", names)})
