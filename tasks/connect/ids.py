"""Ids of what is measured of ends, lines and tickets: each has the digest of all that decides the values."""

from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import Manifest
from specdyn.storage.identity import short_digest
from specdyn.tasks.connect.pair import VERSION, Pair
from specdyn.tasks.identity import data_of

TICKET_VERSION = 1
"""To be raised when stored values of tickets mean something else."""


def end_id(manifest: Manifest, data: str) -> str:
    """The id of what is measured of a run's last checkpoint on the data of that key: it says of which weights."""
    return f"{manifest.run_id}-{data}-{short_digest(manifest.checkpoints[-1].sha256, VERSION)}"


def line_id(pair: Pair, a: Manifest, b: Manifest) -> str:
    """The id of what is measured between two runs: it says between which weights, and on which data."""
    ends = [manifest.checkpoints[-1].sha256 for manifest in (a, b)]
    return f"{pair.pair_id}-{short_digest(ends, data_of(pair.a))}"


def comparison_id(spec: RunSpec, own: Manifest, dense: Manifest) -> str:
    """The id of what is measured of a ticket: it says of which weights, its own, the dense run's and the mask's."""
    return f"{spec.run_id}-{short_digest(own.digest, own.origins, dense.digest, data_of(spec), TICKET_VERSION)}"
