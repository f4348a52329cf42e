"""Writes the report of a study: its page, and on request every figure for which the results have the data."""

import functools
from collections.abc import Callable, Iterator

import xarray as xr
from matplotlib.figure import Figure

from specdyn.storage.access import objects
from specdyn.storage.query import measured_runs, open_results
from specdyn.tasks.figures import connectivity, heatmaps, performance, ranks, spectra, tickets
from specdyn.tasks.figures.live.beside import NOTHING, Beside
from specdyn.tasks.figures.live.page import page
from specdyn.tasks.figures.offered.declared import ReportFigure
from specdyn.tasks.figures.offered.registry import draw_all
from specdyn.tasks.figures.paper import lines, masks, sizes
from specdyn.tasks.figures.rows import is_measured, rows_dim
from specdyn.tasks.figures.style import to_png, to_svg
from specdyn.tasks.figures.summary import SUMMARY, summary_of, write_summary
from specdyn.tasks.figures.sweep_axis import axis_of

PAGES = {"run": "index.html", "pair": "connectivity.html", "ticket": "tickets.html"}
"""File names of pages, by the rows of the results."""


def _of_runs(
    name: str, title: str, draw: Callable[[xr.DataTree, str], Figure], group: str, *variables: str
) -> ReportFigure:
    return ReportFigure(name=name, title=title, needs=(group, *variables), draw=draw)


def _of_lines(name: str, title: str, draw: Callable[[xr.DataTree, str], Figure], along: str) -> ReportFigure:
    needs = ("/", "agreement_score", "agreement")
    return ReportFigure(name=name, title=title, needs=needs, draw=draw, rows="pair", along=along)


def _of_tickets(name: str, title: str, draw: Callable[[xr.DataTree, str], Figure], variable: str) -> ReportFigure:
    return ReportFigure(name=name, title=title, needs=("/", variable), draw=draw, rows="ticket")


def _rank(name: str, title: str) -> ReportFigure:
    draw = functools.partial(ranks.effective_ranks, name=name)
    return _of_runs(name, f"{title} of each layer against step", draw, "layers", name)


def _pruned(metric: str) -> ReportFigure:
    draw, name = functools.partial(performance.pruned_metrics, metric=metric), f"pruned_{metric}"
    return _of_runs(name, f"{metric} with half of the singular values against step", draw, "metrics", name)


