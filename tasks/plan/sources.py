"""Series of checkpoints with what is to be done on them; whether a call that analyses them has anything to do."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.places import Store
from specdyn.tasks.foreign.audit import Finding, audit
from specdyn.tasks.foreign.names import FOREIGN
from specdyn.tasks.foreign.series import ForeignSeries, known_id, read_layout
from specdyn.tasks.plan.contents import contents_of, drawn, stored_contents
from specdyn.tasks.plan.planning import lacking
from specdyn.tasks.spectra.network_layout import NetworkLayout


class AuditFailed(ValueError):
    """A series cannot be analysed as it is: says what is wrong with which checkpoint."""


@dataclass(frozen=True, slots=True)
class Source:
    """A series with what is to be done on it."""

    series: ForeignSeries
    body: NetworkLayout
    findings: tuple[Finding, ...] = ()
    """What an audit found; none before it."""
    run_id: str = ""
    """The identity of what is measured, which takes the content of all checkpoints; empty until they are read."""

    @property
    def labels(self) -> dict[str, str]:
        """What stands for hyper-parameters: the place, and the last part of it."""
        return {"series": self.series.name.rsplit("/", 1)[-1], "source": self.series.name}


def look(source: str, pattern: str | None, heads: int, transposed: str) -> Source:
    """Find the checkpoints of a source and its layers."""
    series = ForeignSeries(find_checkpoints(source, pattern))
    return Source(series, read_layout(series, heads, transposed))


def checked(sources: Sequence[Source], audited: bool) -> list[Source]:
    """The sources, with what is wrong with each where they are to be audited, which reads every tensor once."""
    return [replace(one, findings=audit(one.series, one.body)) if audited else one for one in sources]


def require_sound(found: Sequence[Source]) -> None:
    """Raise AuditFailed where one of the findings is an error."""
    errors = [(s.series.name, f) for s in found for f in s.findings if f.severity == "error"]
    if errors:
        lines = "\n".join(f"  {where} step {f.steps[0]} {f.tensor}: {f.what}; {f.advice}" for where, f in errors[:20])
        raise AuditFailed(f"{len(errors)} checkpoints or tensors cannot be analysed:\n{lines}")


def told_apart(urls: Sequence[str]) -> list[str]:
    """The shortest endings of different URLs, of whole parts and all of one length, that differ."""
    parts = [url.split("/") for url in urls]
    endings = (["/".join(part[-count:]) for part in parts] for count in itertools.count(1))
    return next(names for names in endings if len(set(names)) == len(urls))


def missing_of(source: Source, store: Store, analyses: Sequence[str]) -> dict[tuple[int, ...], tuple[str, ...]]:
    """Blocks of a source whose content is known, each with the analyses that it lacks."""
    return lacking(store.commits(FOREIGN, source.run_id), source.series.steps, analyses)


def finished_sources(
    name: str, found: Sequence[Source], store: Store, analyses: Sequence[str], report: bool
) -> list[Source]:
    """The sources with their identities, where the store has all that a call asks of them; none where it lacks some.

    Reads only; files that the store does not know are not read.
    """
    known = [(source, known_id(source.series, source.body, store)) for source in found]
    whole = [replace(source, run_id=run_id) for source, run_id in known if run_id]
    if len(whole) < len(found) or any(missing_of(source, store, analyses) for source in whole):
        return []
    contents = contents_of([source.run_id for source in whole], analyses)
    gathered = stored_contents(store.cube(name)) == contents
    return whole if gathered and (not report or drawn(store.report(name), contents)) else []


def told(found: Sequence[Source]) -> dict[str, Any]:
    """For people, by the place of each series: what an audit found, and the tensors that are not analysed."""
    return {
        "audit": {s.series.name: [finding.cells for finding in s.findings] for s in found},
        "left_out": {
            s.series.name: [
                (e.parameter, " x ".join(map(str, e.shape)), e.skipped) for e in s.body.entries if e.skipped
            ]
            for s in found
        },
    }
