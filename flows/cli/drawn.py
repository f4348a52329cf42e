"""`specdyn plot`: writes a figure of a study to a file, by variable or by name of a figure."""

import os
from collections.abc import Mapping, Sequence

import xarray as xr
from matplotlib.figure import Figure

from specdyn.models.plugins.kinds import origin
from specdyn.models.spec.checks import require, require_known
from specdyn.storage.access.objects import normalise, require_writable, write
from specdyn.storage.probe import existing_store
from specdyn.storage.query import measured_runs, open_study, reading
from specdyn.tasks.figures.offered.registry import FIGURES, draw_one, figure_names, get_figure
from specdyn.tasks.figures.rows import require_measured
from specdyn.tasks.figures.style import to_png, to_svg
from specdyn.tasks.figures.sweep_axis import axis_of
from specdyn.tasks.figures.variable import drawable_variables, plot_variable


def draw(study: str, name: str, store: str, by: str, along: str, at: Sequence[str], log: str, file: str | None) -> str:
    """Write the figure of a variable, or the figure of that name; returns its path.

    ValueError or StoreError says what is unknown.
    """
    url = existing_store(store)
    written = normalise(file if file is not None else f"{study}-{name}.png")
    fits = written.endswith((".png", ".svg")) and not os.path.isdir(written)
    require(fits, "out", file, "the name of a .png or .svg file")
    labels = dict(one.partition("=")[::2] for one in at)
    require(all("=" in one for one in at), "at", list(at), "DIMENSION=LABEL")
    require_writable(written.rsplit("/", 1)[0])
    tree = measured_runs(open_study(url.url, study))
    with reading(study):
        require_measured(tree)
        if _is_variable(tree, name):
            figure = plot_variable(tree, name, by, along, labels, log)
        else:
            figure = _by_name(tree, name, by, {"along": along, "at": at, "log": log})
    write(written, (to_png if written.endswith(".png") else to_svg)(figure))
    return written


def _is_variable(tree: xr.DataTree, name: str) -> bool:
    """Whether the name is a variable: a study's variables come first; ValueError if a plug-in has the same name."""
    variables, figures = drawable_variables(tree), figure_names()
    if name in variables and name in figures and (place := origin(FIGURES, name)):
        raise ValueError(f"{name!r} is a variable of this study and the figure of {place}: rename the figure")
    if name not in variables and name not in figures:
        require_known("variable or figure", name, [*variables, *(one for one in figures if one not in variables)])
    return name in variables


def _by_name(tree: xr.DataTree, name: str, by: str, given: Mapping[str, object]) -> Figure:
    for option, value in given.items():
        require(not value, option, value, f"nothing: {name} is a figure, and this option is for variables")
    return draw_one(get_figure(name), tree, by or axis_of(tree))
