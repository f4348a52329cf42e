"""What a page says of a study beside its results."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from specdyn.storage.places import Store
from specdyn.storage.studies import records_of
from specdyn.tasks.figures.live.judged import Judged, judged_on
from specdyn.tasks.ledger.stored import Stored, stored_by
from specdyn.tasks.ledger.summary import took_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What the store has on a study, apart from its results."""

    took: Sequence[Sequence[str]] = ()
    """A table of what the work took, its headings first."""
    judged: Judged | None = None
    """The verdicts on the study; None where nobody looked for them."""
    stored: Stored = field(default_factory=Stored)
    """What the store holds of the runs."""


NOTHING = Beside()
"""Where only the results are known."""


def look_beside(store: Store, study: str, cubes: Iterable[str]) -> dict[str, Beside]:
    """What the store has on a study, beside each of its cubes, by their URL; StoreError where a record is damaged."""
    records = records_of(store, study)
    took, judged = took_by(store, records), judged_on(store, study)
    return {cube: Beside(took=took, judged=judged, stored=stored_by(store, records, cube)) for cube in cubes}
