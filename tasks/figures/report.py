"""The report of a sweep: every figure that the cube has the data for, and a page that explains them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xarray as xr
from matplotlib.figure import Figure

from specdyn.storage.access import objects
from specdyn.storage.query import open_measured
from specdyn.tasks.figures.heatmaps import agreement, agreement_scores, alignment, alignment_scores
from specdyn.tasks.figures.levels import Level, axes_title, levels_of, seeds_text
from specdyn.tasks.figures.page import PageFigure, page
from specdyn.tasks.figures.performance import performance, pruned_losses
from specdyn.tasks.figures.ranks import effective_ranks
from specdyn.tasks.figures.spectra import singular_values
from specdyn.tasks.figures.style import to_png
from specdyn.tasks.figures.summary import SUMMARY, summary_of, write_summary
from specdyn.tasks.figures.sweep_axis import axis_of, has

BAND = (
    "Lines are means over the seeds of one configuration ({n}), bands one standard deviation (ddof 0) either side, cut "
    "at the smallest and the largest seed so that a band never leaves the values that were measured. A step that a run "
    "lacks is averaged over the others."
)
LOG_BAND = f"{BAND} On a logarithmic axis both are taken of the logarithm."
MEAN = "Each cell is the mean over the seeds of one configuration ({n})."
ONE = "There is one seed of each configuration (n = 1): nothing is averaged."
FIRST = "One run a column (n = 1): the lowest seed of each {axes}."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFigure:
    """One figure of the report and what it takes."""

    name: str
    title: str
    needs: tuple[str, str]
    """Group and variable; without them the figure is skipped."""
    draw: Callable[[xr.DataTree, str], Figure]
    caption: str
    """What one sees and how it is defined."""
    seeds: str
    """What stands behind lines or cells."""


FIGURES = (
    ReportFigure(
        name="performance",
        title="Loss and error",
        needs=("metrics", "loss"),
        draw=performance,
        caption="Metrics of the network as it was saved, on the training (dashed) and the validation set (solid). A "
        "run that fits the training set early and the validation set late groks.",
        seeds=LOG_BAND,
    ),
    ReportFigure(
        name="effective_rank",
        title="Effective rank by layer",
        needs=("layers", "effective_rank"),
        draw=effective_ranks,
        caption="exp(−Σ p log p) / R with p = s / Σ s over the R singular values of a layer: 1 where all are equal, "
        "1 / R where one is left. At step 0 it depends on the shape alone (0.80 for a square random matrix, 0.95 at "
        "3 : 1), so differences between layers there are geometry. Ticks on the lower edge are the steps at which a "
        "run's validation error first falls below 0.05. A collapsed layer (largest singular value below 1e-6, a red "
        "cross) reads about 1.",
        seeds=BAND,
    ),
    ReportFigure(
        name="singular_values",
        title="Singular values over time",
        needs=("layers", "singular_value"),
        draw=singular_values,
        caption="Every singular value of a layer is a line, dark for the small and light for the large ones; a row has "
        "one logarithmic axis, which shows at most six decades.",
        seeds=FIRST,
    ),
    ReportFigure(
        name="agreement",
        title="Agreement with the final checkpoint",
        needs=("layers", "agreement"),
        draw=agreement,
        caption="|⟨u_i, u′_i⟩ ⟨v_i, v′_i⟩| of the i-th singular vectors with those of the final checkpoint, for the "
        "first 100 ranks: 1 once a direction has settled, and at the last step by definition. Two directions that "
        "swap ranks read 0. Chance is (2 / π) / √(M N) for an M × N layer.",
        seeds=MEAN,
    ),
    ReportFigure(
        name="agreement_score",
        title="Agreement score",
        needs=("layers", "agreement_score"),
        draw=agreement_scores,
        caption="The mean of the first ten ranks of the figure above, layers from the input (top) to the output; in "
        "brackets the chance level, (2 / π) / √(M N).",
        seeds=MEAN,
    ),
    ReportFigure(
        name="alignment",
        title="Alignment between layers",
        needs=("pairs", "alignment"),
        draw=alignment,
        caption="|⟨v_i of the layer that reads, u_i of the layer that writes⟩|; of queries and keys the mean over "
        "heads. Chance is √(2 / (π d)) for a shared width d, so compare a value with the level printed above its "
        "column and not with 0.",
        seeds=MEAN,
    ),
    ReportFigure(
        name="alignment_score",
        title="Alignment score",
        needs=("pairs", "alignment_score"),
        draw=alignment_scores,
        caption="The mean of the first ten ranks of the figure above; in brackets the chance level, √(2 / (π d)).",
        seeds=MEAN,
    ),
    ReportFigure(
        name="pruned_loss",
        title="Loss with half of the singular values",
        needs=("metrics", "pruned_loss"),
        draw=pruned_losses,
        caption="The first half of the singular values of every layer but the last is kept, or the second half, "
        "without retraining. Part of the gap needs no learning: the top half of an untrained square matrix already "
        "holds 89 % of its energy.",
        seeds=LOG_BAND,
    ),
)


def write_report(cube_url: str, folder_url: str) -> list[str]:
    """Write the figures of a sweep cube, `summary.json` and `index.html`; returns the URLs of page and figures.

    A figure whose data the cube lacks is skipped, and the page says so.
    """
    tree = open_measured(cube_url)
    axis = axis_of(tree)
    levels = levels_of(tree, axis)
    note = f"Trained on {data}." if (data := tree.attrs.get("data")) else ""
    shown, skipped, urls = [], [], []
    for figure in FIGURES:
        if not has(tree, *figure.needs):
            skipped.append(figure.title)
            continue
        file = f"{figure.name}.png"
        objects.write(f"{folder_url}/{file}", to_png(_noted(figure.draw(tree, axis), note)))
        urls.append(f"{folder_url}/{file}")
        caption = " ".join(part for part in (figure.caption, _seeds(figure, levels), note) if part)
        shown.append(PageFigure(file=file, title=figure.title, caption=caption))
    index, summary = f"{folder_url}/index.html", summary_of(tree)
    objects.write(index, page(tree, cube_url, shown, skipped, summary).encode())
    write_summary(f"{folder_url}/{SUMMARY}", summary)
    return [index, *urls]


def _noted(figure: Figure, note: str) -> Figure:
    """The figure with a line below it that says what the runs were trained on."""
    if note and figure.legends:
        figure.legends[0].set_title(note)
    elif note:
        figure.supxlabel(note, fontsize=10.5)
    return figure


def _seeds(figure: ReportFigure, levels: Sequence[Level]) -> str:
    """The sentence on how many runs stand behind what is drawn."""
    text = ONE if figure.seeds != FIRST and all(len(level.runs) == 1 for level in levels) else figure.seeds
    axes = ("combination of " if len(levels[0].values) > 1 else "") + axes_title(levels)
    return text.format(n=f"{seeds_text(levels)} at each {axes}", axes=axes)
