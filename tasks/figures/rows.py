"""Determines the rows of a cube (runs, pairs or tickets), and groups rows that differ only in their seeds."""

from collections.abc import Sequence

import matplotlib
import matplotlib.colors
import numpy as np
import xarray as xr

from specdyn.models.spec.run_spec import as_text
from specdyn.storage.rows import row_dim
from specdyn.tasks.figures.configurations import settings_of
from specdyn.tasks.figures.levels import axis_title, colors_of, levels_of
from specdyn.tasks.figures.sweep_axis import axis_of

SEEDS = {"pair": ("trunk_a", "trunk_b", "order_a", "order_b"), "ticket": ("trunk", "order")}
"""The seeds of rows that are no runs."""
HUES = ("Blues", "Oranges", "Greens", "Purples", "Reds", "Greys")
"""Of kinds of pairs or masks."""
IDS = {"pair": ("run_a", "run_b")}
"""What identifies such rows beside their seeds."""


def rows_dim(tree: xr.DataTree) -> str:
    """The dimension of the rows; ValueError if no group has any, for example after `isel(run=0)`."""
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


def is_measured(tree: xr.DataTree) -> bool:
    """Whether any row of a cube, from which those without values were taken, is left."""
    dim = rows_dim(tree)
    rows = along_rows(tree, dim)
    return rows is not None and rows.sizes[dim] > 0


def require_measured(*trees: xr.DataTree) -> None:
    """ValueError where no run, pair or ticket of one of these cubes has values yet."""
    for tree in trees:
        if not is_measured(tree):
            name = tree.attrs.get("sweep") or tree.attrs.get("title") or "this study"
            raise ValueError(f"no {rows_dim(tree)} of {name} has values yet: wait, or see `specdyn status`")


def varied_in(along: xr.Dataset, dim: str) -> list[str]:
    """The settings in which rows that are no runs differ, in the order in which names and figures have them.

    Words come first, as the kind of a pair or of a mask, then numbers. Neither seeds nor ids are among them.
    """
    settings = settings_of(along)
    apart = {*SEEDS.get(dim, ()), *IDS.get(dim, ()), "seed"}
    varied = [name for name in settings if name not in apart and len(set(map(as_text, settings[name]))) > 1]
    return sorted(varied, key=lambda name: not isinstance(settings[name][0], str))


def groups_of(tree: xr.DataTree, dim: str, along: xr.Dataset, axis: str = "") -> list[tuple[str, Sequence[int]]]:
    """Labels of configurations with their rows, which differ only in their seed; sorted by `axis`."""
    if dim == "run":
        levels = levels_of(tree, axis or axis_of(tree))
        names = [", ".join(f"{name} {value}" for name, value in level.values.items()) for level in levels]
        return [(name, level.runs) for name, level in zip(names, levels, strict=True)]
    settings, varied = settings_of(along), varied_in(along, dim)
    names, groups = named_rows(along, dim), dict[str, list[int]]()
    for i in sorted(range(len(names)), key=lambda i: [settings[name].index(settings[name][i]) for name in varied]):
        groups.setdefault(names[i], []).append(i)
    return list(groups.items())


def named_rows(along: xr.Dataset, dim: str, without: str = "") -> list[str]:
    """What each row that is no run is called by the settings that vary, but one; rows of one name differ in seeds.

    A word says by itself what it is: the kind of a pair, or of a mask. What all rows of one kind share is left out.
    """
    settings, varied = settings_of(along), [name for name in varied_in(along, dim) if name != without]
    kinds = list(map(as_text, settings[varied[0]])) if varied else []
    own: dict[str, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        alike = [k for k, other in enumerate(kinds) if other == kind]
        own[kind] = [one for one in varied if one == varied[0] or len({as_text(settings[one][k]) for k in alike}) > 1]
    names = []
    for i in range(along.sizes[dim]):
        said = [(one, settings[one][i]) for one in own[kinds[i]]] if kinds else []
        words = [
            value if isinstance(value, str) and dim != "run" else f"{axis_title(one)} {as_text(value)}"
            for one, value in said
        ]
        names.append(", ".join(words) or f"all {dim}s")
    return names


def shades_of(groups: Sequence[tuple[str, Sequence[int]]], along: xr.Dataset, dim: str) -> list[str]:
    """A colour for each of the groups in their order: of rows that are no runs, a hue by words, a shade by numbers."""
    settings = settings_of(along)
    words = [name for name in varied_in(along, dim) if dim != "run" and isinstance(settings[name][0], str)]
    said = [", ".join(settings[name][rows[0]] for name in words) for _, rows in groups]
    hues = list(dict.fromkeys(said))
    if not words or len(hues) > len(HUES):
        return colors_of(len(groups))
    colors = []
    for i, word in enumerate(said):
        alike = said.count(word)
        shade = np.linspace(0.45, 0.95, alike)[said[:i].count(word)] if alike > 1 else 0.75
        colors.append(matplotlib.colors.to_hex(matplotlib.colormaps[HUES[hues.index(word)]](shade)))
    return colors
