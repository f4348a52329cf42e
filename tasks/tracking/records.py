"""What a store says of runs that were sent to trackers: where each is there, and which of its numbers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from specdyn.storage.access import objects
from specdyn.storage.places import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRecord:
    """What was sent of a run, or is being sent: it is put before the numbers go, so that none goes twice."""

    where: str
    results: str = ""
    """What the values are of, as the cube says."""
    contents: str = ""
    """Of the values that were sent when the run was done; empty before."""
    steps: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """By name of the numbers."""

    def encoded(self) -> bytes:
        """As an object of the store."""
        steps = {name: sorted(of) for name, of in self.steps.items()}
        plain = {"where": self.where, "results": self.results, "contents": self.contents, "steps": steps}
        return json.dumps(plain).encode()


def sent_record(store: Store, tracker: str, study: str, experiment: str, run_id: str) -> str:
    """The object that says where a run of a study is in a tracker; it goes with the run's logs."""
    return f"{store.logs(experiment, run_id)}/sent-to-{tracker}-{study}.json"


def read_sent(url: str) -> SentRecord | None:
    """What such an object says; None where there is none, or something else."""
    try:
        found = json.loads(objects.read(url))
        steps = {str(name): frozenset(map(int, of)) for name, of in found.get("steps", {}).items()}
        texts = {name: str(found.get(name, "")) for name in ("where", "results", "contents")}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None
    return SentRecord(steps=steps, **texts)
