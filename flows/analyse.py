"""The flow that analyses checkpoints which other programs wrote, and gathers them like the runs of a sweep."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from specdyn.flows import fields
from specdyn.flows.engine.artifacts import show_report, show_result
from specdyn.flows.engine.executor import Executor, open_executor
from specdyn.flows.engine.lease import turn
from specdyn.flows.engine.progress import StageProgress
from specdyn.flows.engine.resources import Resources
from specdyn.flows.engine.settings import chosen_cluster, chosen_store, patience
from specdyn.flows.engine.stages import OPTIONS, analyse_blocks
from specdyn.models.wording import plural
from specdyn.storage import results
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.access.objects import StoreError, delete
from specdyn.storage.foreign.content import refreshed
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.members import Member
from specdyn.storage.places import Layout
from specdyn.tasks.foreign.audit import HEADINGS, Finding, as_plain, audit
from specdyn.tasks.foreign.series import TRANSPOSED, ForeignSeries, read_anatomy, series_id
from specdyn.tasks.plan.gathering import contents_of, rebuild
from specdyn.tasks.plan.planning import lacking
from specdyn.tasks.plan.series import choose, cube_name
from specdyn.tasks.spectra.network_layout import Anatomy, run_layout
from specdyn.tasks.spectra.one_pass import Target

GROUP = "foreign"
"""What stands for the experiment in the places of such runs."""


class AuditFailed(ValueError):
    """A series cannot be analysed as it is: says what is wrong with which checkpoint."""


@dataclass(frozen=True, slots=True)
class Source:
    """A series with what is to be done on it."""

    series: ForeignSeries
    body: Anatomy
    findings: tuple[Finding, ...]
    run_id: str = ""
    """The identity of what is measured, which takes the content of all checkpoints; empty until they are read."""

    @property
    def labels(self) -> dict[str, str]:
        """What stands for hyper-parameters: the place, and the last part of it."""
        return {"series": self.series.name.rsplit("/", 1)[-1], "source": self.series.name}


@flow(name="checkpoint-analysis", persist_result=False)
def analyse_checkpoints(
    sources: fields.Sources,
    name: fields.GraphName = "",
    pattern: fields.Pattern = "",
    heads: fields.Heads = 0,
    transposed: fields.Transposed = TRANSPOSED,
    analyses: fields.Analyses = [],  # noqa: B006 - Prefect copies it
    audited: fields.Audited = True,
    store: fields.Store = "",
    report: fields.Report = True,
    executor: fields.ExecutorKind = "ray",
    ray_address: fields.RayAddress = "",
    resources: Annotated[Resources, fields.UnitResources] = Resources(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Analyse series of checkpoints written by any program, and gather them in one cube.

    Layers are read one at a time; blocks that the store already has are not computed again.
    """
    chosen = choose(analyses or None)
    name = cube_name(name or None, sources, pattern, heads, transposed)
    urls = dict.fromkeys(map(objects.normalise, sources))
    store = chosen_store(store)
    with turn(Layout(store).cube(name), store) as lease:
        found = [look(source, pattern or None, heads, transposed, audited) for source in urls]
        return _analyse(name, found, store, chosen, report, executor, resources, ray_address, lease)


def _analyse(
    name: str,
    found: list[Source],
    store: str,
    chosen: tuple[str, ...],
    report: bool,
    executor: Literal["ray", "inline"],
    resources: Resources,
    ray_address: str,
    lease: Lease,
) -> dict[str, Any]:
    """Analyse what is missing of the series, and gather."""
    refuse(found)
    found = [replace(source, run_id=series_id(source.series, source.body, store)) for source in found]
    missing = {source.run_id: _missing(source, store, chosen) for source in found}
    if any(missing.values()):
        total = sum(len(block) for blocks in missing.values() for block in blocks)
        with (
            open_executor(executor, resources, chosen_cluster(ray_address), patience()) as workers,
            StageProgress(name, {"analysis": total}) as bar,
        ):
            for source in found:
                analyse_source(source.series.name, source, store, chosen, workers, bar)
                bar.refresh(publish=True)
    return finish_analysis(name, found, store, chosen, report, lease)


