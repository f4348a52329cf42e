"""The choices that the explore app offers, and its figures and tables."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from specdyn.models.nets.layers import short_names
from specdyn.models.spec.checks import require_known
from specdyn.models.spec.run_spec import as_text
from specdyn.tasks.figures.configurations import settings_of
from specdyn.tasks.figures.heatmaps import COLORS, edges
from specdyn.tasks.figures.levels import axis_title
from specdyn.tasks.figures.rows import along_rows, rows_dim
from specdyn.tasks.figures.style import panels, step_axis, step_label, styled
from specdyn.tasks.figures.sweep_axis import of_all, spread
from specdyn.tasks.figures.variable import ALONG, LAST, PANELS, plot_variable

USUAL = ("layers", "effective_rank")
"""Group and variable shown first, if the results have them."""
MOST_MAPS, FIRST_RUNS = 4, 8
MOST_NAMES = 24
"""Most labels next to a heat map."""
MOST_BYTES = 512 * 2**20
"""Most bytes read for one choice."""
MARK = "#d55e00"
CHARACTER = 0.055
"""Height of a line in a panel's title, in inches."""


def offered(tree: xr.DataTree) -> dict[str, list[str]]:
    """The variables that can be shown, by group, the usual ones first; ValueError if no run has values."""
    dim = rows_dim(tree)
    found = {}
    for node in tree.subtree:
        group, data = node.path.strip("/"), node.to_dataset(inherit=False)
        names = [str(name) for name, of in data.data_vars.items() if dim in of.dims and of.dtype.kind in "fiub"]
        if names and group not in ("runs", "sources"):
            found[group] = sorted(names, key=lambda name: (name != USUAL[1], name))
            if not data.sizes[dim]:
                raise ValueError(f"no {dim} of this study has values yet: wait, or see `specdyn status`")
    return dict(sorted(found.items(), key=lambda one: one[0] != USUAL[0]))


def rows(tree: xr.DataTree) -> dict[str, int]:
    """Position of each run, pair or ticket by its unique label."""
    dim = rows_dim(tree)
    along = along_rows(tree, dim)
    assert along is not None
    settings = {name: [as_text(value) for value in values] for name, values in settings_of(along).items()}
    names = sorted((name for name in settings if len(set(settings[name])) > 1), key=lambda name: name.endswith("seed"))
    found = {}
    for i in range(along.sizes[dim]):
        label = str(along[dim].values[i])[:12] if dim in along.coords else f"{dim} {i}"
        said = ", ".join(f"{axis_title(name)} {settings[name][i]}" for name in names if settings[name][i] != label)
        found[f"{said} ({label})" if said else label] = i
    return found


def settings(tree: xr.DataTree) -> list[str]:
    """Settings by which lines can be coloured."""
    along = along_rows(tree, rows_dim(tree))
    assert along is not None
    return list(settings_of(along))


def labels(data: xr.DataArray) -> dict[str, dict[str, Any]]:
    """The labels of every dimension but the rows', by their text."""
    named = {str(dim): data[dim].values.tolist() for dim in data.dims[1:]}
    return {dim: {str(label): label for label in values} for dim, values in named.items()}


def first_label(dim: str, texts: Sequence[str]) -> str:
    """The default label, as in every figure of a variable."""
    return texts[-1 if dim in LAST else 0]


def axes(data: xr.DataArray) -> list[str]:
    """Dimensions along which curves can be drawn, the usual one first."""
    others = [str(dim) for dim in data.dims[1:]]
    return sorted(others, key=lambda dim: ALONG.index(dim) if dim in ALONG else len(ALONG))


def upwards(data: xr.DataArray) -> list[str]:
    """Possible vertical dimensions of a heat map; the rows if there is no other."""
    across = axes(data)[:1]
    found = [str(dim) for dim in data.dims[1:] if str(dim) not in across]
    return [*found, str(data.dims[0])]


def lazy(tree: xr.DataTree, group: str, name: str) -> xr.DataArray:
    """A variable with its rows first, not loaded; ValueError lists the known ones."""
    known = offered(tree)
    require_known("group", group, known)
    require_known("variable", name, known[group])
    return tree[group].to_dataset()[name].transpose(rows_dim(tree), ...)


def read(data: xr.DataArray, chosen: Sequence[int], at: Mapping[str, str], keep: Sequence[str]) -> xr.DataArray:
    """Load the chosen rows of a variable, at the labels in `at` for all dimensions not in `keep`.

    All dimensions remain, fixed ones with length 1. ValueError if that is too much to load.
    """
    part = data.isel({data.dims[0]: list(chosen)})
    for dim, texts in labels(data).items():
        if dim in keep or dim == "step":
            continue
        text = at.get(dim) or first_label(dim, list(texts))
        require_known(f"label of {dim}", text, texts)
        part = part.isel({dim: [list(texts).index(text)]})
    if part.nbytes > MOST_BYTES:
        raise ValueError(f"{part.nbytes / 1e9:.1f} GB of {data.name}: choose fewer runs or a single layer")
    return part.load()


def chosen_rows(tree: xr.DataTree, chosen: Sequence[int]) -> xr.DataTree:
    """The chosen runs in every group that has runs, not loaded."""
    dim = rows_dim(tree)
    data = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
    of = {path: one.isel({dim: list(chosen)}) if dim in one.dims else one for path, one in data.items()}
    return xr.DataTree.from_dict(of)


