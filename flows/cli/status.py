"""`specdyn status` and `ledger`: progress of a study, the process that works on it, and its cost."""

import json
import math
import time
from collections.abc import Mapping

from specdyn.flows.cli.options import out
from specdyn.flows.cli.terminal import show_plan, table
from specdyn.models.spec.run_spec import as_text
from specdyn.models.wording import plural
from specdyn.storage.access.lease import Holder, last_holder
from specdyn.storage.checkpoints import checkpoint_times
from specdyn.storage.places import Store
from specdyn.storage.probe import existing_store
from specdyn.storage.studies import kinds_of, read_study
from specdyn.tasks.plan.plan import Plan, Study, make_plan
from specdyn.tasks.plan.sweeps import other_sources, sweep_of
from specdyn.tasks.plan.tables import SHOWN, duration

WORKER = ("who", "since", "last sign of life", "how far")
UNDER_WAY = ("run", "step", "of", "steps a second", "time left")


def show_status(name: str, store: str) -> None:
    """Print the progress of the sweep, graphs or series of that name; ValueError lists the known names."""
    url = existing_store(store)
    kinds = kinds_of(url, name)
    studies: list[Study] = []
    if "sweep" in kinds and (record := read_study(url, name, "sweep")) and (sweep := sweep_of(record)).specs:
        studies.append(sweep)
    if {"connectivity", "tickets"} & set(kinds):
        from specdyn.tasks.plan.branching.records import read_graphs

        studies += read_graphs(url, name)
    for study in studies:
        holder = last_holder(url.lease(study.cube(url)))
        plan = make_plan(study, url, estimate=False)
        show_plan(plan, worked=bool(holder and holder.alive))
        if holder:
            _show_holder(holder, plan)
    for kind in kinds:
        if others := other_sources(url, name, kind):
            out.print(others)
    if "series" in kinds:
        if holder := last_holder(url.lease(url.cube(name))):
            _show_holder(holder)
        show_series(name, url)


def _show_holder(holder: Holder, plan: Plan | None = None) -> None:
    """Print which process works or died on a study, and the progress of each run in training."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
    who = f"process {holder.pid} on {holder.host}"
    if holder.dead:
        table("Interrupted", WORKER, [(who, since, "has ended", holder.doing or "-")])
    else:
        sign = f"{duration(holder.silent)} ago" if holder.time else "-"
        table("At work" if holder.alive else "Silent", WORKER, [(who, since, sign, holder.doing or "-")])
    if not holder.alive:
        out.print("nobody is working on it now: the same command continues where it stopped")
    elif plan and (rows := _trained_now(plan, holder.since)):
        table("In training", UNDER_WAY, rows)


def _trained_now(plan: Plan, since: float) -> list[tuple[str, ...]]:
    """Rows under UNDER_WAY with the newest step of each run in training; the rate uses checkpoints written `since`."""
    rows: list[tuple[str, ...]] = []
    for item in [item for item in plan.items if item.run and item.state == "partial"][:SHOWN]:
        assert item.run
        written = checkpoint_times(plan.store.run_of(item.run))
        step, rate = max(written, default=0), _rate({at: when for at, when in written.items() if when >= since})
        left = duration((item.run.steps - step) / rate) if rate > 0 else "-"
        rows.append((item.label, str(step), str(item.run.steps), f"{rate:.3g}" if rate > 0 else "-", left))
    return rows


def _rate(written: Mapping[int, float]) -> float:
    """Steps per second between the first and the last of some checkpoints; NaN for fewer than two."""
    if len(written) < 2 or (took := max(written.values()) - min(written.values())) <= 0:
        return math.nan
    return (max(written) - min(written)) / took


def show_ledger(name: str, store: str) -> None:
    """Print what the units of all studies of that name took; ValueError lists the known names."""
    from specdyn.tasks.ledger.summary import HEADINGS, entries_of, hours, ledger_rows

    url = existing_store(store)
    records = [record for kind in kinds_of(url, name) if (record := read_study(url, name, kind))]
    entries = entries_of(url, records)
    table(f"What the units of {name} took, in {url}", HEADINGS, ledger_rows(entries))
    cpu, gpu = hours(entries)
    out.print(f"{plural(len(entries), 'entry', 'entries')}: {cpu:.4g} CPU-hours, {gpu:.4g} GPU-hours")


def show_series(name: str, store: Store) -> None:
    """Print the series of checkpoints in a cube."""
    from specdyn.storage.query import open_results

    tree = open_results(store.cube(name))
    runs, steps = tree["runs"].to_dataset(), tree["layers"].sizes["step"]
    shown = tree["layers"].to_dataset().coords  # without what all series have in common
    said = json.loads(tree.attrs.get("labels", "{}"))
    labels = {
        series: ", ".join(f"{label}={as_text(value)}" for label, (value, _) in of.items() if label in shown)
        for series, of in said.items()
    }
    columns = (runs[column].values.tolist() for column in ("run", "source", "series", "status"))
    rows = [(run, source, labels.get(series, "-"), state) for run, source, series, state in zip(*columns, strict=True)]
    table(f"{name}, series, in {store}", ("run", "source", "labels", "state"), rows)
    out.print(f"{plural(len(rows), 'series', 'series')} analysed at {plural(steps, 'step')}")
