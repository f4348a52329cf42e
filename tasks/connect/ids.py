"""Ids of the results of ends, lines and tickets: each includes a digest of everything that determines the values."""

from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import Manifest
from specdyn.storage.identity import short_digest
from specdyn.tasks.connect.pair import VERSION, Pair
from specdyn.tasks.identity import data_of

TICKET_VERSION = 1
"""Increase when stored values of tickets change their meaning."""


def end_id(manifest: Manifest, data: str) -> str:
    """The id of the results of a run's last checkpoint on the data of that key; depends on the weights."""
    return f"{manifest.run_id}-{data}-{short_digest(manifest.checkpoints[-1].sha256, VERSION)}"


def line_id(pair: Pair, a: Manifest, b: Manifest) -> str:
    """The id of the results between two runs; depends on both runs' weights and on the data."""
    ends = [manifest.checkpoints[-1].sha256 for manifest in (a, b)]
    return f"{pair.pair_id}-{short_digest(ends, data_of(pair.a))}"


def comparison_id(spec: RunSpec, own: Manifest, dense: Manifest) -> str:
    """The id of the results of a ticket; depends on its own weights, the dense run's and the mask's."""
    return f"{spec.run_id}-{short_digest(own.digest, own.origins, dense.digest, data_of(spec), TICKET_VERSION)}"