BY_SIZE, SPECTRA = ("layers", "effective_rank", "singular_value"), ("layers", "singular_value")
FIGURES = (
    _of_runs("performance", "loss and error against step", performance.performance, "metrics", "loss"),
    _of_runs("error", "training and validation error against step", performance.errors, "metrics", "err"),
    *(_rank(name, title) for name, (_, title) in ranks.TITLES.items()),
    _of_runs("effective_rank_by_size", "means over layers of one size", sizes.effective_ranks_by_size, *BY_SIZE),
    _of_runs("effective_rank_map", "by layer and step", heatmaps.effective_rank_map, "layers", "effective_rank"),
    _of_runs("gini_map", "Gini coefficient by layer and step", heatmaps.gini_map, "layers", "gini"),
    _of_runs("singular_values", "every one of each layer against step", spectra.singular_values, *SPECTRA),
    _of_runs("singular_values_by_size", "means over layers of one size", sizes.singular_values_by_size, *SPECTRA),
    _of_runs("agreement", "with the final checkpoint, by rank and step", heatmaps.agreement, "layers", "agreement"),
    _of_runs("agreement_score", "by layer and step", heatmaps.agreement_scores, "layers", "agreement_score"),
    _of_runs("alignment", "between layers, by rank and step", heatmaps.alignment, "pairs", "alignment"),
    _of_runs("alignment_score", "by pair of layers and step", heatmaps.alignment_scores, "pairs", "alignment_score"),
    *map(_pruned, ("loss", "err", "cer", "wer")),
    _of_lines("connectivity", "barriers and agreement by split step", connectivity.by_split, "split_step"),
    _of_lines("barriers", "of whole and pruned networks by split step", lines.barriers_by_split, "split_step"),
    _of_lines("ends_agreement", "by rank and split step", lines.ends_by_split, "split_step"),
    _of_lines("ends_agreement_score", "by layer and split step", lines.end_scores_by_split, "split_step"),
    _of_lines("perturbation", "barriers and agreement by size of noise", connectivity.by_size, "size"),
    _of_lines("perturbation_barriers", "of whole and pruned networks by size", lines.barriers_by_size, "size"),
    _of_lines("perturbation_agreement", "of the ends, by rank and size", lines.ends_by_size, "size"),
    _of_lines("perturbation_agreement_score", "of the ends, by layer and size", lines.end_scores_by_size, "size"),
    _of_tickets("tickets", "losses and agreement by density", tickets.by_density, "agreement_dense_score"),
    _of_tickets("tickets_agreement", "with the dense run, by rank and step", masks.dense_agreement, "agreement_dense"),
    _of_tickets(
        "tickets_agreement_score",
        "with the dense run, by layer and step",
        masks.dense_agreement_scores,
        "agreement_dense_score",
    ),
    _of_tickets("mask_agreement", "of dense with masked, by layer and rank", masks.mask_agreement, "agreement_mask"),
    _of_tickets(
        "mask_agreement_score", "of dense with masked, by layer", masks.mask_agreement_scores, "agreement_mask_score"
    ),
)
"""The figures of the paper (METHOD 6); a study gets those for which it has the data."""
FIRST = ("performance", "effective_rank", "connectivity", "perturbation", "tickets")
"""The most informative figures, shown in Prefect's UI."""


def write_report(
    cube_url: str,
    folder_url: str,
    figures: bool = False,
    told: Callable[[str], None] = lambda what: None,
    beside: Beside = NOTHING,
) -> list[str]:
    """Write the page of a study's results, `summary.json` of runs, and with `figures` each figure as PNG and SVG.

    Returns the URLs, the page first. The page is self-contained. A figure whose data the results lack is skipped.
    `told` is called with each next step; `beside` is further information from the store.
    """
    told("reading the results")
    whole = open_results(cube_url)
    tree = measured_runs(whole)
    rows = rows_dim(tree)
    summary = summary_of(tree) if rows == "run" else None
    written = [f"{folder_url}/{PAGES[rows]}"]
    told("writing the page")
    objects.write(written[0], page(tree, cube_url, summary, whole, beside).encode())
    if summary:
        write_summary(f"{folder_url}/{SUMMARY}", summary)
    if figures:
        for name, figure in drawn(tree, told=told):
            for ending, encoded in ((".png", to_png), (".svg", to_svg)):
                written.append(f"{folder_url}/{name}{ending}")
                objects.write(written[-1], encoded(figure))
    return written


def drawn(
    tree: xr.DataTree, names: tuple[str, ...] = (), told: Callable[[str], None] = lambda what: None
) -> Iterator[tuple[str, Figure]]:
    """Name and figure of all that results have the data for, or of those named; none where nothing is measured yet."""
    if not is_measured(tree):
        return
    axis = axis_of(tree) if rows_dim(tree) == "run" else ""
    note = f"Trained on {data}." if (data := tree.attrs.get("data")) else ""
    for name, figure in draw_all(tree, axis, names, told):
        yield name, _noted(figure, note)


def first_figures(cube_url: str) -> dict[str, bytes]:
    """The most informative figures as PNG, by name."""
    return {name: to_png(figure) for name, figure in drawn(measured_runs(open_results(cube_url)), FIRST)}


def _noted(figure: Figure, note: str) -> Figure:
    """Add a line below the figure that says on which data the runs were trained."""
    if note and figure.legends:
        figure.legends[0].set_title(note)
    elif note:
        figure.supxlabel("\n".join(filter(None, (figure.get_supxlabel(), note))), fontsize=6.5)
    return figure
