"""What the benchmarks of growth show that is exact: requests of each action, however many runs a sweep has."""

from collections.abc import Iterator

import pytest

from helpers.fault_proxy import FaultProxy, fault_proxy
from helpers.servers import S3Server
from specdyn.storage.places import Store
from tests.benchmarks.actions import ACTIONS, actions

ADDING = "add it to the cube"
SAME = [name for name in ACTIONS if name != ADDING]
"""Actions that take as many requests whatever the number of runs that are listed together."""
ANALYSES = ("spectrum", "effective_rank", "performance")
FEW, MANY = 18, 30
"""Both are listed together, and are within one chunk of rows."""


@pytest.fixture
def proxy(s3_server: S3Server, s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the S3 server, which the environment leads to."""
    with fault_proxy(s3_server.endpoint) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


def test_no_action_takes_more_requests_on_a_larger_sweep(proxy: FaultProxy, s3_server: S3Server) -> None:
    few, many = (
        {name: requests for name, (requests, _, _) in actions(proxy, Store(url), runs, 0.0, ANALYSES).items()}
        for runs, url in ((runs, s3_server.fresh_store()) for runs in (FEW, MANY))
    )
    assert [few[name] for name in SAME] == [many[name] for name in SAME]
    assert [few[name] for name in ACTIONS[-3:]] == [1, 1, 1]
    assert few["status"] == 6, "three listings, and what the cube remembers of the manifests"
    assert many[ADDING] <= few[ADDING] + 4, "no request for each run"
