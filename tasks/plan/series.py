"""Series of checkpoints that other programs wrote, as a study: audited, analysed, gathered in one cube."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from specdyn.models.spec.checks import require
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError, delete
from specdyn.storage.foreign.content import refreshed
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.tasks.foreign.audit import Finding, as_plain, audit
from specdyn.tasks.foreign.names import FOREIGN, TRANSPOSED
from specdyn.tasks.foreign.series import ForeignSeries, known_id, read_layout, series_id
from specdyn.tasks.plan.gathering import RunsCube, contents_of
from specdyn.tasks.plan.names import name_of_series, require_name
from specdyn.tasks.plan.plan import Item
from specdyn.tasks.plan.runs import analyse_blocks, lacking
from specdyn.tasks.plan.units import Unit, Workers
from specdyn.tasks.spectra.analysis import default_analyses, get_analysis
from specdyn.tasks.spectra.network_layout import NetworkLayout, run_layout
from specdyn.tasks.spectra.one_pass import Target
from specdyn.tasks.work import Work

if TYPE_CHECKING:
    from specdyn.storage.members import Member


class AuditFailed(ValueError):
    """A series cannot be analysed as it is: says what is wrong with which checkpoint."""


@dataclass(frozen=True, slots=True)
class Source:
    """A series and how its layers are looked at."""

    series: ForeignSeries
    layout: NetworkLayout
    pattern: str | None
    heads: int
    transposed: str
    findings: tuple[Finding, ...] | None = None
    """What an audit found; None before it."""

    def looked_at_again(self) -> "Source":
        """The checkpoints that are there now."""
        return look(self.series.name, self.pattern, self.heads, self.transposed)


def look(source: str, pattern: str | None = None, heads: int = 0, transposed: str = TRANSPOSED) -> Source:
    """Find the checkpoints of a source and its layers."""
    series = ForeignSeries(find_checkpoints(source, pattern))
    return Source(series, read_layout(series, heads, transposed), pattern, heads, transposed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStudy:
    """Series of checkpoints whose results lie in one cube."""

    name: str
    sources: tuple[Source, ...]
    analyses: tuple[str, ...]
    audited: bool
    """Whether every tensor is read once before anything is analysed."""

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

    def checked(self, store: Store, asks: bool = False) -> "SeriesStudy":
        """The study with the checkpoints that are there now, audited; as it is where a call only `asks`."""
        if asks:
            return self
        return replace(self, sources=tuple(source.looked_at_again() for source in self.sources)).sound()

    def sound(self) -> "SeriesStudy":
        """The study with what is wrong with its checkpoints, audited where it is asked for and not done yet.

        AuditFailed where one of the findings is an error.
        """
        if not self.audited or all(one.findings is not None for one in self.sources):
            return self
        sources = tuple(replace(one, findings=audit(one.series, one.layout)) for one in self.sources)
        require_sound(sources)
        return replace(self, sources=sources)

    def items(self, store: Store, retry_failed: bool = False, whole: bool = True) -> list[Item]:
        """The analysis of each series; one that has files which the store does not know is as good as new."""
        return [self._item(source, store) for source in self.sources]

    def _item(self, source: Source, store: Store) -> Item:
        steps, run_id = source.series.steps, known_id(source.series, source.layout, store)
        left = len(steps)
        if run_id:
            left = sum(map(len, lacking(store.commits(FOREIGN, run_id), steps, self.analyses)))
        unit = Unit(
            kind="analyses",
            key=source.series.name,
            label=source.series.name,
            needs=(),
            function=analyse_series,
            arguments=(source, self.analyses, store),
            log=short_digest(source.series.name),
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

    def cube(self, store: Store) -> str:
        """Where its cube lies."""
        return store.cube(self.name)

    def results(self, store: Store) -> "SeriesCube":
        """The cube of the series that are analysed."""
        known = [(source, known_id(source.series, source.layout, store)) for source in self.sources]
        ids = tuple((source, run_id) for source, run_id in known if run_id)
        complete = len(ids) == len(known) and not any(
            lacking(store.commits(FOREIGN, run_id), source.series.steps, self.analyses) for source, run_id in ids
        )
        return SeriesCube(name=self.name, store=store, complete=complete, study=self, ids=ids)

    def recorded(self, store: Store) -> bool:
        """Always: its cube says all that belongs to it."""
        return True

    def record(self, store: Store) -> None:
        """Nothing: its cube says all that belongs to it."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesCube(RunsCube):
    """The cube of series, each under the identity of its content; written once all are analysed."""

    study: SeriesStudy
    ids: tuple[tuple[Source, str], ...]
    """The identity of each series whose files the store knows."""

    @property
    def measured(self) -> int:
        """Series in the cube."""
        return len(self.ids) if self.complete else 0

    @property
    def contents(self) -> str:
        """The series by their identities, and all versions."""
        return contents_of([run_id for _, run_id in self.ids], self.study.analyses)

    def members(self) -> "list[Member]":
        """The series."""
        from specdyn.storage.members import Member

        names = told_apart([source.series.name for source, _ in self.ids])
        return [
            Member(
                run_id=run_id,
                url=self.store.run_store(FOREIGN, run_id),
                hyperparameters={"series": name},
                provenance={"source": source.series.name},
            )
            for (source, run_id), name in zip(self.ids, names, strict=True)
        ]

    def attributes(self) -> dict[str, str]:
        """Title, and that it is of checkpoints which other programs wrote."""
        return {"title": f"Checkpoints: {self.name}", "sweep": self.name, "experiment": FOREIGN}


