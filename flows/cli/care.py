"""The commands that maintain a store: `verify`, `repair`, `gc`, `thin` and `remove`."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from specdyn.flows.cli.options import StoreOption, StudyArgument, err, friendly, out

if TYPE_CHECKING:
    from specdyn.storage.care.verify import Verified
    from specdyn.tasks.care.garbage import Thing

StudyOrAll = Annotated[
    str, typer.Argument(help="Name of a study (see `specdyn list studies`). Default: everything in the store.")
]
SHARED = 20
"""The most runs listed as kept."""


@friendly
def verify(study: StudyOrAll = "", store: StoreOption = "results") -> None:
    """Read everything in a store, or everything that belongs to one study, and check that it is intact.

    Writes nothing. Exits with 1 if anything is damaged; `specdyn repair` then prepares it to be made again.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from specdyn.storage.places import Store
    from specdyn.tasks.care.repair import verify_study

    url = Store(_reached(store))
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None)
        found = verify_study(url, study, lambda done, of: bar.update(task, completed=done, total=of))
    if found.damage:
        from specdyn.flows.cli.terminal import table

        rows = [(one.kind, _short(one.url, url.url), one.what, one.repair) for one in found.damage]
        table(f"Damaged in {url}", ("kind", "where", "what is wrong", "what repairs it"), rows)
    out.print(_summary(found))
    if found.damage:
        raise typer.Exit(1)


def _reached(store: str) -> str:
    """The URL of a store that can be listed. Unlike with other commands, its version object may be damaged."""
    from specdyn.storage.access.objects import StoreError, names, normalise, reach

    url = normalise(store)
    if not reach(url, make=False) or not {"specdyn.json", "studies", "runs", "checkpoints"} & set(names(url)):
        raise StoreError(f"No store at {url}. Check --store (or SPECDYN_STORE); `specdyn run` creates a store")
    return url


def _summary(found: "Verified") -> str:
    from specdyn.models.wording import plural, size

    looked_at = f"{plural(found.objects, 'object')}, {size(found.bytes)}"
    lines = [f"not checked: {why}" for why in found.skipped]
    wrong = f"{len(found.damage)} damaged" if found.damage else "all as written"
    return "\n".join([*lines, f"{looked_at}, {wrong}"])


@friendly
def repair(study: StudyOrAll = "", store: StoreOption = "results") -> None:
    """Verify a store or a study, and delete or mark damaged objects, so that the next call makes them again.

    Damaged results, cubes and states are deleted; a run with a damaged checkpoint is marked to be trained again.
    """
    from specdyn.flows.cli.terminal import table
    from specdyn.storage.places import Store
    from specdyn.tasks.care.repair import next_calls, repair

    url = Store(_reached(store))
    made = repair(url, study)
    if not made:
        out.print("nothing is damaged")
        return
    rows = [
        (one.damage.kind, _short(one.damage.url, url.url), one.damage.what, one.done or "nothing", one.then)
        for one in made
    ]
    table(f"Repaired in {url}", ("kind", "where", "what was wrong", "what was done", "what comes next"), rows)
    if calls := next_calls(url, made):
        out.print("To make everything again, run these with the same options as before:")
        for call in calls:
            out.print(f"  {call}", markup=False)


@friendly
def gc(
    store: StoreOption = "results",
    delete: Annotated[bool, typer.Option("--delete", help="Delete it. Without this nothing is written.")] = False,
) -> None:
    """List, and with --delete remove, what no study needs: runs, results, logs, replaced chunks, scratch files.

    Refuses while any call works on the store. Keeps everything written within the last hour.
    """
    from specdyn.models.wording import plural, size
    from specdyn.storage.probe import existing_store
    from specdyn.tasks.care.garbage import delete_garbage, find_garbage

    url = existing_store(store)
    found = find_garbage(url)
    if found.things:
        _show_things(f"In {url}, and needed by no study", found.things)
    if found.young:
        count = sum(len(thing.keys) for thing in found.young)
        young = f"{plural(count, 'more object')} that no study needs {'was' if count == 1 else 'were'} written"
        out.print(f"{young} within the last hour: kept, as a call may be about to use them")
    if not found.things:
        out.print("nothing to delete")
        return
    count, total = _totals(found.things)
    if not delete:
        out.print(f"{plural(count, 'object')}, {size(total)}; --delete deletes them")
        return
    delete_garbage(url, found)
    out.print(f"deleted      {plural(count, 'object')}, {size(total)}")


