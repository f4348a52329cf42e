"""The report of a sweep: every figure that the cube has the data for, and a page that explains them."""

from matplotlib.figure import Figure

from specdyn.storage.access import objects
from specdyn.storage.query import measured_runs, open_results
from specdyn.tasks.figures.heatmaps import agreement, agreement_scores, alignment, alignment_scores
from specdyn.tasks.figures.live.page import page
from specdyn.tasks.figures.offered.declared import ReportFigure
from specdyn.tasks.figures.offered.registry import draw_all
from specdyn.tasks.figures.performance import performance, pruned_losses
from specdyn.tasks.figures.ranks import effective_ranks
from specdyn.tasks.figures.spectra import singular_values
from specdyn.tasks.figures.style import to_png
from specdyn.tasks.figures.summary import SUMMARY, summary_of, write_summary
from specdyn.tasks.figures.sweep_axis import axis_of

FIGURES = (
    ReportFigure(
        name="performance",
        title="loss and error against step",
        needs=("metrics", "loss"),
        draw=performance,
    ),
    ReportFigure(
        name="effective_rank",
        title="effective rank of each layer against step",
        needs=("layers", "effective_rank"),
        draw=effective_ranks,
    ),
    ReportFigure(
        name="singular_values",
        title="every singular value of each layer against step",
        needs=("layers", "singular_value"),
        draw=singular_values,
    ),
    ReportFigure(
        name="agreement",
        title="agreement with the final checkpoint by rank and step",
        needs=("layers", "agreement"),
        draw=agreement,
    ),
    ReportFigure(
        name="agreement_score",
        title="agreement score by layer and step",
        needs=("layers", "agreement_score"),
        draw=agreement_scores,
    ),
    ReportFigure(
        name="alignment",
        title="alignment between layers by rank and step",
        needs=("pairs", "alignment"),
        draw=alignment,
    ),
    ReportFigure(
        name="alignment_score",
        title="alignment score by pair of layers and step",
        needs=("pairs", "alignment_score"),
        draw=alignment_scores,
    ),
    ReportFigure(
        name="pruned_loss",
        title="loss with half of the singular values against step",
        needs=("metrics", "pruned_loss"),
        draw=pruned_losses,
    ),
)


def write_report(cube_url: str, folder_url: str) -> list[str]:
    """Write the page of a cube as `index.html`, its figures as PNG, and `summary.json`; returns the URLs.

    The page stands by itself. A figure whose data the cube lacks is skipped, as is one of a plug-in that raises.
    """
    whole = open_results(cube_url)
    tree = measured_runs(whole)
    index, summary = f"{folder_url}/index.html", summary_of(tree)
    objects.write(index, page(tree, cube_url, summary, whole).encode())
    write_summary(f"{folder_url}/{SUMMARY}", summary)
    note = f"Trained on {data}." if (data := tree.attrs.get("data")) else ""
    urls = []
    for name, figure in draw_all(tree, axis_of(tree)):
        urls.append(f"{folder_url}/{name}.png")
        objects.write(urls[-1], to_png(_noted(figure, note)))
    return [index, *urls]


def _noted(figure: Figure, note: str) -> Figure:
    """The figure with a line below it that says what the runs were trained on."""
    if note and figure.legends:
        figure.legends[0].set_title(note)
    elif note:
        figure.supxlabel(note, fontsize=10.5)
    return figure