def told_apart(urls: Sequence[str]) -> list[str]:
    """The shortest endings of different URLs, of whole parts and all of one length, that differ."""
    parts = [url.split("/") for url in urls]
    endings = (["/".join(part[-count:]) for part in parts] for count in itertools.count(1))
    return next(names for names in endings if len(set(names)) == len(urls))


def look(source: str, pattern: str | None, heads: int, transposed: str, audited: bool) -> Source:
    """Find the checkpoints of a source, its layers, and what is wrong with it."""
    series = ForeignSeries(find_checkpoints(source, pattern))
    body = read_anatomy(series, heads, transposed)
    return Source(series, body, audit(series, body) if audited else ())


def refuse(found: Sequence[Source]) -> None:
    """Show the findings as an artifact; AuditFailed where one of them is an error."""
    rows: list[dict[str, Any]] = [
        dict(zip(HEADINGS, finding.cells, strict=True)) for source in found for finding in source.findings
    ]
    if rows:
        create_table_artifact(rows, key="audit", description="What is unusual about the checkpoints")
    errors = [(s.series.name, f) for s in found for f in s.findings if f.severity == "error"]
    if errors:
        lines = "\n".join(f"  {where} step {f.steps[0]} {f.tensor}: {f.what}; {f.advice}" for where, f in errors[:20])
        raise AuditFailed(f"{len(errors)} checkpoints or tensors cannot be analysed:\n{lines}")


def _target(source: Source, store: str, analyses: Sequence[str]) -> Target:
    where, series = Layout(store), source.series
    attributes = {
        "run_id": source.run_id,
        "source": series.name,
        "hyperparameters": source.labels,
        "audit": as_plain(source.findings),
        "passed_over": [list(pair) for pair in series.found.skipped],
    }
    return Target(
        url=where.run_store(GROUP, source.run_id),
        commits=where.commits(GROUP, source.run_id),
        layout=run_layout(source.body, series.steps, analyses, {}, attributes),
    )


def _missing(source: Source, store: str, analyses: Sequence[str]) -> dict[tuple[int, ...], tuple[str, ...]]:
    return lacking(Layout(store).commits(GROUP, source.run_id), source.series.steps, analyses)


@task(name="analyse", task_run_name="analyse {label}", **OPTIONS)
def analyse_source(
    label: str, source: Source, store: str, analyses: Sequence[str], executor: Executor, progress: StageProgress
) -> str:
    """Analyse the blocks of one series that are missing; shared factors lie in the store until all is done."""
    missing = _missing(source, store, analyses)
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
    name: str, found: Sequence[Source], store: str, analyses: Sequence[str], report: bool, lease: Lease
) -> dict[str, Any]:
    """Gather the series into the cube and write the report."""
    where = Layout(store)
    names = told_apart([source.series.name for source in found])
    members = [
        Member(
            run_id=source.run_id,
            url=where.run_store(GROUP, source.run_id),
            hyperparameters={"series": name},
            provenance={"source": source.series.name},
        )
        for source, name in zip(found, names, strict=True)
    ]
    attributes = {"title": f"Checkpoints: {name}", "sweep": name, "experiment": GROUP}
    url = where.cube(name)
    lease.ensure()
    built = rebuild(url, members, attributes, contents_of([s.run_id for s in found], analyses), lease)
    show_result(url, name)
    left_out = {
        s.series.name: [(e.parameter, " x ".join(map(str, e.shape)), e.skipped) for e in s.body.entries if e.skipped]
        for s in found
    }
    outcome: dict[str, Any] = {
        "name": name,
        "store": store,
        "cube": url,
        "rebuilt": built,
        "audit": {s.series.name: [finding.cells for finding in s.findings] for s in found},
        "left_out": left_out,
    }
    if report:
        outcome["report"] = show_report(url, where.report(name), store, name, built, axis="series")
    return outcome
