"""The cube of series of other programs' checkpoints, identified by their content."""

import functools
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from specdyn.models.spec.run_spec import as_text
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.results import RunLayout
from specdyn.storage.rows import Row
from specdyn.tasks.foreign.labels import Label, Labelled, Labels, not_told_apart
from specdyn.tasks.foreign.metrics import Logged, Metrics
from specdyn.tasks.foreign.names import FOREIGN
from specdyn.tasks.foreign.series import known_contents
from specdyn.tasks.plan.gathering import RunsCube, counting_variables
from specdyn.tasks.plan.runs import Analysed, Block, analysed_checkpoints
from specdyn.tasks.plan.sources import Source
from specdyn.tasks.spectra.network_layout import NetworkLayout, run_layout

ALWAYS_SHOWN = ("weight_decay", "seed")
"""Labels that always become coordinates, whatever their origin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The state of a series in the store."""

    results: str
    """The id of its results; empty if the store does not know its files."""
    analysed: Analysed
    metrics: str
    """URL of its metrics; empty if they are not stored, or it has none."""
    complete: bool
    """Whether everything requested exists."""


def known_of(source: Source, analyses: Sequence[str], store: Store) -> Known:
    """Find what the store has of a series: one record and one listing."""
    contents = known_contents(source.series, source.place, store)
    if contents is None:
        missing: dict[Block, tuple[str, ...]] = {(step,): tuple(analyses) for step in source.series.steps}
        return Known(results="", analysed=Analysed(missing=missing, parts={}), metrics="", complete=False)
    folder = store.run_results(FOREIGN, contents.place)
    names = objects.names(folder)
    found, metrics = analysed_checkpoints(folder, contents.of, analyses, names), source.metrics.part
    return Known(
        results=contents.results,
        analysed=found,
        metrics=f"{folder}/{metrics}" if metrics in names else "",
        complete=not found.missing and (not metrics or metrics in names),
    )


class Described(Protocol):
    """A series with its layers, labels and metrics."""

    @property
    def layout(self) -> NetworkLayout:
        """Its layers."""

    @property
    def labels(self) -> Labels:
        """Its labels."""

    @property
    def logged(self) -> Logged:
        """Its logged metrics."""

    @property
    def metrics(self) -> Metrics:
        """Its metrics as variables of a cube."""


def stand_alone(sources: Sequence[Described]) -> str:
    """Why each series is separate in figures; empty if labels distinguish them."""
    described = [
        Labelled(
            labels=source.labels,
            family=source.layout.family,
            layers=[source.layout.shapes, [layer.name for layer in source.layout.layers]],
        )
        for source in sources
    ]
    return not_told_apart(described)


@dataclass(frozen=True, kw_only=True)
class SeriesCube(RunsCube):
    """The cube of series, identified by their content."""

    sources: tuple[Source, ...]
    asked: tuple[str, ...]
    """The requested analyses."""
    found: tuple[Known, ...]
    """What exists of each series."""

    @property
    def analyses(self) -> tuple[str, ...]:
        """The requested analyses, and others with results."""
        there = {name for one in self.found for counting in one.analysed.parts.values() for name in counting}
        return tuple(dict.fromkeys([*self.asked, *sorted(there)]))

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The series whose files the store knows.

        If labels distinguish them, they are their settings, otherwise each series is separate.
        """
        analyses, told = self.analyses, told_by_labels(dict(zip(self.series, self.sources, strict=True)))
        return [
            replace(
                of_series,
                key=known.results.partition("/")[0],
                status="partial" if known.analysed.parts and not known.complete else STATUS[known.complete],
                layout_of=functools.partial(_layout, source, analyses),
                provenance={"source": source.series.name},
                results=known.results,
                listed=True,
                parts=counting_variables(known.analysed.parts, {})
                | ({known.metrics: frozenset(source.metrics.variables)} if known.metrics else {}),
            )
            for source, of_series, known in zip(self.sources, told, self.found, strict=True)
            if known.results
        ]

    @property
    def series(self) -> list[str]:
        """The name of each series."""
        return told_apart([source.series.name for source in self.sources])

    def again(self, keys: Collection[str] | None = None) -> "SeriesCube":
        """The cube with refreshed series: all, or those with these names."""
        found = tuple(
            known_of(source, self.asked, self.store) if keys is None or source.series.name in keys else before
            for source, before in zip(self.sources, self.found, strict=True)
        )
        return replace(self, found=found)

    def attributes(self) -> dict[str, str]:
        """Title, the family of each series, and the origin of its labels and metrics."""
        described = dict(zip(self.series, self.sources, strict=True))
        unit = self.sources[0].series.found.unit
        return {"title": f"Checkpoints: {self.name}", "sweep": self.name, **series_attributes(described, unit)}


def series_attributes(series: Mapping[str, Described], unit: str) -> dict[str, str]:
    """Attributes of a cube of series, given by name.

    These are the family of each, the unit of steps, and the origin of labels and metrics.
    """
    families = {name: [of.layout.family, of.layout.because, *of.layout.told] for name, of in series.items()}
    labels = {
        name: {label: [value, of.labels.origins[label]] for label, value in of.labels.values.items()}
        for name, of in series.items()
        if of.labels.values
    }
    metrics = {
        name: [*of.logged.where, *of.logged.told, *of.metrics.told] for name, of in series.items() if of.logged.files
    }
    return {
        "experiment": FOREIGN,
        "families": json.dumps(families),
        "unit": unit,
        **({"labels": json.dumps(labels)} if labels else {}),
        **({"metrics": json.dumps(metrics)} if metrics else {}),
    }


def told_by_labels(series: Mapping[str, Described]) -> list[Row]:
    """A row without values for each series, given by name.

    Labels are settings; if they do not distinguish all series, each is identified by its name.
    """
    own = bool(stand_alone(list(series.values())))
    return [
        Row(
            key=name,
            status="planned",
            layout_of=functools.partial(_no_layout, name),
            coordinates={**({"series": name} if own else {"family": of.layout.family}), **labels},
            names={} if own else {"series": name},
            settings={"series": name, "family": of.layout.family, **of.labels.values},
        )
        for (name, of), labels in zip(series.items(), _shown([of.labels for of in series.values()]), strict=True)
    ]


def _no_layout(name: str) -> RunLayout:
    raise AssertionError(f"the row of {name} has no layout yet")


def _shown(every: Sequence[Labels]) -> list[dict[str, Label]]:
    """The labels of each series that become coordinates: explicit ones, and others in which series differ."""
    texts = [{name: as_text(value) for name, value in labels.values.items()} for labels in every]
    names = dict.fromkeys(name for labels in every for name in labels.values)
    by_hand = {*ALWAYS_SHOWN, *(name for labels in every for name in labels.by_hand)}
    shown = [name for name in names if name in by_hand or len({of.get(name) for of in texts}) > 1]
    return [{name: labels.values[name] for name in shown if name in labels.values} for labels in every]


STATUS = {True: "done", False: "planned"}
"""Status of a fully analysed series, and of one without results."""


def _layout(source: Source, analyses: tuple[str, ...]) -> RunLayout:
    layout = run_layout(source.layout, source.series.steps, analyses, {}, {})
    return replace(layout, variables={**layout.variables, **source.metrics.variables})


def told_apart(urls: Sequence[str]) -> list[str]:
    """The shortest distinct suffixes of different URLs, all with the same number of path parts."""
    parts = [url.split("/") for url in urls]
    endings = (["/".join(part[-count:]) for part in parts] for count in itertools.count(1))
    return next(names for names in endings if len(set(names)) == len(urls))
