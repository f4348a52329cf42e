"""Series of other programs' checkpoints as a study: audited, analysed, gathered in one cube."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specdyn.models.spec.checks import require
from specdyn.storage.access.objects import StoreError, delete
from specdyn.storage.access.reading import normalise_source
from specdyn.storage.foreign.content import refreshed
from specdyn.storage.foreign.found import Search
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.storage.studies import StudyRecord, read_study, record_study
from specdyn.tasks.foreign.audit import as_plain, audit
from specdyn.tasks.foreign.kept import Kept, fits
from specdyn.tasks.foreign.names import FOREIGN, TRANSPOSED
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.foreign.series import series_contents
from specdyn.tasks.plan.names import name_of_series, require_name
from specdyn.tasks.plan.plan import Item
from specdyn.tasks.plan.runs import analyse_blocks, analysed_checkpoints
from specdyn.tasks.plan.series_cube import SeriesCube, known_of, stand_alone
from specdyn.tasks.plan.sources import Source, audit_of, left_out_of, look_again, require_sound
from specdyn.tasks.plan.units import Unit, Workers
from specdyn.tasks.spectra.analysis import default_analyses, get_analysis
from specdyn.tasks.spectra.network_layout import Target, run_layout
from specdyn.tasks.work import Work

SECONDS_ALONE = 15.0
"""Seconds of one process below which work finishes sooner without a cluster, which takes about 10 s to start."""
SECONDS_OF_A_MATRIX = 0.02
PRODUCTS_A_SECOND = 1e9
"""Rate of operations; the analyses of a matrix (M, N) take about 20 M N min(M, N) of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStudy:
    """Series of checkpoints whose results are gathered in one cube."""

    name: str
    sources: tuple[Source, ...]
    analyses: tuple[str, ...]
    audited: bool
    """Whether to audit first, which reads every tensor once."""
    skip_damaged: bool = False
    """Whether to leave out checkpoints in which the audit finds an error."""

    @property
    def kind(self) -> str:
        """Series."""
        return "series"

    @property
    def experiment(self) -> str:
        """The experiment name used in the store."""
        return FOREIGN

    @property
    def noun(self) -> tuple[str, str]:
        """`series`, singular and plural."""
        return "series", "series"

    @property
    def takes_seconds(self) -> bool:
        """Whether one process finishes it before a cluster would have started."""
        return sum(_seconds(source) for source in self.sources) < SECONDS_ALONE

    def checked(self, store: Store, asks: bool = False) -> "SeriesStudy":
        """The study with the present checkpoints, audited; unchanged if a call only `asks`."""
        if asks:
            return self
        return replace(self, sources=look_again(self.sources)).sound()

    def sound(self) -> "SeriesStudy":
        """The study with the findings of its audit, if requested; audits unless already done.

        AuditFailed if one of the findings is an error, unless such checkpoints are to be left out.
        """
        if not self.audited or all(one.findings is not None for one in self.sources):
            return self
        sources = tuple(replace(one, findings=audit(one.series, one.layout)) for one in self.sources)
        if self.skip_damaged:
            sources = tuple(one.without_errors() for one in sources)
        require_sound(sources)
        return replace(self, sources=sources)

    def items(self, store: Store, retry_failed: bool = False, whole: bool = True) -> list[Item]:
        """The analysis of each series; a series with files unknown to the store counts as new."""
        return [self._item(source, store) for source in self.sources]

    def _item(self, source: Source, store: Store) -> Item:
        known, metrics = known_of(source, self.analyses, store), source.metrics.part
        parts = len(source.series.steps) + bool(metrics)
        left = sum(map(len, known.analysed.missing)) + (bool(metrics) and not known.metrics)
        unit = Unit(
            kind="analyses",
            key=source.series.name,
            label=source.series.name,
            needs=(),
            function=analyse_series,
            arguments=(source, self.analyses, store),
            log=short_digest(source.series.name),
            row=source.series.name,
            spreads=True,
            parts=left,
        )
        return Item(
            kind="analyses",
            key=unit.key,
            label=unit.label,
            state="new" if left == parts else "partial" if left else "done",
            there=parts - left,
            parts=parts,
            unit=unit if left else None,
        )

    def cube(self, store: Store) -> str:
        """URL of its cube."""
        return store.cube(self.name)

    def results(self, store: Store) -> SeriesCube:
        """The cube of the series, with the existing results of each."""
        found = tuple(known_of(source, self.analyses, store) for source in self.sources)
        complete = all(known.complete for known in found)
        return SeriesCube(
            name=self.name, store=store, complete=complete, sources=self.sources, asked=self.analyses, found=found
        )

    def recorded(self, store: Store) -> bool:
        """Whether the store's record describes the same series."""
        return read_study(store, self.name, "series") == self._record

    def record(self, store: Store) -> None:
        """Write its record."""
        record_study(store, self._record)

    @property
    def _record(self) -> StudyRecord:
        sources = tuple(source.series.name for source in self.sources)
        labels = tuple(json.dumps(source.labels.values, sort_keys=True) for source in self.sources)
        return StudyRecord(name=self.name, kind="series", experiment=FOREIGN, sources=sources, labels=labels)

    def clean(self, store: Store) -> None:
        """Does nothing: each unit removes what its calls share."""

    @property
    def told(self) -> tuple[str, ...]:
        """Why its series are not grouped by their labels, if they have some."""
        labelled = any(source.labels.values for source in self.sources)
        why = stand_alone(self.sources) if labelled else ""
        return (f"each series is drawn separately, as labels do not distinguish them: {why}",) if why else ()

    @property
    def audit(self) -> dict[str, list[tuple[str, ...]]]:
        """Findings of the audit for display, by the URL of each series."""
        return audit_of(self.sources)

    @property
    def not_analysed(self) -> dict[str, list[tuple[str, str, str]]]:
        """The tensors that are not analysed, by the URL of each series: name, shape and reason."""
        return left_out_of(self.sources)


