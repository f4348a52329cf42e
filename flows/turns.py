"""One flow at a time works on one set of results; a second one waits for its turn."""

import contextlib
import hashlib
import os
from collections.abc import Iterator

from prefect import get_client, get_run_logger
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError

from flows.service import ALLOWED

LEASE_SECONDS = 60.0
"""After so long the turn of a process that died goes to the next."""


@contextlib.contextmanager
def turn(kind: str, name: str, store: str, needed: bool = True) -> Iterator[None]:
    """Hold the only place for these results on the service's Prefect server; waits while another flow holds it.

    What only looks needs none. Without a service there is no server that outlives a flow, and could take the place from
    one that died.
    """
    if not needed or not os.environ.get(ALLOWED):
        yield
        return
    place = f"{kind} {name} {hashlib.sha256(store.encode()).hexdigest()[:8]}"
    _make(place)
    get_run_logger().debug("waiting for the turn %s", place)
    with concurrency(place, lease_duration=LEASE_SECONDS, strict=True):
        yield


def _make(place: str) -> None:
    """Have the server know the place; two flows may do it at once, which the server answers with an error."""
    with get_client(sync_client=True) as client:
        try:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=place, limit=1))
        except ObjectAlreadyExists:
            return
        except PrefectHTTPStatusError:
            client.read_global_concurrency_limit_by_name(place)