def curves(
    tree: xr.DataTree, group: str, values: xr.DataArray, along: str, at: Mapping[str, str], by: str = "", log: str = ""
) -> Figure:
    """Lines of loaded values along a dimension; marks the step of `at` if they are drawn against steps."""
    data = values.to_dataset(name=values.name)
    one = xr.DataTree.from_dict({"/": xr.Dataset(attrs=tree.attrs), f"/{group}": data})
    here = {dim: text for dim, text in at.items() if dim in values.dims and dim != along and text}
    figure = plot_variable(one, str(values.name), by, along, here, log)
    if along == "step" and "step" in at:
        for panel in figure.axes:
            panel.axvline(float(at["step"]), color=MARK, linewidth=0.8)
    return figure


@styled
def heat_map(
    tree: xr.DataTree, values: xr.DataArray, names: Sequence[str], upward: str, at: Mapping[str, str], log: bool = False
) -> Figure:
    """A panel for each row, at most four: one dimension vertically, steps horizontally, the step of `at` marked.

    Without steps, the first other dimension is horizontal. Colours may be logarithmic, for values above 0.
    """
    dim, across = str(values.dims[0]), next(iter(axes(values)), "")
    for other, known in labels(values).items():
        if other not in (across, upward):
            text = at.get(other) or first_label(other, list(known))
            values = values.isel({other: list(known).index(text)})
    if not across:
        values, across = values.expand_dims("value", -1), "value"
    single = upward == dim
    shown = [0] if single else spread(range(values.sizes[dim]), MOST_MAPS)
    figure, grid = panels(1, len(shown), 2.2 if len(shown) > 1 else 5.5, 1.6, sharex=True, sharey=True)
    width = int(figure.get_figwidth() / len(shown) / CHARACTER)
    drawn = [values if single else values.isel({dim: i}) for i in shown]
    meshes = [np.ma.masked_invalid(one.transpose(upward, across).values.astype(float)) for one in drawn]
    norm = _norm(meshes, log)
    places, texts = _places(values, across)
    for panel, mesh, i in zip(grid[0], meshes, shown, strict=True):
        panel.grid(visible=False)
        image = panel.pcolormesh(edges(places), np.arange(len(mesh) + 1) - 0.5, mesh, cmap=COLORS, norm=norm)
        panel.set_title("" if single else textwrap.fill(names[i], width), fontsize=6)
        if across == "step":
            step_axis(panel, 4)
            if "step" in at:
                panel.axvline(float(at["step"]), color=MARK, linewidth=1.0)
        elif texts:
            panel.set_xticks(places, texts, rotation=30)
        panel.set_xlabel(step_label(tree) if across == "step" else across)
    marks = list(names) if single else _names(values, upward)
    ticks = spread(range(len(marks)), MOST_NAMES)
    grid[0, 0].set_yticks(ticks, [marks[i] for i in ticks], fontsize=5.5)
    grid[0, 0].set_ylim(len(marks) - 0.5, -0.5)
    figure.colorbar(image, ax=grid, pad=0.01)
    left_out = "" if single else of_all(shown, range(values.sizes[dim]), dim)
    figure.suptitle(f"{values.attrs.get('long_name', values.name)}{left_out}")
    return figure


def first_choice(tree: xr.DataTree) -> tuple[xr.DataArray, Figure, Figure]:
    """The app's initial view: loaded values, heat map and curves."""
    group, (name, *_) = next(iter(offered(tree).items()))
    data, names = lazy(tree, group, name), list(rows(tree))[:FIRST_RUNS]
    along, upward = next(iter(axes(data)), ""), upwards(data)[0]
    here = {dim: first_label(dim, list(of)) for dim, of in labels(data).items()}
    values = read(data, range(len(names)), here, (along, upward))
    return values, heat_map(tree, values, names, upward, here), curves(tree, group, values, along, here)


def code(place: str, study: str, tree: xr.DataTree, group: str, values: xr.DataArray) -> str:
    """Three lines of Python that read the displayed values."""
    dim = str(values.dims[0])
    chosen: dict[str, Any] = {}
    for one in map(str, values.dims):
        whole = tree[group].sizes[one]
        if one in values.coords and values.sizes[one] < whole:
            found = values[one].values.tolist()
            chosen[one] = found if one == dim or len(found) > 1 else found[0]
    selected = f".sel({', '.join(f'{one}={label!r}' for one, label in chosen.items())})" if chosen else ""
    return (
        "import specdyn as sd\n"
        f"tree = sd.open({place!r}, {study!r})\n"
        f"values = tree[{group!r}].to_dataset()[{str(values.name)!r}]{selected}"
    )


def _norm(meshes: Sequence[np.ma.MaskedArray], log: bool) -> Normalize:
    """One scale for all panels."""
    known = np.concatenate([mesh.compressed() for mesh in meshes])
    if log and (known > 0).any():
        return LogNorm(known[known > 0].min(), known.max())
    return Normalize(known.min(), known.max()) if len(known) else Normalize(0, 1)


def _places(values: xr.DataArray, dim: str) -> tuple[np.ndarray, list[str]]:
    """The positions of a dimension's labels, and their names unless they are numbers."""
    if dim in values.coords and values[dim].dtype.kind in "fiu":
        return values[dim].values, []
    texts = [str(label) for label in values[dim].values]
    return np.arange(len(texts)), texts


def _names(values: xr.DataArray, dim: str) -> list[str]:
    found = [str(label) for label in values[dim].values]
    return [short_names(found)[one] for one in found] if dim in PANELS else found
