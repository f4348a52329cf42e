"""Finds figures by name, and draws those for which a cube has the data."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from specdyn.models.plugins import kinds
from specdyn.models.spec.checks import require
from specdyn.tasks.figures.offered.declared import ReportFigure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

log = logging.getLogger("specdyn.figures")


def _of_plugin(declared: object, name: str, digest: str) -> ReportFigure:
    """The figure that a plug-in declares; TypeError or ValueError says what is wrong with it."""
    figure = kinds.named(declared, name, ReportFigure)
    words = isinstance(figure.needs, tuple) and all(isinstance(one, str) for one in figure.needs)
    require(
        words and len(figure.needs) > 1, "needs", figure.needs, 'a group and its variables: ("layers", "stable_rank")'
    )
    if not callable(figure.draw):
        raise TypeError(f"draw={figure.draw!r} is not allowed: expected a function of a cube and a setting")
    return figure


def _of_the_package() -> Mapping[str, ReportFigure]:
    from specdyn.tasks.figures.report import FIGURES as OF_REPORTS

    return {figure.name: figure for figure in OF_REPORTS}


FIGURES = kinds.Kind(group="figures", noun="figure", package="", checked=_of_plugin, within=_of_the_package)


def figure_names() -> list[str]:
    """Names of all figures; the package's first, in the order of a report."""
    of_package = list(_of_the_package())
    return [*of_package, *(name for name in kinds.names(FIGURES) if name not in of_package)]


def get_figure(name: str) -> ReportFigure:
    """The figure of that name; ValueError lists the known ones."""
    return kinds.get(FIGURES, name)


def draw_one(figure: ReportFigure, tree: "xr.DataTree", axis: str) -> "Figure":
    """Draw the figure from a cube whose runs all have values; ValueError if the cube lacks its data."""
    from matplotlib.figure import Figure

    from specdyn.tasks.figures.style import styled

    group = figure.needs[0]
    if missing := figure.missing(tree):
        what = ", ".join(map(repr, missing))
        raise ValueError(
            f"no {what} in these results, which the figure {figure.name!r} shows: expected it in {group!r}"
        )
    drawn = styled(figure.draw)(tree, axis)
    if not isinstance(drawn, Figure):
        raise TypeError(f"figure {figure.name!r} returned {type(drawn).__name__}: expected a matplotlib Figure")
    return drawn


def draw_all(
    tree: "xr.DataTree", axis: str, names: tuple[str, ...] = (), told: Callable[[str], None] = lambda what: None
) -> Iterator[tuple[str, "Figure"]]:
    """Draw every figure (or those in `names`) for which the results have the data; calls `told` before each.

    A figure of a plug-in that raises is logged and left out; the others are still drawn.
    """
    usable = kinds.usable(FIGURES)
    chosen = [name for name in names or figure_names() if name in usable and not usable[name].missing(tree)]
    for i, name in enumerate(chosen, 1):
        told(f"drawing figure {i} of {len(chosen)}: {name}")
        try:
            figure = draw_one(usable[name], tree, axis)
        except Exception as error:
            if not (place := kinds.origin(FIGURES, name)):
                raise
            log.warning("skipping the figure %s of %s: %s: %s", name, place, type(error).__name__, error)
            continue
        yield name, figure
