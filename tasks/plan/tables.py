"""Plans as text, for the terminal and for Prefect."""

from humanize import naturalsize

from specdyn.tasks.plan.planning import Cell, Plan

HEADINGS = ("run", "state", "checkpoints", "blocks to analyse", "what will happen")


def row(cell: Cell) -> tuple[str, str, str, str, str]:
    """One cell of the grid under the headings."""
    return (
        cell.label,
        cell.state,
        f"{min(cell.written, cell.checkpoints)}/{cell.checkpoints}",
        f"{len(cell.missing)}/{cell.blocks}",
        _what_next(cell),
    )


def _what_next(cell: Cell) -> str:
    match cell.state:
        case "done":
            return "nothing"
        case "trained":
            return "analyse"
        case "partial":
            return "continue training, analyse"
        case "failed" if cell.stays_failed:
            return f"nothing unless --retry-failed is given ({cell.reason[:80]})"
        case "failed" | "damaged":
            return f"train again ({cell.reason[:80]})"
        case _:
            return "train, analyse"


def plan_summary(plan: Plan) -> str:
    """The plan in a sentence."""
    total, failed = len(plan.cells), len(plan.failed)
    again = f"; {failed} failed before: --retry-failed tries again" if failed else ""
    if not plan.todo and failed:
        return f"{plan.sweep.name}: {total - failed} of {total} runs are done{again}"
    if not plan.todo:
        return f"{plan.sweep.name}: all {total} runs are done; nothing to do"
    time = f", about {duration(plan.seconds)} on one worker" if plan.seconds else ""
    todo = f"{len(plan.todo)} of {total} runs to do, {size(plan.bytes)} of checkpoints to write"
    return f"{plan.sweep.name}: {todo}{time}{again}"


def plan_markdown(plan: Plan, gpus: float | None = None) -> str:
    """The plan as a markdown table under its summary and its cost, with that many GPUs a unit."""
    lines = [
        plan_summary(plan),
        "",
        plan_cost(plan, gpus),
        "",
        f"| {' | '.join(HEADINGS)} |",
        "|---" * len(HEADINGS) + "|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row(cell))} |" for cell in plan.cells)])


def plan_cost(plan: Plan, gpus: float | None) -> str:
    """Cells there and to do, hours and bytes; the hours are of GPUs where units get them."""
    done, hours = len(plan.cells) - len(plan.todo) - len(plan.failed), plan.seconds / 3600
    kind = f"{hours * gpus:.3g} GPU-hours at {gpus:g} GPUs a unit" if gpus else f"{hours:.3g} hours of one worker"
    return f"**Cost:** {len(plan.todo)} cells to make, {done} there; about {kind}; {size(plan.bytes)} of checkpoints."


def size(count: float) -> str:
    """Bytes for people."""
    return naturalsize(count, format="%.3g")


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