@friendly
def remove(
    study: StudyArgument,
    store: StoreOption = "results",
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this nothing is written.")] = False,
) -> None:
    """Show, and with --yes remove, a study: its record, cubes, report, and runs that no other study needs.

    Refuses while a call works on the study.
    """
    from specdyn.models.wording import plural, size
    from specdyn.storage.probe import existing_store
    from specdyn.tasks.care import remove as removal

    url = existing_store(store)
    plan = removal.plan_removal(url, study)
    _show_things(f"Goes with {study} in {url}", plan.things)
    if plan.shared:
        rows = [(*run, ", ".join(studies)) for run, studies in plan.shared.items()]
        _show_runs("Stays, as other studies need it", "needed by", rows)
    count, total = _totals(plan.things)
    if not yes:
        out.print(f"{plural(count, 'object')}, {size(total)}; --yes removes them")
        return
    count, total = _totals(removal.remove(url, study).things)
    out.print(f"removed      {plural(count, 'object')}, {size(total)}")


@friendly
def thin(
    study: StudyArgument,
    keep_every: Annotated[int, typer.Option("--keep-every", help="Keep every n-th checkpoint of a run, e.g. 10.")],
    store: StoreOption = "results",
    yes: Annotated[bool, typer.Option("--yes", help="Remove them. Without this nothing is written.")] = False,
) -> None:
    """Show, and with --yes remove, checkpoints of a study's runs that have been analysed.

    The first and last checkpoints and those at which forks start are kept, and so are results. An analysis added later
    trains the run again.
    """
    from specdyn.models.wording import plural, size
    from specdyn.storage.probe import existing_store
    from specdyn.tasks.care import thin as thinning

    url = existing_store(store)
    plan = thinning.plan_thinning(url, study, keep_every)
    if plan.things:
        _show_things(f"Can be removed of {study} in {url}", plan.things)
    if plan.whole:
        _show_runs("Keep all of their checkpoints", "why", [(*run, why) for run, why in plan.whole.items()])
    if not plan.things:
        out.print("nothing to remove")
        return
    if yes:
        plan = thinning.thin(url, study, keep_every)
    count, total = _totals(plan.things)
    said = f"removed      {plural(count, 'checkpoint')}, {size(total)}" if yes else ""
    out.print(said or f"{plural(count, 'checkpoint')}, {size(total)}; --yes removes them")


def _show_runs(title: str, about: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Print the first runs that are kept, and count the others."""
    from specdyn.flows.cli.terminal import table
    from specdyn.models.wording import plural

    table(title, ("experiment", "run", about), rows[:SHARED])
    if (more := len(rows) - SHARED) > 0:
        out.print(f"and {plural(more, 'more run')}")


def _show_things(title: str, things: "Sequence[Thing]") -> None:
    """Print count and size of each kind of object."""
    from specdyn.flows.cli.terminal import table
    from specdyn.models.wording import size

    rows = []
    for kind in dict.fromkeys(thing.kind for thing in things):
        alike = [thing for thing in things if thing.kind == kind]
        count, total = _totals(alike)
        names = ", ".join(thing.name for thing in alike[:3]) + (", ..." if len(alike) > 3 else "")
        rows.append((kind, str(len(alike)), str(count), size(total), names))
    table(title, ("kind", "number", "objects", "size", "which"), rows)


def _totals(things: "Iterable[Thing]") -> tuple[int, int]:
    every = list(things)
    return sum(len(thing.keys) for thing in every), sum(thing.bytes for thing in every)


def _short(url: str, store: str) -> str:
    """A URL relative to the store."""
    return url.removeprefix(f"{store}/")
