"""Records in the store of what was sent to trackers: the run's location there, and the steps of its numbers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from specdyn.storage.access import objects
from specdyn.storage.places import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRecord:
    """What was or is being sent of a run; written before the numbers are sent, so that none is sent twice."""

    where: str
    results: str = ""
    """The contents of the cube's values."""
    contents: str = ""
    """Digest of the values sent when the run was done; empty before."""
    steps: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Sent steps, by name of the number."""

    def encoded(self) -> bytes:
        """The record as bytes."""
        steps = {name: sorted(of) for name, of in self.steps.items()}
        plain = {"where": self.where, "results": self.results, "contents": self.contents, "steps": steps}
        return json.dumps(plain).encode()


def sent_record(store: Store, tracker: str, study: str, experiment: str, run_id: str) -> str:
    """URL of the record of a study's run in a tracker; removed with the run's logs."""
    return f"{store.logs(experiment, run_id)}/sent-to-{tracker}-{study}.json"


def read_sent(url: str) -> SentRecord | None:
    """The record; None if it is missing or invalid."""
    try:
        found = json.loads(objects.read(url))
        steps = {str(name): frozenset(map(int, of)) for name, of in found.get("steps", {}).items()}
        texts = {name: str(found.get(name, "")) for name in ("where", "results", "contents")}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None
    return SentRecord(steps=steps, **texts)