def _seconds(source: Source) -> float:
    """Estimated seconds for all checkpoints of a series on one core."""
    products = sum(20.0 * m * n * min(m, n) for m, n in source.layout.shapes)
    of_one = SECONDS_OF_A_MATRIX * len(source.layout.matrices) + products / PRODUCTS_A_SECOND
    return len(source.series.steps) * of_one


def analyse_series(
    workers: Workers, advance: Callable[[int], None], source: Source, analyses: tuple[str, ...], store: Store
) -> Work:
    """Analyse the missing blocks of one series, and write its metrics.

    Shared factors stay in the store until all is done. StoreError if its files change meanwhile.
    """
    series, layout = source.series, source.layout
    contents = series_contents(series, source.place, store)
    run_id = contents.place
    origin = {"run_id": run_id, "source": series.name, "unit": series.found.unit}
    attributes = {
        **origin,
        "audit": as_plain(source.findings or ()),
        "passed_over": [list(pair) for pair in series.found.skipped],
    }
    target = Target(
        folder=store.run_results(FOREIGN, run_id),
        layout=run_layout(layout, series.steps, analyses, {}, attributes),
        contents=contents.of,
    )
    if source.metrics.part and source.metrics.write(target.folder, {**origin, "files": source.logged.files}):
        advance(1)
    before = analysed_checkpoints(target.folder, contents.of, analyses)
    if not before.missing:
        return Work()
    kept = Kept(
        url=f"{store.scratch}/{run_id}",
        contents={step: of["own"] for step, of in contents.of.items()},
        everything=fits(layout, len(series.steps)),
    )
    work = analyse_blocks(workers, advance, series, layout, target, before.missing, kept)
    if series_contents(replace(series, found=refreshed(series.found)), source.place, store) != contents:
        written = analysed_checkpoints(target.folder, contents.of, analyses).parts.keys() - before.parts.keys()
        for url in (*written, kept.url):
            delete(url)
        raise StoreError(f"{series.name} changed during the analysis; run the command again once nothing writes there")
    kept.prune()
    return work


def choose(analyses: Sequence[str] | None) -> tuple[str, ...]:
    """The named analyses, or all that need no data; ValueError if one needs data."""
    names = [n for n in default_analyses() if not get_analysis(n).needs_data] if analyses is None else analyses
    for name in names:
        require(not get_analysis(name).needs_data, "analyses", name, "analyses that need no data to evaluate on")
    require(len(names) > 0, "analyses", list(names), "at least one name")
    return tuple(dict.fromkeys(names))


def cube_name(name: str | None, sources: Sequence[str], search: Search | None = None, how: Look | None = None) -> str:
    """The name of the cube: the given one, or one derived from these sources and options."""
    how, search = how or Look(), search or Search()
    require(len(sources) > 0, "sources", list(sources), "at least one folder or URL")
    options: dict[str, tuple[Any, Any]] = {
        "heads": (how.heads, 0),
        "pairs": (how.pairs.lines, ()),
        "pattern": (search.pattern, ""),
        "steps_per_epoch": (search.per_epoch, 0),
        "revisions": (search.revisions, ""),
        "key": (search.choice.key, ""),
        "part": (search.choice.part, ""),
        "transposed": (how.transposed, TRANSPOSED),
        "weights": (search.choice.weights, ""),
    }
    changed = {option: value for option, (value, usual) in options.items() if value != usual}
    chosen = name or name_of_series([normalise_source(source) for source in sources], changed)
    require_name("name", chosen)
    return chosen
