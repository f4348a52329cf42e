"""Finds series of other programs' checkpoints, with their layers, labels and metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.found import Search
from specdyn.storage.foreign.logged import find_log, given_log
from specdyn.tasks.foreign.findings import Finding
from specdyn.tasks.foreign.labels import Labels, labels_of, require_alike
from specdyn.tasks.foreign.metrics import Logged, Metrics, logged_at, metrics_of
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.foreign.weights.resolved import ReadSeries
from specdyn.tasks.spectra.network_layout import NetworkLayout


class AuditFailed(ValueError):
    """A series cannot be analysed as it is; the message says what is wrong with which checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Labels and metrics given in a call."""

    labels: Mapping[str, Any] = field(default_factory=dict)
    """Labels of every series."""
    metrics: str = ""
    """The file or folder of metrics of a single series; empty to use what is found next to it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A series, how its layers are read, and its labels and metrics."""

    series: ReadSeries
    layout: NetworkLayout
    search: Search
    how: Look
    given: Given = Given()
    labels: Labels = Labels()  # noqa: RUF009 - frozen
    logged: Logged = Logged()  # noqa: RUF009 - frozen
    metrics: Metrics = Metrics()  # noqa: RUF009 - frozen
    """Metrics as variables, consistent among the series of a call."""
    findings: tuple[Finding, ...] | None = None
    """Findings of the audit; None before it."""

    @property
    def place(self) -> list[Any]:
        """What determines the matrices besides the files: choice of weights, recipes, and pairs."""
        layout, choice = self.layout, self.search.choice
        layers, pairs = [asdict(layer) for layer in layout.layers], [asdict(pair) for pair in layout.pairs]
        ways = [entry.way for entry in layout.entries]
        return [layout.shapes, layers, pairs, ways, choice.weights, choice.part, self.series.found.unit]

    @property
    def described(self) -> tuple[str, ...]:
        """Description of the network and its training for display."""
        files = ", ".join(self.logged.where)
        metrics = [f"metrics: {', '.join(self.metrics.variables)} ({files})"] if self.metrics.variables else []
        return (*self.layout.described, *self.labels.described, *metrics, *self.logged.told, *self.metrics.told)

    def without_errors(self) -> "Source":
        """The series without checkpoints in which the audit found an error; AuditFailed if none is left."""
        errors = {step: one for one in self.findings or () if one.severity == "error" for step in one.steps}
        if not errors:
            return self
        found, names = self.series.found, {one.step: one.name for one in self.series.found.checkpoints}
        kept = tuple(one for one in found.checkpoints if one.step not in errors)
        if not kept:
            raise AuditFailed(f"{found.url}: no checkpoint is left without an error, such as: {self._first_error()}")
        skipped = tuple((names[step], f"damaged: {one.what}") for step, one in errors.items() if step in names)
        series = replace(self.series, found=replace(found, checkpoints=kept, skipped=(*found.skipped, *skipped)))
        findings = tuple(
            replace(one, severity="warning", advice="left out") if one.severity == "error" else one
            for one in self.findings or ()
        )
        metrics = self.metrics.of(series.steps)
        return replace(self, series=series, layout=series.layout(self.how), metrics=metrics, findings=findings)

    def _first_error(self) -> str:
        return next(one.what for one in self.findings or () if one.severity == "error")


def look(source: str, search: Search | None = None, how: Look | None = None) -> Source:
    """Find the checkpoints of a source, its layers, and the files next to the checkpoints."""
    return look_at([source], search or Search(), how or Look())[0]


def look_at(urls: Sequence[str], search: Search, how: Look, given: Given | None = None) -> tuple[Source, ...]:
    """Find the checkpoints at several URLs, for one cube.

    ValueError if their steps have different units, labels or metrics are invalid, or it is unclear to which of several
    series a file of metrics belongs.
    """
    given = given or Given()
    found = [_look(url, search, how, given, alone=len(urls) == 1) for url in urls]
    require_one_unit(found)
    require_alike({one.series.name: one.labels for one in found})
    labels = {name for one in found for name in one.labels.values}
    metrics = metrics_of([one.logged for one in found], labels)
    return tuple(replace(one, metrics=of) for one, of in zip(found, metrics, strict=True))


def look_again(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Find the present checkpoints with the same options."""
    first = sources[0]
    return look_at([source.series.name for source in sources], first.search, first.how, first.given)


def _look(url: str, search: Search, how: Look, given: Given, alone: bool) -> Source:
    found = find_checkpoints(url, search=search)
    series = ReadSeries(found, search.choice.weights)
    labels, logged = labels_of(found, given.labels), logged_of(series, given.metrics, alone)
    return Source(series, series.layout(how), search, how, given, labels, logged)


def logged_of(series: ReadSeries, metrics: str, alone: bool) -> Logged:
    """The metrics at the checkpoints of a series: from the given file, or from files next to them."""
    log = given_log(metrics, series.found, alone) if metrics else find_log(series.found)
    return logged_at(log, series.steps, series.found.unit)


def require_sound(sources: Sequence[Source]) -> None:
    """Raise AuditFailed if one of the findings is an error."""
    errors = [(one.series.name, f) for one in sources for f in one.findings or () if f.severity == "error"]
    if errors:
        lines = "\n".join(f"  {where} step {f.steps[0]} {f.tensor}: {f.what}; {f.advice}" for where, f in errors[:20])
        raise AuditFailed(f"{len(errors)} checkpoints or tensors cannot be analysed:\n{lines}")


def require_one_unit(sources: Sequence[Source]) -> None:
    """Raise ValueError if series have different units, such as steps and epochs, without a common axis."""
    first = sources[0].series.found
    for source in sources[1:]:
        found = source.series.found
        if found.unit != first.unit:
            raise ValueError(
                f"{first.url} counts {first.unit} and {found.url} {found.unit}: analyse them under separate names, "
                "or give --steps-per-epoch or a --pattern"
            )


def audit_of(sources: Sequence[Source]) -> dict[str, list[tuple[str, ...]]]:
    """Findings of the audits for display, by the URL of each series."""
    return {one.series.name: [finding.cells for finding in one.findings or ()] for one in sources}


def left_out_of(sources: Sequence[Source]) -> dict[str, list[tuple[str, str, str]]]:
    """The tensors that are not analysed, by the URL of each series: name, shape and reason."""
    return {
        one.series.name: [
            (entry.parameter, " x ".join(map(str, entry.shape)), entry.skipped)
            for entry in one.layout.entries
            if entry.skipped
        ]
        for one in sources
    }
