"""The page of a report: plain HTML that needs no network, with links relative to itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import xarray as xr

from specdyn.models.spec.run_spec import as_text
from specdyn.tasks.figures.configurations import runs_of, settings_of
from specdyn.tasks.figures.levels import axis_title
from specdyn.tasks.figures.summary import Row, Summary, headings

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2.5em auto; padding: 0 1.5em; }
h1 { font-size: 1.7em; margin-bottom: .1em; } h2 { font-size: 1.2em; margin: 2.2em 0 .5em; }
p, figcaption { max-width: 52em; } figure { margin: 0; } figure img { width: 100%; height: auto; }
figcaption, .quiet { color: #555; font-size: .95em; }
table { border-collapse: collapse; font-size: .93em; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25em .9em; border-bottom: 1px solid #e6e6e6; }
th { font-weight: 600; border-bottom-color: #999; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
.wide { overflow-x: auto; } dl { columns: 3 17em; font-size: .93em; margin: 0; }
dl div { display: flex; justify-content: space-between; gap: 1em; border-bottom: 1px solid #eee; break-inside: avoid; }
dt { color: #555; } dd { margin: 0; font-variant-numeric: tabular-nums; }
code { background: #f4f4f4; padding: .1em .3em; }
"""


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
    common, varied = hyperparameters(runs_of(tree))
    title = str(tree.attrs.get("title") or tree.attrs.get("sweep") or "Sweep")
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{len(summary.rows)} runs that differ in {escape(", ".join(varied) or "nothing")}. '
        f"Data: <code>{escape(cube_url)}</code>, opened by <code>specdyn.storage.query.open_results</code>.</p>",
        _summary(summary.rows, summary.computed_on),
        _common(common),
        *(_figure(number, shown) for number, shown in enumerate(figures, start=1)),
    ]
    if skipped:
        body.append(f'<p class="quiet">Not shown, as the sweep has no data for them: {escape(", ".join(skipped))}.</p>')
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    content = "\n".join(body)
    head = f"<head>{head}<style>{STYLE}</style></head>"
    return f'<!doctype html>\n<html lang="en">\n{head}\n<body>\n{content}\n</body>\n</html>\n'


def hyperparameters(runs: xr.Dataset) -> tuple[dict[str, str], list[str]]:
    """Hyper-parameters that all runs share with their value, and the names of those that differ."""
    texts = {axis_title(name): list(dict.fromkeys(map(as_text, values))) for name, values in settings_of(runs).items()}
    common = {name: values[0] for name, values in texts.items() if len(values) == 1}
    return common, [name for name in texts if name not in common]


def _summary(rows: Sequence[Row], computed: str) -> str:
    """The summary table, and what it was computed on."""
    lines = ["".join(f"<th>{escape(heading)}</th>" for heading in headings(rows))]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row.cells) for row in rows]
    table = "\n".join(f"<tr>{line}</tr>" for line in lines)
    note = (
        "Metrics are those at the last checkpoint; a run has grokked at the first step with a validation "
        "error below 0.05. Ranks are effective ranks as fractions of the full rank, averaged over layers; a collapsed "
        "layer counts as about 1 there."
    )
    note += f" Computed on {escape(computed)}." if computed else ""
    return f'<h2>Runs</h2>\n<div class="wide"><table>\n{table}\n</table></div>\n<p class="quiet">{note}</p>'


def _common(common: dict[str, str]) -> str:
    pairs = "\n".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in sorted(common.items()))
    return f"<h2>Common to all runs</h2>\n<dl>\n{pairs}\n</dl>"


def _figure(number: int, shown: PageFigure) -> str:
    return (
        f"<h2>{number}. {escape(shown.title)}</h2>\n<figure>"
        f'<a href="{escape(shown.file)}"><img src="{escape(shown.file)}" alt="{escape(shown.title)}"></a>'
        f"<figcaption>{escape(shown.caption)}</figcaption></figure>"
    )
