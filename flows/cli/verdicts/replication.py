"""`specdyn replicate`: runs the studies of a tier, judges its claims and writes a report."""

import time
from collections.abc import Sequence

from specdyn.flows.cli.options import err, out
from specdyn.flows.cli.terminal import say, table
from specdyn.flows.cli.verdicts.judged import say_kept, show
from specdyn.flows.engine.settings import EXECUTORS
from specdyn.flows.replicate import arguments, is_done, make, planned, spread, study_of
from specdyn.models.spec.checks import require_known
from specdyn.models.wording import plural
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.probe import planned_store, require_store
from specdyn.tasks.data.prepare import NotPrepared
from specdyn.tasks.evidence.claim import Claim, chosen_claims
from specdyn.tasks.evidence.declared import Declared, needs_of, studies_of
from specdyn.tasks.plan.tables import duration
from specdyn.tasks.verdicts.page import as_html, as_markdown
from specdyn.tasks.verdicts.storing import judge_studies

HEADINGS = ("study", "command", "done", "left", "time on one worker")


def replicate(tier: str, store: str, only: Sequence[str], plan: bool, executor: str) -> bool:
    """Do what is left of a tier and judge its claims, or plan it; False if a study failed."""
    require_known("executor", executor, EXECUTORS)
    claims = [claim for claim in chosen_claims(only) if only or claim.needs.get(needs_of(tier))]
    declared = studies_of(tier, claims)
    if not declared:
        raise ValueError(f"only={','.join(only)} is not allowed: none of these claims needs a study of tier {tier}")
    if plan:
        show_plans(tier, declared, planned_store(store))
        return True
    place, since = require_store(store), time.monotonic()
    for one in declared:
        if not one.norms_of:  # the others need runs that are not trained yet
            study_of(one, place.url).checked(place, asks=True)
    failed = []
    for one in spread(declared):
        if is_done(one, place):
            say(f"{one.name}: all done")
            continue
        say(f"specdyn {' '.join(arguments(one, place.url))}")
        if make(one, place.url, executor):
            failed.append(one.name)
    judge_tier(tier, place, declared, claims, duration(time.monotonic() - since))
    if failed:
        err.print(f"failed: {', '.join(failed)}; the same call continues there")
    return not failed


def show_plans(tier: str, declared: Sequence[Declared], place: Store) -> None:
    """Print what is done and what is left of each study, and how long it takes."""
    rows: list[tuple[str, ...]] = []
    total, unknown = 0.0, []
    for one in spread(declared):
        what = f"specdyn {one.command} {one.experiment} --preset {one.preset}"
        try:
            plan = planned(one, place)
        except (ValueError, NotPrepared) as error:
            rows.append((one.name, what, "-", "-", "not known"))
            unknown.append(f"{one.name}: {error}")
            continue
        done = sum(item.state == "done" for item in plan.items)
        total += plan.seconds
        rows.append((one.name, what, str(done), str(len(plan.items) - done), duration(plan.seconds)))
    table(f"Tier {tier} in {place}", HEADINGS, rows)
    out.print(f"{plural(len(rows), 'study', 'studies')}: {duration(total)} on one worker")
    for why in unknown:
        err.print(f"unknown: {why}", markup=False)


def judge_tier(tier: str, place: Store, declared: Sequence[Declared], claims: Sequence[Claim], took: str) -> None:
    """Judge the claims on the studies that have results; print, store and report the verdicts."""
    names = []
    for name in dict.fromkeys(one.name for one in declared):
        try:
            judge_studies(place, [name], [])
            names.append(name)
        except (ValueError, StoreError) as error:
            err.print(f"without {name}: {error}", markup=False)
    if not names:
        return
    verdicts = judge_studies(place, names, claims)
    show(f"Verdicts of tier {tier} in {place}", verdicts)
    say_kept(place, verdicts)
    folder = place.report(f"replication-{tier}")
    title = f"Replication, tier {tier}"
    about = f"`specdyn replicate --tier {tier}`; the call took {took}"
    objects.write(f"{folder}/verdicts.md", as_markdown(title, about, verdicts).encode())
    objects.write(f"{folder}/verdicts.html", as_html(title, about, verdicts).encode())
    out.print(f"report       {folder}/verdicts.html, verdicts.md")
