"""The stored verdicts that a page shows on its study: the newest of each claim, failures first."""

from collections.abc import Sequence
from dataclasses import dataclass

from specdyn.storage import generations
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.studies import KINDS, cube_of
from specdyn.tasks.verdicts.judging import Verdict
from specdyn.tasks.verdicts.page import counted
from specdyn.tasks.verdicts.storing import kept, newest
from specdyn.tasks.verdicts.tables import NONE, in_order, interval, number


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedLine:
    """One verdict on the page."""

    claim: str
    """Name of the claim, with the version of its rule."""
    state: str
    statement: str
    effect: str
    value: str
    interval: str
    null: str
    n: str
    sentence: str
    exceptions: Sequence[str] = ()
    lost: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdicts on a study as shown on a page."""

    study: str
    counts: str = ""
    """Number of verdicts in each state."""
    decided: Sequence[JudgedLine] = ()
    """Judged claims, failures first."""
    not_run: Sequence[JudgedLine] = ()
    problem: str = ""
    """Why stored verdicts cannot be read."""


def judged_on(store: Store, study: str) -> Judged:
    """The stored verdicts on a study; one listing, and one request per verdict.

    A damaged verdict is reported on the page, which is still made.
    """
    try:
        newest_first = in_order(newest(kept(store, study)))
        cubes = {cube_of(store, study, kind) for kind in KINDS}
        contents = {str(generations.attributes(url).get("contents", "")) for url in cubes} - {""}
    except StoreError as error:
        return Judged(study=study, problem=str(error))
    lines = [_line(one, contents) for one in newest_first]
    return Judged(
        study=study,
        counts=counted(newest_first),
        decided=[line for line in lines if line.state != "not run"],
        not_run=[line for line in lines if line.state == "not run"],
    )


def _line(verdict: Verdict, contents: set[str]) -> JudgedLine:
    earlier = not contents & set(verdict.contents.split(","))
    return JudgedLine(
        claim=f"{verdict.title} v{verdict.version}",
        state=verdict.state,
        statement=verdict.statement,
        effect=verdict.effect or NONE,
        value=number(verdict.value),
        interval=interval(verdict),
        null=number(verdict.null),
        n=str(verdict.n) if verdict.n else NONE,
        sentence=verdict.sentence,
        exceptions=verdict.exceptions,
        lost=verdict.lost,
        notes=(*verdict.notes, *(["based on earlier results than this page"] if earlier else [])),
    )
