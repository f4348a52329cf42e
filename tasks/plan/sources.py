"""Series of checkpoints that other programs wrote, each with how its layers are looked at."""

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
    """A series cannot be analysed as it is: says what is wrong with which checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a call says of its series."""

    labels: Mapping[str, Any] = field(default_factory=dict)
    """Of every one."""
    metrics: str = ""
    """The file, or the folder, of metrics of the only one; empty for what is found beside it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A series, how its layers are looked at, and what is known of its training."""

    series: ReadSeries
    layout: NetworkLayout
    search: Search
    how: Look
    given: Given = Given()
    labels: Labels = Labels()  # noqa: RUF009 - frozen
    logged: Logged = Logged()  # noqa: RUF009 - frozen
    metrics: Metrics = Metrics()  # noqa: RUF009 - frozen
    """What is logged, as variables that agree among the series of a call."""
    findings: tuple[Finding, ...] | None = None
    """What an audit found; None before it."""

    @property
    def place(self) -> list[Any]:
        """What decides the matrices beside the files: which weights, how they are made, and what pairs there are."""
        layout, choice = self.layout, self.search.choice
        layers, pairs = [asdict(layer) for layer in layout.layers], [asdict(pair) for pair in layout.pairs]
        ways = [entry.way for entry in layout.entries]
        return [layout.shapes, layers, pairs, ways, choice.weights, choice.part, self.series.found.unit]

    @property
    def described(self) -> tuple[str, ...]:
        """For people, what is known of the network and of its training."""
        files = ", ".join(self.logged.where)
        metrics = [f"metrics: {', '.join(self.metrics.variables)} ({files})"] if self.metrics.variables else []
        return (*self.layout.described, *self.labels.described, *metrics, *self.logged.told, *self.metrics.told)

    def without_errors(self) -> "Source":
        """The series without the checkpoints that an audit found an error in; AuditFailed where none is left."""
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
    """Find the checkpoints of a source, its layers, and what lies beside the checkpoints."""
    return look_at([source], search or Search(), how or Look())[0]


def look_at(urls: Sequence[str], search: Search, how: Look, given: Given | None = None) -> tuple[Source, ...]:
    """Find the checkpoints of several places, which one cube is to have.

    ValueError where they count different things, where labels or metrics are not what they should be, and where it is
    not known which of several series a file of metrics is of.
    """
    given = given or Given()
    found = [_look(url, search, how, given, alone=len(urls) == 1) for url in urls]
    require_one_unit(found)
    require_alike({one.series.name: one.labels for one in found})
    labels = {name for one in found for name in one.labels.values}
    metrics = metrics_of([one.logged for one in found], labels)
    return tuple(replace(one, metrics=of) for one, of in zip(found, metrics, strict=True))


def look_again(sources: Sequence[Source]) -> tuple[Source, ...]:
    """The checkpoints that are there now, looked at as before."""
    first = sources[0]
    return look_at([source.series.name for source in sources], first.search, first.how, first.given)


def _look(url: str, search: Search, how: Look, given: Given, alone: bool) -> Source:
    found = find_checkpoints(url, search=search)
    series = ReadSeries(found, search.choice.weights)
    labels, logged = labels_of(found, given.labels), logged_of(series, given.metrics, alone)
    return Source(series, series.layout(how), search, how, given, labels, logged)


def logged_of(series: ReadSeries, metrics: str, alone: bool) -> Logged:
    """What was logged at the checkpoints of a series: in a file of metrics, or else in what lies beside them."""
    log = given_log(metrics, series.found, alone) if metrics else find_log(series.found)
    return logged_at(log, series.steps, series.found.unit)


def require_sound(sources: Sequence[Source]) -> None:
    """Raise AuditFailed where one of the findings is an error."""
    errors = [(one.series.name, f) for one in sources for f in one.findings or () if f.severity == "error"]
    if errors:
        lines = "\n".join(f"  {where} step {f.steps[0]} {f.tensor}: {f.what}; {f.advice}" for where, f in errors[:20])
        raise AuditFailed(f"{len(errors)} checkpoints or tensors cannot be analysed:\n{lines}")


def require_one_unit(sources: Sequence[Source]) -> None:
    """Raise ValueError where series count different things, such as steps and epochs, which have no common axis."""
    first = sources[0].series.found
    for source in sources[1:]:
        found = source.series.found
        if found.unit != first.unit:
            raise ValueError(
                f"{first.url} counts {first.unit} and {found.url} {found.unit}: analyse them under names of their own, "
                "or give --steps-per-epoch or a --pattern"
            )


def audit_of(sources: Sequence[Source]) -> dict[str, list[tuple[str, ...]]]:
    """What an audit found, for people, by the place of each series."""
    return {one.series.name: [finding.cells for finding in one.findings or ()] for one in sources}


def left_out_of(sources: Sequence[Source]) -> dict[str, list[tuple[str, str, str]]]:
    """The tensors that are not analysed, by the place of each series: name, shape and why."""
    return {
        one.series.name: [
            (entry.parameter, " x ".join(map(str, entry.shape)), entry.skipped)
            for entry in one.layout.entries
            if entry.skipped
        ]
        for one in sources
    }
