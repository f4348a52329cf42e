"""The flow that analyses checkpoints which other programs wrote, and gathers them like the runs of a sweep."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from specdyn.flows.engine.artifacts import show_report, show_result
from specdyn.flows.engine.executor import Executor, open_executor
from specdyn.flows.engine.form import takes
from specdyn.flows.engine.lease import cube_lease
from specdyn.flows.engine.progress import StageProgress
from specdyn.flows.engine.settings import chosen_cluster, chosen_store, patience
from specdyn.flows.engine.stages import OPTIONS, analyse_blocks
from specdyn.flows.parameters import AnalyseParameters
from specdyn.flows.studies import series_from
from specdyn.models.wording import plural
from specdyn.storage import results
from specdyn.storage.access.lease import Lease
from specdyn.storage.access.objects import StoreError, delete
from specdyn.storage.foreign.content import refreshed
from specdyn.storage.members import Member
from specdyn.storage.places import Store
from specdyn.tasks.foreign.audit import HEADINGS, as_plain
from specdyn.tasks.foreign.names import FOREIGN
from specdyn.tasks.foreign.series import ForeignSeries, series_id
from specdyn.tasks.plan.contents import contents_of
from specdyn.tasks.plan.gathering import rebuild
from specdyn.tasks.plan.sources import (
    Source,
    checked,
    finished_sources,
    missing_of,
    require_sound,
    told,
    told_apart,
)
from specdyn.tasks.spectra.network_layout import run_layout
from specdyn.tasks.spectra.one_pass import Target


@flow(name="checkpoint-analysis", persist_result=False)
@takes(AnalyseParameters)
def analyse_checkpoints(asked: AnalyseParameters) -> dict[str, Any]:
    """Analyse series of checkpoints written by any program, and gather them in one cube.

    Layers are read one at a time; blocks that the store already has are not computed again.
    """
    name, chosen, found = series_from(asked)
    store = chosen_store(asked.store)
    if finished := finished_sources(name, found, store, chosen, asked.report):
        sound = checked(finished, asked.audited)
        refuse(sound)
        return _shown(name, sound, store, asked.report, built=False)
    with cube_lease(store.cube(name), store) as lease:
        _, _, found = series_from(asked)  # another call may have held the lease while files were written
        found = checked(found, asked.audited)
        refuse(found)
        return _analyse(name, found, store, chosen, asked, lease)


def _analyse(
    name: str, found: list[Source], store: Store, chosen: tuple[str, ...], asked: AnalyseParameters, lease: Lease
) -> dict[str, Any]:
    """Analyse what is missing of the series, and gather."""
    found = [replace(source, run_id=series_id(source.series, source.body, store)) for source in found]
    missing = {source.run_id: missing_of(source, store, chosen) for source in found}
    if any(missing.values()):
        total = sum(len(block) for blocks in missing.values() for block in blocks)
        with (
            open_executor(asked.executor, asked.resources, chosen_cluster(asked.ray_address), patience()) as workers,
            StageProgress(name, {"analysis": total}) as bar,
        ):
            for source in found:
                analyse_source(source.series.name, source, store, chosen, workers, bar)
                bar.refresh(publish=True)
    return finish_analysis(name, found, store, chosen, asked.report, lease)


def refuse(found: Sequence[Source]) -> None:
    """Show the findings as an artifact; AuditFailed where one of them is an error."""
    rows: list[dict[str, Any]] = [
        dict(zip(HEADINGS, finding.cells, strict=True)) for source in found for finding in source.findings
    ]
    if rows:
        create_table_artifact(rows, key="audit", description="What is unusual about the checkpoints")
    require_sound(found)


def _target(source: Source, store: Store, analyses: Sequence[str]) -> Target:
    series = source.series
    attributes = {
        "run_id": source.run_id,
        "source": series.name,
        "hyperparameters": source.labels,
        "audit": as_plain(source.findings),
        "passed_over": [list(pair) for pair in series.found.skipped],
    }
    return Target(
        url=store.run_store(FOREIGN, source.run_id),
        commits=store.commits(FOREIGN, source.run_id),
        layout=run_layout(source.body, series.steps, analyses, {}, attributes),
    )


@task(name="analyse", task_run_name="analyse {label}", **OPTIONS)
def analyse_source(
    label: str, source: Source, store: Store, analyses: Sequence[str], executor: Executor, progress: StageProgress
) -> str:
    """Analyse the blocks of one series that are missing; shared factors lie in the store until all is done."""
    missing = missing_of(source, store, analyses)
    if not missing:
        return f"{label}: nothing left to analyse"
    target = _target(source, store, analyses)
    results.allocate(target.url, target.layout)
    kept = f"{target.commits.removesuffix('.commits')}.factors"
    made = analyse_blocks(source.series, source.body, target, missing, executor, progress, kept)
    delete(kept)
    if series_id(ForeignSeries(refreshed(source.series.found)), source.body, store) != source.run_id:
        delete(target.commits)
        raise StoreError(f"{label} changed during the analysis; run the command again once nothing writes there")
    return f"{label}: {plural(made, 'SVD')} in {plural(len(missing), 'block')}, shared ones not counted"


@task(name="gather", cache_policy=NO_CACHE, persist_result=False)
def finish_analysis(
    name: str, found: Sequence[Source], store: Store, analyses: Sequence[str], report: bool, lease: Lease
) -> dict[str, Any]:
    """Gather the series into the cube and write the report."""
    names = told_apart([source.series.name for source in found])
    members = [
        Member(
            run_id=source.run_id,
            url=store.run_store(FOREIGN, source.run_id),
            hyperparameters={"series": name},
            provenance={"source": source.series.name},
        )
        for source, name in zip(found, names, strict=True)
    ]
    attributes = {"title": f"Checkpoints: {name}", "sweep": name, "experiment": FOREIGN}
    url = store.cube(name)
    lease.ensure()
    built = rebuild(url, members, attributes, contents_of([s.run_id for s in found], analyses), lease)
    return _shown(name, found, store, report, built)


def _shown(name: str, found: Sequence[Source], store: Store, report: bool, built: bool) -> dict[str, Any]:
    """Show the cube and its report as artifacts; returns where they are, and what was found about the series."""
    url = store.cube(name)
    show_result(url, name)
    outcome: dict[str, Any] = {"name": name, "store": store.url, "cube": url, "rebuilt": built, **told(found)}
    if report:
        outcome["report"] = show_report(url, store.report(name), store, name, built)
    return outcome
