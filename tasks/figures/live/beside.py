"""Information about a study that its page shows besides the results."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from specdyn.storage.places import Store
from specdyn.storage.studies import records_of
from specdyn.tasks.figures.live.judged import Judged, judged_on
from specdyn.tasks.ledger.stored import Stored, stored_by
from specdyn.tasks.ledger.summary import took_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What the store holds about a study besides its results."""

    took: Sequence[Sequence[str]] = ()
    """A table of the work's cost, headings first."""
    judged: Judged | None = None
    """The verdicts on the study; None if they were not looked up."""
    stored: Stored = field(default_factory=Stored)
    """Facts about the runs from the store."""


NOTHING = Beside()
"""Used if only the results are known."""


def look_beside(store: Store, study: str, cubes: Iterable[str]) -> dict[str, Beside]:
    """What the store holds about a study, by the URL of each of its cubes; StoreError if a record is damaged."""
    records = records_of(store, study)
    took, judged = took_by(store, records), judged_on(store, study)
    return {cube: Beside(took=took, judged=judged, stored=stored_by(store, records, cube)) for cube in cubes}
