"""Formats plans as text, for the terminal and for Prefect."""

import math
from collections.abc import Sequence

from humanize import precisedelta

from specdyn.models.wording import plural, size
from specdyn.tasks.plan.plan import Item, Plan

ESTIMATED = "time on one worker"
"""The first heading of estimates."""
STAGES = ("stage", "there", "left", "failed", ESTIMATED, "checkpoints to write")
RUNS = ("run", "state", "done", "what will happen")
ONE = {"analyses": "analysis", "branches": "branch"}
"""Irregular singulars of kinds."""
SHOWN = 60
"""The most runs listed individually."""


def stage_rows(plan: Plan) -> list[tuple[str, ...]]:
    """What is done and what is left of each kind, under STAGES."""
    rows: list[tuple[str, ...]] = []
    for kind in plan.kinds:
        items = plan.of(kind)
        done, failed = (sum(item.state == state for item in items) for state in ("done", "failed"))
        cost = plan.estimates.get(kind)
        rows.append(
            (
                kind,
                str(done),
                str(len(items) - done),
                str(failed) if failed else "-",
                duration(cost.seconds) if cost else "-",
                size(cost.bytes) if cost and cost.bytes else "-",
            )
        )
    return rows


def run_rows(plan: Plan, worked: bool = False) -> list[tuple[str, ...]]:
    """Every run with its state, under RUNS; of very many, started and failed ones first.

    `worked` says whether a process works on the study: started runs are then under way.
    """
    of_run: dict[str, list[Item]] = {item.label: [] for item in plan.items if item.run or item.kind == "analyses"}
    for item in plan.items:
        if item.label in of_run:
            of_run[item.label].append(item)
    runs = list(of_run.items())
    if len(runs) > SHOWN:
        runs.sort(key=lambda run: all(item.state in ("new", "done") for item in run[1]))
    rows = [_row(label, items, plan, worked) for label, items in runs[:SHOWN]]
    more = len(runs) - len(rows)
    return [*rows, (f"and {more} more", "", "", "")] if more else rows


def _row(label: str, items: Sequence[Item], plan: Plan, worked: bool) -> tuple[str, ...]:
    first = next((item for item in items if item.state != "done"), items[0])
    trained = first is not items[0]
    begun = "under way" if worked else "begun"
    waiting = "waiting" if worked and first.state == "new" else first.state
    state = "trained" if trained else begun if first.state == "partial" else waiting
    done = ", ".join(f"{item.kind} {item.there}/{item.parts}" for item in items)
    return label, state, done, _what_next(first, [item.kind for item in items if item.unit], plan)


def _what_next(first: Item, kinds: Sequence[str], plan: Plan) -> str:
    """What a call will do for a run whose item `first` is not done, and for which these kinds are left."""
    if why := plan.left_out.get(first.key):
        return f"nothing, as {why}"
    reason = f" ({first.reason[:80]})" if first.reason else ""
    if first.stays_failed:
        return f"nothing unless --retry-failed is given{reason}"
    if first.state in ("failed", "damaged"):
        return f"train again{reason}"
    return ", ".join(dict.fromkeys(kinds)) or "nothing"


def plan_summary(plan: Plan, worked: bool = False) -> str:
    """The plan in a sentence or two; what is left is to do, or under way if a process works on it."""
    left = {kind: sum(item.state != "done" for item in plan.of(kind)) for kind in plan.kinds}
    if any(left.values()):
        parts = [f"{count} of {len(plan.of(kind))} {kind}" for kind, count in left.items() if count]
        text = f"{plan.study.name}: {', '.join(parts)} {'under way' if worked else 'to do'}."
    else:
        whole = [plural(len(plan.of(kind)), ONE.get(kind, kind.removesuffix("s")), kind) for kind in left]
        text = f"{plan.study.name}: {', '.join(whole)}, all done; nothing to do."
    if plan.estimates:
        text += f" About {in_words(plan.seconds)} on one worker, {size(plan.bytes)} of checkpoints to write."
    if plan.failed:
        text += f" {plural(len(plan.failed), 'run')} failed before and --retry-failed was not given"
        text += f"; what depends on it is left out ({plural(len(plan.left_out), 'unit')})." if plan.left_out else "."
    return text


def plan_markdown(plan: Plan, gpus: float | None = None) -> str:
    """The plan as Markdown tables with its summary and its cost, for that many GPUs per unit."""
    lines = [plan_summary(plan), "", plan_cost(plan, gpus), ""]
    for headings, rows in ((STAGES, stage_rows(plan)), (RUNS, run_rows(plan))):
        if rows:
            lines += [_line(headings), "|---" * len(headings) + "|", *map(_line, rows), ""]
    return "\n".join(lines)


def plan_cost(plan: Plan, gpus: float | None) -> str:
    """Remaining time and bytes, and GPU-hours if units use GPUs."""
    kind = f"{in_words(plan.seconds)} of one worker"
    kind += f" ({plan.seconds / 3600 * gpus:.3g} GPU-hours at {gpus:g} GPUs per unit)" if gpus else ""
    return f"**Cost:** {plural(len(plan.todo), 'unit')} to run; about {kind}; {size(plan.bytes)} of checkpoints."


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def duration(seconds: float) -> str:
    """Seconds in readable form, for tables."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def in_words(seconds: float) -> str:
    """Seconds in words, in at most two units: `2 minutes`, `3 hours and 20 minutes`, `12 days and 1 hour`."""
    unit = next(unit for unit, most in (("seconds", 90), ("minutes", 36_000), ("hours", math.inf)) if seconds < most)
    return precisedelta(max(1.0, seconds), minimum_unit=unit, format="%.0f")
