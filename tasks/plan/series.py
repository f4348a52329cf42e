"""Series of checkpoints that other programs wrote, as a study: audited, analysed, gathered in one cube."""

import functools
import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specdyn.models.spec.checks import require
from specdyn.storage.access.objects import StoreError, delete
from specdyn.storage.access.reading import normalise_source
from specdyn.storage.foreign.content import refreshed
from specdyn.storage.foreign.found import Search
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.storage.results import RunLayout
from specdyn.storage.rows import Row
from specdyn.storage.studies import StudyRecord, read_study, record_study
from specdyn.tasks.foreign.audit import as_plain, audit
from specdyn.tasks.foreign.names import FOREIGN, TRANSPOSED
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.foreign.series import known_contents, series_contents
from specdyn.tasks.plan.gathering import RunsCube, counting_variables
from specdyn.tasks.plan.kept import Kept, fits
from specdyn.tasks.plan.names import name_of_series, require_name
from specdyn.tasks.plan.plan import Item
from specdyn.tasks.plan.runs import Analysed, analyse_blocks, analysed_checkpoints
from specdyn.tasks.plan.sources import Source, require_sound
from specdyn.tasks.plan.units import Unit, Workers
from specdyn.tasks.spectra.analysis import default_analyses, get_analysis
from specdyn.tasks.spectra.network_layout import NetworkLayout, run_layout
from specdyn.tasks.spectra.one_pass import Target
from specdyn.tasks.work import Work

SECONDS_ALONE = 15.0
"""Of one process: work below it ends sooner without a cluster, which takes about 10 s to start."""
SECONDS_OF_A_MATRIX = 0.02
PRODUCTS_A_SECOND = 1e9
"""Of numbers, in what a checkpoint's analyses take: about 20 M N min(M, N) of a matrix (M, N)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStudy:
    """Series of checkpoints whose results lie in one cube."""

    name: str
    sources: tuple[Source, ...]
    analyses: tuple[str, ...]
    audited: bool
    """Whether every tensor is read once before anything is analysed."""
    skip_damaged: bool = False
    """Whether checkpoints in which an audit finds an error are left out."""

    @property
    def kind(self) -> str:
        """Series."""
        return "series"

    @property
    def experiment(self) -> str:
        """What stands for one in places of the store."""
        return FOREIGN

    @property
    def noun(self) -> tuple[str, str]:
        """Its cube consists of series."""
        return "series", "series"

    @property
    def takes_seconds(self) -> bool:
        """Whether one process has done all of it before a cluster would have begun."""
        return sum(_seconds(source) for source in self.sources) < SECONDS_ALONE

    def checked(self, store: Store, asks: bool = False) -> "SeriesStudy":
        """The study with the checkpoints that are there now, audited; as it is where a call only `asks`."""
        if asks:
            return self
        return replace(self, sources=tuple(source.looked_at_again() for source in self.sources)).sound()

    def sound(self) -> "SeriesStudy":
        """The study with what is wrong with its checkpoints, audited where it is asked for and not done yet.

        AuditFailed where one of the findings is an error, unless those checkpoints are to be left out.
        """
        if not self.audited or all(one.findings is not None for one in self.sources):
            return self
        sources = tuple(replace(one, findings=audit(one.series, one.layout)) for one in self.sources)
        if self.skip_damaged:
            sources = tuple(one.without_errors() for one in sources)
        require_sound(sources)
        return replace(self, sources=sources)

    def items(self, store: Store, retry_failed: bool = False, whole: bool = True) -> list[Item]:
        """The analysis of each series; one that has files which the store does not know is as good as new."""
        return [self._item(source, store) for source in self.sources]

    def _item(self, source: Source, store: Store) -> Item:
        steps, left = source.series.steps, sum(map(len, self._found(source, store)[1].missing))
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
            state="new" if left == len(steps) else "partial" if left else "done",
            there=len(steps) - left,
            parts=len(steps),
            unit=unit if left else None,
        )

    def _found(self, source: Source, store: Store) -> tuple[str, Analysed]:
        """The identity of a series and what is analysed of it; an empty one where the store does not know its files."""
        contents = known_contents(source.series, source.place, store)
        if contents is None:
            return "", Analysed(missing={(step,): self.analyses for step in source.series.steps}, parts={})
        folder = store.run_results(FOREIGN, contents.place)
        return contents.results, analysed_checkpoints(folder, contents.of, self.analyses)

    def cube(self, store: Store) -> str:
        """Where its cube lies."""
        return store.cube(self.name)

    def results(self, store: Store) -> "SeriesCube":
        """The cube of the series, with what is analysed of each."""
        found = tuple(self._found(source, store) for source in self.sources)
        complete = all(run_id and not there.missing for run_id, there in found)
        return SeriesCube(name=self.name, store=store, complete=complete, study=self, found=found)

    def recorded(self, store: Store) -> bool:
        """Whether the store's record is of the same series."""
        return read_study(store, self.name, "series") == self._record

    def record(self, store: Store) -> None:
        """Put its record as the newest."""
        record_study(store, self._record)

    @property
    def _record(self) -> StudyRecord:
        sources = tuple(source.series.name for source in self.sources)
        return StudyRecord(name=self.name, kind="series", experiment=FOREIGN, sources=sources)

    def clean(self, store: Store) -> None:
        """Nothing: each unit removes what its calls share."""

    @property
    def audit(self) -> dict[str, list[tuple[str, ...]]]:
        """What an audit found, for people, by the place of each series."""
        return {one.series.name: [finding.cells for finding in one.findings or ()] for one in self.sources}

    @property
    def not_analysed(self) -> dict[str, list[tuple[str, str, str]]]:
        """The tensors that are not analysed, by the place of each series: name, shape and why."""
        return {
            one.series.name: [
                (entry.parameter, " x ".join(map(str, entry.shape)), entry.skipped)
                for entry in one.layout.entries
                if entry.skipped
            ]
            for one in self.sources
        }


