"""What a flow returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from specdyn.tasks.plan.plan import Results, Study
from specdyn.tasks.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a study has after a call, where it lies, and what the call did."""

    name: str
    store: str
    summary: str = ""
    """The plan that was made, in a sentence; empty where a look showed that nothing is to do."""
    todo: Sequence[str] = ()
    """The labels of what is left, where only a plan was asked for."""
    ran: Sequence[str] = ()
    """The labels of the units that the call has done, each once."""
    finished: int = 0
    """Runs, pairs, tickets or series that the call has brought to their end."""
    work: Work = field(default_factory=Work)
    """What they did."""
    cube: str = ""
    """Where the results lie; empty where nothing is measured."""
    measured: int = 0
    """Runs, pairs, tickets or series in it."""
    rebuilt: bool = False
    """Whether the call wrote the cube."""
    report: Sequence[str] = ()
    """The URL of the page; none where none was asked for."""
    audit: Mapping[str, Sequence[tuple[str, ...]]] = field(default_factory=dict)
    """What an audit found, by the place of each series."""
    not_analysed: Mapping[str, Sequence[tuple[str, str, str]]] = field(default_factory=dict)
    """Tensors that are not analysed, by the place of each series."""


def outcome_of(study: Study, outcome: Outcome, results: Results, report: bool, built: bool) -> Outcome:
    """The outcome with what is known of the study's inputs, and with its results where there are some.

    AuditFailed where series that were to be audited, and are not yet, cannot be analysed as they are.
    """
    if study.kind == "series":
        from specdyn.tasks.plan.series import SeriesStudy

        assert isinstance(study, SeriesStudy)
        sound = study.sound()
        outcome = replace(outcome, audit=sound.audit, not_analysed=sound.not_analysed)
    if not results.measured:
        return outcome
    pages = tuple(results.report) if report else ()
    return replace(outcome, cube=results.url, measured=results.measured, rebuilt=built, report=pages)
