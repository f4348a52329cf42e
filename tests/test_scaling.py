"""What the benchmarks of growth show that is exact: requests of each action, however many runs a sweep has."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from helpers.analysed import analyse
from helpers.fault_proxy import FaultProxy, fault_proxy
from helpers.many_runs import SPEC, put_copies, seeds_of
from helpers.servers import S3Server
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import LISTED_ALONE
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.results import read_values
from specdyn.tasks.plan import cells
from specdyn.tasks.plan.gathering import finished_results
from specdyn.tasks.plan.here import run_here
from specdyn.tasks.plan.sweeps import Sweep
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


def sweep_of(runs: int) -> Sweep:
    specs = tuple(seeds_of(SPEC, runs))
    return Sweep(name="many", experiment=SPEC.experiment, preset="smoke", specs=specs, analyses=("spectrum",))


def done(store: Store, runs: int) -> None:
    """Have the store say that so many runs are trained and analysed; without a cube, as in another process."""
    (model, *others) = seeds_of(SPEC, runs)
    analyse(sweep_of(1), store.url)
    put_copies(model, others, store)
    cells._READ.clear()


def call(study: Sweep, store: Store) -> None:
    if not finished_results(study, store, report=False):
        run_here(study, store, report=False)


def kind_of(request: str, store: Store) -> str:
    """What a request reads: `runs` (manifests), `results`, or anything `other`."""
    read = request.startswith("GET") and "list-type" not in request
    below = request.partition(f"/{store.url.rpartition('/')[2]}/")[2].partition("/")[0]
    return below if read and below in ("runs", "results") else "other"


def others_of(runs: int) -> int:
    """Requests of a call that finds all done; of many runs, the cube is asked first what it remembers of manifests."""
    return 8 if runs <= LISTED_ALONE else 11


def made(requests: list[str], store: Store) -> Counter[str]:
    """Requests by kind, but those of leases, whose number depends on the time."""
    return Counter(kind_of(request, store) for request in requests if "leases" not in request)


@pytest.mark.parametrize("few", [6, FEW])
def test_the_first_cube_takes_a_request_for_each_manifest_and_each_result(
    s3_server: S3Server, s3_store: Store, few: int
) -> None:
    counts = []
    for runs in (few, MANY):
        store = Store(s3_server.fresh_store())
        done(store, runs)
        with s3_server.counted() as requests:
            call(sweep_of(runs), store)
        counts.append(made(requests, store))
        assert counts[-1]["runs"] == runs
        assert counts[-1]["results"] == len(objects.find(store.measured("runs", SPEC.experiment))) == 3 * runs
        assert len({one for one in requests if kind_of(one, store) != "other"}) == 4 * runs, "one is read twice"
        with s3_server.counted() as requests:
            call(sweep_of(runs), store)
        assert made(requests, store) == {"other": others_of(runs)}, "it reads no manifest and no result"
    assert counts[0]["other"] == counts[1]["other"] - (others_of(MANY) - others_of(few)), "nothing else depends on it"


def test_adding_a_run_takes_as_many_requests_to_few_as_to_many(s3_server: S3Server, s3_store: Store) -> None:
    counts = []
    for runs in (FEW, MANY):
        store = Store(s3_server.fresh_store())
        done(store, runs)
        call(sweep_of(runs), store)
        cells._READ.clear()
        with s3_server.counted() as requests:
            call(sweep_of(runs + 1), store)
        counts.append(made(requests, store))
        read = {request.rpartition("/")[2] for request in requests if kind_of(request, store) == "runs"}
        assert read == {f"{seeds_of(SPEC, runs + 1)[-1].run_id}.json"}, "the cube remembers the others' manifests"
    # How often the cube is updated while the run is trained depends on the time.
    assert abs(counts[0].total() - counts[1].total()) <= MANY - FEW, counts


def test_a_cube_whose_objects_are_read_together_has_the_values_of_each(s3_store: Store) -> None:
    study = sweep_of(FEW)
    done(s3_store, 1)
    analyse(replace(study, specs=study.specs[1:4]), s3_store.url)  # whose values are not those of the copies
    put_copies(study.specs[0], study.specs[4:], s3_store)
    call(study, s3_store)
    variable = open_results(study.cube(s3_store))["layers"]["singular_value"].load()
    folder = s3_store.measured("runs", SPEC.experiment)
    keys = objects.find(folder)
    for key in keys:
        found = read_values(f"{folder}/{key}")
        assert found
        at = {dim: found.metadata["labels"][dim] for dim in found.metadata["dims"]["singular_value"]}
        stored = variable.sel({**at, "run": key.partition("-")[0], "step": list(found.steps)})
        np.testing.assert_array_equal(stored.transpose(*at).values, found.values["singular_value"])
    assert len(keys) == 3 * FEW and len(np.unique(variable.isel(step=-1, layer=0, rank=0))) == 4
