"""The page of a report: plain HTML that needs no network, with links relative to itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
import xarray as xr

from specdyn.models.spec.run_spec import as_text
from specdyn.tasks.figures.configurations import runs_of, settings_of
from specdyn.tasks.figures.levels import axis_title
from specdyn.tasks.figures.summary import Summary, headings
from specdyn.tasks.spectra.facts import GROKKED_BELOW

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("specdyn.tasks.figures", "."),
    # Titles, settings and what data sets are called come from users and go into a page that others open.
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFigure:
    """A figure on the page."""

    file: str
    """Beside the page."""
    title: str
    caption: str


def page(
    tree: xr.DataTree, cube_url: str, figures: Sequence[PageFigure], skipped: Sequence[str], summary: Summary
) -> str:
    """The page: title, summary table, common hyper-parameters, figures with captions."""
    settings = {axis_title(name): list(map(as_text, values)) for name, values in settings_of(runs_of(tree)).items()}
    return TEMPLATES.get_template("page.html").render(
        title=str(tree.attrs.get("title") or tree.attrs.get("sweep") or "Sweep"),
        cube_url=cube_url,
        summary=summary,
        headings=headings(summary.rows),
        grokked_below=GROKKED_BELOW,
        varied=[name for name, texts in settings.items() if len(set(texts)) > 1],
        common={name: texts[0] for name, texts in settings.items() if len(set(texts)) == 1},
        figures=figures,
        skipped=skipped,
    )