@dataclass(frozen=True, kw_only=True)
class SeriesCube(RunsCube):
    """The cube of series, each under the identity of its content."""

    study: SeriesStudy
    found: tuple[tuple[str, Analysed], ...]
    """The identity of each series, and what is analysed of it."""

    @property
    def analyses(self) -> tuple[str, ...]:
        """Those asked for, and others that are there."""
        there = {name for _, one in self.found for counting in one.parts.values() for name in counting}
        return tuple(dict.fromkeys([*self.study.analyses, *sorted(there)]))

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The series whose files the store knows."""
        names, analyses = told_apart([source.series.name for source in self.study.sources]), self.analyses
        return [
            Row(
                key=run_id.partition("/")[0],
                status="partial" if one.parts and one.missing else "planned" if one.missing else "done",
                layout_of=functools.partial(_layout, source, analyses),
                coordinates={"series": name},
                settings={"series": name},
                provenance={"source": source.series.name},
                results=run_id,
                parts=counting_variables(one.parts, {}),
            )
            for source, name, (run_id, one) in zip(self.study.sources, names, self.found, strict=True)
            if run_id
        ]

    def again(self, keys: Collection[str] | None = None) -> "SeriesCube":
        """The cube with series looked at again: those of these names, or all."""
        found = tuple(
            self.study._found(source, self.store) if keys is None or source.series.name in keys else before
            for source, before in zip(self.study.sources, self.found, strict=True)
        )
        return replace(self, found=found)

    def attributes(self) -> dict[str, str]:
        """Title, that it is of checkpoints which other programs wrote, and the family of each series."""
        names = told_apart([source.series.name for source in self.study.sources])
        layouts = {name: source.layout for name, source in zip(names, self.study.sources, strict=True)}
        return {
            "title": f"Checkpoints: {self.name}",
            "sweep": self.name,
            **series_attributes(layouts, self.study.sources[0].series.found.unit),
        }


def series_attributes(layouts: Mapping[str, NetworkLayout], unit: str) -> dict[str, str]:
    """What a cube of series says of itself: the family of each, and what steps count."""
    families = {name: [of.family, of.because, *of.told] for name, of in layouts.items()}
    return {"experiment": FOREIGN, "families": json.dumps(families), "unit": unit}


def _seconds(source: Source) -> float:
    """About the time that all checkpoints of a series take on one core."""
    products = sum(20.0 * m * n * min(m, n) for m, n in source.layout.shapes)
    of_one = SECONDS_OF_A_MATRIX * len(source.layout.matrices) + products / PRODUCTS_A_SECOND
    return len(source.series.steps) * of_one


def _layout(source: Source, analyses: tuple[str, ...]) -> RunLayout:
    return run_layout(source.layout, source.series.steps, analyses, {}, {})


def analyse_series(
    workers: Workers, advance: Callable[[int], None], source: Source, analyses: tuple[str, ...], store: Store
) -> Work:
    """Analyse the blocks of one series that are missing; shared factors lie in the store until all is done.

    StoreError where its files change meanwhile.
    """
    series, layout = source.series, source.layout
    contents = series_contents(series, source.place, store)
    run_id = contents.place
    attributes = {
        "run_id": run_id,
        "source": series.name,
        "unit": series.found.unit,
        "audit": as_plain(source.findings or ()),
        "passed_over": [list(pair) for pair in series.found.skipped],
    }
    target = Target(
        folder=store.run_results(FOREIGN, run_id),
        layout=run_layout(layout, series.steps, analyses, {}, attributes),
        contents=contents.of,
    )
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


def told_apart(urls: Sequence[str]) -> list[str]:
    """The shortest endings of different URLs, of whole parts and all of one length, that differ."""
    parts = [url.split("/") for url in urls]
    endings = (["/".join(part[-count:]) for part in parts] for count in itertools.count(1))
    return next(names for names in endings if len(set(names)) == len(urls))


def choose(analyses: Sequence[str] | None) -> tuple[str, ...]:
    """The analyses of that name, or all that need no data; ValueError where one needs data."""
    names = [n for n in default_analyses() if not get_analysis(n).needs_data] if analyses is None else analyses
    for name in names:
        require(not get_analysis(name).needs_data, "analyses", name, "analyses that need no data to evaluate on")
    require(len(names) > 0, "analyses", list(names), "at least one name")
    return tuple(dict.fromkeys(names))


def cube_name(name: str | None, sources: Sequence[str], search: Search | None = None, how: Look | None = None) -> str:
    """The name of the cube: the one given, or one for these sources and options alone."""
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
