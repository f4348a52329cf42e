"""The report of a sweep: every figure that the cube has the data for, and a page that explains them."""

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr
from matplotlib.figure import Figure

from specdyn.storage.access import objects
from specdyn.storage.query import measured_runs, open_results
from specdyn.tasks.figures.heatmaps import agreement, agreement_scores, alignment, alignment_scores
from specdyn.tasks.figures.live.page import page
from specdyn.tasks.figures.performance import performance, pruned_losses
from specdyn.tasks.figures.ranks import effective_ranks
from specdyn.tasks.figures.spectra import singular_values
from specdyn.tasks.figures.style import to_png
from specdyn.tasks.figures.summary import SUMMARY, summary_of, write_summary
from specdyn.tasks.figures.sweep_axis import axis_of, has


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFigure:
    """One figure of the report and what it takes."""

    name: str
    needs: tuple[str, str]
    """Group and variable; without them the figure is skipped."""
    draw: Callable[[xr.DataTree, str], Figure]


FIGURES = (
    ReportFigure(
        name="performance",
        needs=("metrics", "loss"),
        draw=performance,
    ),
    ReportFigure(
        name="effective_rank",
        needs=("layers", "effective_rank"),
        draw=effective_ranks,
    ),
    ReportFigure(
        name="singular_values",
        needs=("layers", "singular_value"),
        draw=singular_values,
    ),
    ReportFigure(
        name="agreement",
        needs=("layers", "agreement"),
        draw=agreement,
    ),
    ReportFigure(
        name="agreement_score",
        needs=("layers", "agreement_score"),
        draw=agreement_scores,
    ),
    ReportFigure(
        name="alignment",
        needs=("pairs", "alignment"),
        draw=alignment,
    ),
    ReportFigure(
        name="alignment_score",
        needs=("pairs", "alignment_score"),
        draw=alignment_scores,
    ),
    ReportFigure(
        name="pruned_loss",
        needs=("metrics", "pruned_loss"),
        draw=pruned_losses,
    ),
)


def write_report(cube_url: str, folder_url: str) -> list[str]:
    """Write the page of a cube as `index.html`, its figures as PNG, and `summary.json`; returns the URLs.

    The page stands by itself. A figure whose data the cube lacks is skipped.
    """
    whole = open_results(cube_url)
    tree = measured_runs(whole)
    index, summary = f"{folder_url}/index.html", summary_of(tree)
    objects.write(index, page(tree, cube_url, summary, whole).encode())
    write_summary(f"{folder_url}/{SUMMARY}", summary)
    axis = axis_of(tree)
    note = f"Trained on {data}." if (data := tree.attrs.get("data")) else ""
    urls = []
    for figure in FIGURES:
        if has(tree, *figure.needs):
            urls.append(f"{folder_url}/{figure.name}.png")
            drawn = _noted(figure.draw(tree, axis), note)
            objects.write(urls[-1], to_png(drawn))
    return [index, *urls]


def _noted(figure: Figure, note: str) -> Figure:
    """The figure with a line below it that says what the runs were trained on."""
    if note and figure.legends:
        figure.legends[0].set_title(note)
    elif note:
        figure.supxlabel(note, fontsize=10.5)
    return figure