def analyse_series(
    workers: Workers, advance: Callable[[int], None], source: Source, analyses: tuple[str, ...], store: Store
) -> Work:
    """Analyse the blocks of one series that are missing; shared factors lie in the store until all is done.

    StoreError where its files change meanwhile.
    """
    series, layout = source.series, source.layout
    run_id = series_id(series, layout, store)
    target = Target(
        url=store.run_store(FOREIGN, run_id),
        commits=store.commits(FOREIGN, run_id),
        layout=run_layout(
            layout,
            series.steps,
            analyses,
            {},
            {
                "run_id": run_id,
                "source": series.name,
                "hyperparameters": {"series": series.name.rsplit("/", 1)[-1], "source": series.name},
                "audit": as_plain(source.findings or ()),
                "passed_over": [list(pair) for pair in series.found.skipped],
            },
        ),
    )
    if not (missing := lacking(target.commits, series.steps, analyses)):
        return Work()
    kept = f"{target.commits.removesuffix('.commits')}.factors"
    work = analyse_blocks(workers, advance, series, layout, target, missing, kept)
    delete(kept)
    if series_id(ForeignSeries(refreshed(series.found)), layout, store) != run_id:
        delete(target.commits)
        raise StoreError(f"{series.name} changed during the analysis; run the command again once nothing writes there")
    return work


def require_sound(sources: Sequence[Source]) -> None:
    """Raise AuditFailed where one of the findings is an error."""
    errors = [(one.series.name, f) for one in sources for f in one.findings or () if f.severity == "error"]
    if errors:
        lines = "\n".join(f"  {where} step {f.steps[0]} {f.tensor}: {f.what}; {f.advice}" for where, f in errors[:20])
        raise AuditFailed(f"{len(errors)} checkpoints or tensors cannot be analysed:\n{lines}")


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


def cube_name(
    name: str | None, sources: Sequence[str], pattern: str = "", heads: int = 0, transposed: str = TRANSPOSED
) -> str:
    """The name of the cube: the one given, or one for these sources and options alone."""
    require(len(sources) > 0, "sources", list(sources), "at least one folder or URL")
    options: dict[str, tuple[Any, Any]] = {
        "heads": (heads, 0),
        "pattern": (pattern, ""),
        "transposed": (transposed, TRANSPOSED),
    }
    changed = {option: value for option, (value, usual) in options.items() if value != usual}
    chosen = name or name_of_series([objects.normalise(source) for source in sources], changed)
    require_name("name", chosen)
    return chosen
