"""Series of checkpoints that other programs wrote, each with how its layers are looked at."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.found import Search
from specdyn.tasks.foreign.findings import Finding
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.foreign.weights.resolved import ReadSeries
from specdyn.tasks.spectra.network_layout import NetworkLayout


class AuditFailed(ValueError):
    """A series cannot be analysed as it is: says what is wrong with which checkpoint."""


@dataclass(frozen=True, slots=True)
class Source:
    """A series and how its layers are looked at."""

    series: ReadSeries
    layout: NetworkLayout
    search: Search
    how: Look
    findings: tuple[Finding, ...] | None = None
    """What an audit found; None before it."""

    @property
    def place(self) -> list[Any]:
        """What decides the matrices beside the files: which weights, how they are made, and what pairs there are."""
        layout, choice = self.layout, self.search.choice
        layers, pairs = [asdict(layer) for layer in layout.layers], [asdict(pair) for pair in layout.pairs]
        ways = [entry.way for entry in layout.entries]
        return [layout.shapes, layers, pairs, ways, choice.weights, choice.part, self.series.found.unit]

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
        return replace(self, series=series, layout=series.layout(self.how), findings=findings)

    def _first_error(self) -> str:
        return next(one.what for one in self.findings or () if one.severity == "error")

    def looked_at_again(self) -> "Source":
        """The checkpoints that are there now."""
        return look(self.series.name, self.search, self.how)


def look(source: str, search: Search | None = None, how: Look | None = None) -> Source:
    """Find the checkpoints of a source and its layers."""
    search, how = search or Search(), how or Look()
    series = ReadSeries(find_checkpoints(source, search=search), search.choice.weights)
    return Source(series, series.layout(how), search, how)


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
