"""Several processes that start the same work on the same store at once: one works, the others wait, all end well."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from helpers.at_once import at_once, ended_well, said
from helpers.pipelines import NAME, SMOKE, sweep
from helpers.servers import S3Server
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.query import open_results

pytestmark = [pytest.mark.integration, pytest.mark.scenario]

SECONDS = 400
ANALYSES = ["spectrum", "effective_rank", "agreement"]
GRID = ("--preset", "smoke", "-w", "0,1", "-s", "0", "--analyses", ",".join(ANALYSES))
SWEEP = ("run", NAME, *GRID, "--executor", "inline", "--no-report", "--store")


def test_three_processes_on_one_sweep(prefect_server: None, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    told = ended_well(tmp_path, [(*SWEEP, store)] * 3, SECONDS)
    assert sorted("2 runs finished" in text for text in told) == [False] * 2 + [True]
    assert sum("2 runs already done: nothing to do" in text for text in told) == 2
    lines = [line for text in told for line in text.splitlines() if "waiting for" in line]
    assert lines
    assert all(line.startswith(f"{SMOKE}: waiting for process ") for line in lines)
    logs = Path(store, "logs").rglob("trainings-*.log")
    assert len(list(logs)) == 2, "each run is trained once"
    alone = str(tmp_path / "alone")
    sweep(alone, weight_decays=[0.0, 1.0], seeds=[0], analyses=ANALYSES, executor="inline")
    together, one = (open_results(Store(where).cube(SMOKE)) for where in (store, alone))
    assert together.children.keys() == one.children.keys()
    for name, group in one.children.items():
        xr.testing.assert_identical(together[name].to_dataset().load(), group.to_dataset().load())


def test_a_killed_process_is_followed_by_one_that_waits(prefect_server: None, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    longer = ("--set", "steps=1500", "--set", "checkpoint_every=100")
    with at_once(tmp_path, [(*SWEEP, store, *longer)] * 2) as processes:
        while not (waits := [i for i in range(2) if b"waiting for" in said(tmp_path, i).read_bytes()]):
            assert all(process.poll() is None for process in processes)
            time.sleep(0.1)
        killed, left = processes[1 - waits[0]], processes[waits[0]]
        assert f"waiting for process {killed.pid} on ".encode() in said(tmp_path, waits[0]).read_bytes()
        killed.send_signal(signal.SIGKILL)
        assert left.wait(timeout=SECONDS) == 0, said(tmp_path, waits[0]).read_text()
    (cube,) = Path(store, "studies").glob("*/results.zarr")
    assert open_results(str(cube))["layers"].sizes["run"] == 2


def test_two_processes_on_one_sweep_on_object_storage(
    prefect_server: None, s3_store: Store, s3_server: S3Server, tmp_path: Path
) -> None:
    told = ended_well(tmp_path, [(*SWEEP, s3_store.url, "-w", "1")] * 2, SECONDS)
    assert sum("1 run finished" in text for text in told) == 1
    assert len(objects.names(s3_store.lease(s3_store.cube(SMOKE)))) == 1
    ranks = open_results(s3_store.cube(SMOKE))["layers/effective_rank"].values
    assert np.isfinite(ranks).all()
