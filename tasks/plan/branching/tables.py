"""Graphs as text: the table of a plan, that of a status, and the sentence above both."""

from collections.abc import Sequence

from specdyn.models.wording import plural
from specdyn.tasks.plan.branching.graph import Graph, Remaining
from specdyn.tasks.plan.branching.plan import GraphPlan, Stage
from specdyn.tasks.plan.tables import duration, size

PLAN_HEADINGS = ("stage", "there", "left", "time on one worker", "checkpoints to write")
STATUS_HEADINGS = ("what", "in all", "done", "left", "under way", "failed")
BEGUN_HEADINGS = ("run", "state", "step", "why")
SHOWN = 30
"""The most runs that are listed one by one."""


def describe(graph: Graph, left: Remaining) -> str:
    """What the graph has and what is left of it, in a sentence or two."""
    runs, todo = len(graph.trunks) + len(graph.branches), len(left.trunks) + len(left.branches)
    measured = {"pairs": (graph.pairs, left.pairs), "tickets": (graph.tickets, left.tickets)}
    parts = [f"{len(missing)} of {len(whole)} {what}" for what, (whole, missing) in measured.items() if whole]
    states = sum(map(len, left.states.values()))
    again = f" {plural(states, 'training state')} of finished trunks will be made again." if states else ""
    again += _hopeless(left)
    return (
        f"{graph.name}: {plural(len(graph.trunks), 'trunk')}, {plural(len(graph.branches), 'branch', 'branches')} at "
        f"{'step' if len(graph.splits) == 1 else 'steps'} {', '.join(map(str, graph.splits))}. "
        f"Remaining: {', '.join([f'{todo} of {runs} trainings', *parts])}.{again}"
    )


def _hopeless(left: Remaining) -> str:
    if not left.failed:
        return ""
    failed = plural(len(left.failed), "run")
    need = f"; what depends on it is left out ({plural(len(left.blocked), 'unit')})" if left.blocked else ""
    return f" {failed} failed before and --retry-failed was not given{need}."


def graph_plan_summary(plan: GraphPlan) -> str:
    """The same with what the rest will cost, where that was estimated."""
    cost = f" About {duration(plan.seconds)} on one worker, {size(plan.bytes)} of checkpoints to write."
    return describe(plan.graph, plan.left) + (cost if plan.seconds else "")


def plan_rows(plan: GraphPlan) -> list[tuple[str, ...]]:
    """The stages under PLAN_HEADINGS."""
    return [
        (
            stage.name,
            str(stage.total - stage.left),
            str(stage.left),
            duration(stage.seconds) if stage.left else "-",
            size(stage.bytes) if stage.bytes else "-",
        )
        for stage in plan.stages
    ]


def status_rows(plan: GraphPlan) -> list[tuple[str, ...]]:
    """The stages under STATUS_HEADINGS."""
    return [
        (stage.name, *map(str, (stage.total, stage.total - stage.left, stage.left, *_begun(stage))))
        for stage in plan.stages
    ]


def _begun(stage: Stage) -> tuple[int, int]:
    under_way = sum(run.state == "under way" for run in stage.begun)
    return under_way, len(stage.begun) - under_way


def begun_rows(plan: GraphPlan) -> list[tuple[str, ...]]:
    """Runs that are under way or failed under BEGUN_HEADINGS, not more than can be read."""
    rows: list[tuple[str, ...]] = [
        (run.label, run.state, f"{run.step} of {run.steps}", run.reason[:80]) for run in plan.begun[:SHOWN]
    ]
    more = len(plan.begun) - len(rows)
    return [*rows, (f"and {more} more", "", "", "")] if more else rows


def graph_markdown(plan: GraphPlan) -> str:
    """The plan as a markdown table under its summary."""
    lines = [graph_plan_summary(plan), "", _line(PLAN_HEADINGS), "|---" * len(PLAN_HEADINGS) + "|"]
    return "\n".join([*lines, *map(_line, plan_rows(plan))])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
