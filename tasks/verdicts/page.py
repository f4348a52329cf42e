"""Formats verdicts as Markdown and as a self-contained HTML page."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from specdyn.tasks.verdicts.deciding import STATES
from specdyn.tasks.verdicts.judging import Verdict
from specdyn.tasks.verdicts.tables import HEADINGS, in_order, markdown, verdict_rows

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.3rem .6rem;text-align:left;"
    "vertical-align:top}.fail,.contested{font-weight:600}"
)


def counted(verdicts: Sequence[Verdict]) -> str:
    """The number of verdicts in each state, failures first."""
    states = Counter(one.state for one in verdicts)
    return ", ".join(f"{states[state]} {state}" for state in STATES if states[state])


def as_markdown(title: str, about: str, verdicts: Sequence[Verdict]) -> str:
    """A table of verdicts, failures first, then what each says and rests on."""
    lines = [f"# {title}", "", f"{about}. {counted(verdicts)}.", "", markdown(HEADINGS, verdict_rows(verdicts)), ""]
    lines += [f"* {text}" for one in in_order(verdicts) for text in [_whole(one)]]
    return "\n".join(lines) + "\n"


def as_html(title: str, about: str, verdicts: Sequence[Verdict]) -> str:
    """The same as an HTML page without network requests."""
    ordered = in_order(verdicts)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    rows = "".join(
        f'<tr class="{escape(one.state)}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for one, cells in zip(ordered, verdict_rows(ordered), strict=True)
    )
    said = "".join(f"<li>{escape(_whole(one))}</li>" for one in ordered)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(about)}. {escape(counted(verdicts))}.</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><ul>{said}</ul></html>"
    )


def _whole(verdict: Verdict) -> str:
    parts = [verdict.sentence]
    if verdict.exceptions:
        parts.append(f"Exceptions: {'; '.join(verdict.exceptions)}.")
    if verdict.lost:
        parts.append(f"Missing: {'; '.join(verdict.lost)}.")
    if verdict.runs:
        parts.append(f"Runs: {', '.join(verdict.runs)}.")
    return " ".join(parts)
