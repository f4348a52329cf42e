"""Outcome: the return value of a flow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from specdyn.storage.places import Store
from specdyn.tasks.plan.here import DoneHere
from specdyn.tasks.plan.plan import Results, Study
from specdyn.tasks.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The results of a study after a call, their URLs, and what the call did."""

    name: str
    store: str
    summary: str = ""
    """The plan in one sentence; empty if nothing was to do."""
    todo: Sequence[str] = ()
    """The labels of what is left, if only a plan was requested."""
    ran: Sequence[str] = ()
    """Labels of the units finished by the call, without repetition."""
    finished: int = 0
    """Runs, pairs, tickets or series finished by the call."""
    work: Work = field(default_factory=Work)
    """The work done by the units."""
    cube: str = ""
    """URL of the results; empty if nothing is measured."""
    measured: int = 0
    """Runs, pairs, tickets or series in the results."""
    rebuilt: bool = False
    """Whether the call wrote the cube."""
    report: Sequence[str] = ()
    """URL of the report's page; None if none was requested."""
    audit: Mapping[str, Sequence[tuple[str, ...]]] = field(default_factory=dict)
    """Findings of the audit, by the URL of each series."""
    not_analysed: Mapping[str, Sequence[tuple[str, str, str]]] = field(default_factory=dict)
    """Tensors that are not analysed, by the URL of each series."""


def outcome_here(did: DoneHere, store: Store, report: bool) -> tuple[Outcome, str]:
    """The outcome of a call that this process did, and its failures; AuditFailed as in `outcome_of`."""
    outcome = Outcome(name=did.study.name, store=store.url, ran=tuple(unit.label for unit in did.done), work=did.work)
    failures = "\n".join(f"{what}: {why}" for what, why in did.failures.items())
    return outcome_of(did.study, outcome, did.results, report, did.built), failures


def outcome_of(study: Study, outcome: Outcome, results: Results, report: bool, built: bool) -> Outcome:
    """The outcome, completed with the study's inputs and, if there are any, its results.

    AuditFailed if the audit of series finds that they cannot be analysed as they are.
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
