"""What a cube has a row for - runs, pairs or tickets - and which rows differ in their seeds alone."""

from collections.abc import Sequence

import xarray as xr

from specdyn.models.spec.run_spec import as_text
from specdyn.storage.rows import row_dim
from specdyn.tasks.figures.configurations import settings_of
from specdyn.tasks.figures.levels import axis_title, levels_of
from specdyn.tasks.figures.sweep_axis import axis_of


def rows_dim(tree: xr.DataTree) -> str:
    """The dimension of the rows; ValueError where no group has any, as after `isel(run=0)`."""
    groups = (node.to_dataset(inherit=False) for node in tree.subtree)
    found = next((dim for data in groups if data.data_vars and (dim := row_dim(data))), None)
    if found is None:
        raise ValueError("no runs, pairs or tickets in any group: expected a cube; choose one run by isel(run=[0])")
    return found


def along_rows(tree: xr.DataTree, dim: str) -> xr.Dataset | None:
    """The coordinates along a dimension, in the first group that has it."""
    for node in tree.subtree:
        data = node.to_dataset(inherit=False)
        if data.data_vars and row_dim(data) == dim:
            return data[[name for name in data.coords if data[name].dims == (dim,)]]
    return None


def groups_of(tree: xr.DataTree, dim: str, along: xr.Dataset, axis: str = "") -> list[tuple[str, Sequence[int]]]:
    """Configurations by what they are, with their rows, which differ in their seed alone; sorted by `axis`."""
    if dim == "run":
        levels = levels_of(tree, axis or axis_of(tree))
        names = [", ".join(f"{name} {value}" for name, value in level.values.items()) for level in levels]
        return [(name, level.runs) for name, level in zip(names, levels, strict=True)]
    settings = {name: values for name, values in settings_of(along).items() if not name.endswith("seed")}
    varied = [name for name, values in settings.items() if len(set(map(str, values))) > 1]
    groups: dict[str, list[int]] = {}
    for i in range(along.sizes[dim]):
        name = ", ".join(f"{axis_title(one)} {as_text(settings[one][i])}" for one in varied)
        groups.setdefault(name or f"all {dim}s", []).append(i)
    return list(groups.items())
