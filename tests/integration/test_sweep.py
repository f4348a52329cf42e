"""Whole sweeps through Prefect and Ray on a local store: what runs, what does not run again, what fails."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

from helpers.pipelines import NAME, SMOKE, files, sweep
from specdyn.storage.places import Store
from specdyn.tasks.plan.sweeps import make_sweep

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("prefect_server")]

OVERFLOWS = 1e30
"""A weight decay that drives the weights to infinity within a few steps."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, prefect_server: None, ray_cluster: None) -> Path:
    """A store with the finished smoke sweep, made through Ray."""
    store = tmp_path_factory.mktemp("done") / "store"
    sweep(str(store))
    return store


def found(what: str, **chosen: Any) -> list[dict[str, Any]]:
    """Objects on the server, newest first, asked for as its UI does."""
    from prefect.settings import PREFECT_API_URL

    answer = httpx.post(f"{PREFECT_API_URL.value()}/{what}/filter", json=chosen)
    answer.raise_for_status()
    return sorted(answer.json(), key=lambda one: one["created"], reverse=True)


def artifacts(key: str) -> list[dict[str, Any]]:
    """The artifacts of that key."""
    return found("artifacts", artifacts={"key": {"any_": [key]}})


def test_the_cube_answers_in_plain_xarray(done: Path) -> None:
    tree = xr.open_datatree(Store(str(done)).cube(SMOKE), engine="zarr")
    layers = tree["layers"].to_dataset()
    assert sorted(layers.weight_decay.values) == [0.0, 1.0]
    one = layers.effective_rank.sel(run=layers.weight_decay == 1.0)
    assert one.sizes == {"run": 1, "layer": 6, "step": 7}
    assert np.isfinite(one).all()
    mean = layers.effective_rank.groupby("weight_decay").mean()
    assert mean.sel(weight_decay=1.0).equals(one.isel(run=0).drop_vars("run").assign_coords(weight_decay=1.0)) or (
        np.allclose(mean.sel(weight_decay=1.0), one.isel(run=0))
    )
    top = layers.singular_value.sel(layer="decoder.weight", rank=slice(1, 10))
    assert top.sizes == {"run": 2, "step": 7, "rank": 10}
    assert (top.diff("rank") <= 0).all()
    assert layers.effective_rank.attrs["units"] == "1" and layers.effective_rank.attrs["long_name"]
    assert {"weight_decay", "seed", "status"} <= set(layers.coords)
    assert {"learning_rate", "prime", "seed", "batch_size", "computed_on"} <= set(tree["runs"].data_vars)


def test_spectra_in_the_cube_match_the_checkpoints(done: Path) -> None:
    from safetensors.numpy import load_file

    layers = xr.open_datatree(Store(str(done)).cube(SMOKE), engine="zarr")["layers"].to_dataset()
    for run in layers.run.values:
        weights = load_file(Store(str(done)).run(NAME, run).checkpoint(60))
        for layer in layers.layer.values:
            expected = np.linalg.svd(weights[layer].astype(np.float64), compute_uv=False)
            stored = layers.singular_value.sel(run=run, layer=layer, step=60).values[: len(expected)]
            np.testing.assert_allclose(stored, expected, atol=1.1e-6 * expected[0])  # 1e-6 and rounding


def test_a_second_call_does_nothing_and_says_so(done: Path) -> None:
    before = files(done)
    outcome = sweep(str(done))
    assert outcome.ran == () and outcome.rebuilt is False
    assert files(done) == before
    assert "nothing to do" in artifacts("plan")[0]["data"]


def test_one_more_weight_decay_runs_only_its_own_cell(done: Path) -> None:
    before = files(done)
    outcome = sweep(str(done), weight_decays=[0.0, 0.5, 1.0])
    assert [cell.split()[0] for cell in outcome.ran] == ["wd=0.5"]
    after = files(done)
    assert {path: after[path] for path in before if "/studies/" not in f"/{path}"} == {
        path: data for path, data in before.items() if "/studies/" not in f"/{path}"
    }
    layers = xr.open_datatree(Store(str(done)).cube(SMOKE), engine="zarr")["layers"].to_dataset()
    assert sorted(layers.weight_decay.values) == [0.0, 0.5, 1.0]


def test_artifacts_show_plan_progress_and_summary(done: Path) -> None:
    assert artifacts("plan") and artifacts("summary")
    assert {artifact["type"] for artifact in artifacts("trainings-progress")} == {"progress"}
    assert artifacts("analyses-progress")[0]["data"] == 100.0


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    outcome = sweep(str(tmp_path / "store"), dry_run=True)
    assert len(outcome.todo) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_run_fails_alone_and_stays_failed_until_it_is_to_be_tried_again(tmp_path: Path) -> None:
    from specdyn.flows.engine.run_study import StudyFailed

    store = str(tmp_path / "store")
    grid = {"weight_decays": [0.0, OVERFLOWS], "analyses": ["spectrum", "performance"], "executor": "inline"}
    with pytest.raises(StudyFailed, match=r"(?s)1 failed.*wd=1e\+30.*Diverged.*steps 0 and 10"):
        sweep(store, **grid)
    assert found("flow_runs")[0]["state_name"] == "Failed"
    rows = [line for line in artifacts("failures")[0]["data"].splitlines() if line.startswith("| trainings: wd=")]
    assert [row.split()[2] for row in rows] == ["wd=1e+30"]
    statuses = xr.open_datatree(Store(store).cube(SMOKE), engine="zarr")["layers"].status
    assert statuses.values.tolist() == ["done", "failed"]
    before = files(store)
    with pytest.raises(
        StudyFailed, match=r"(?s)^1 failed; results of the others are kept\. Runs that diverged stay.*Div"
    ):
        sweep(store, **grid)
    assert files(store) == before
    assert "nothing unless --retry-failed is given (run" in artifacts("plan")[0]["data"]
    with pytest.raises(StudyFailed, match="1 failed"):
        sweep(store, retry_failed=True, **grid)
    (failing,) = [spec.run_id for spec in make_sweep(NAME, "smoke", [OVERFLOWS]).specs]
    ledger, log = sorted(files(store).keys() - before.keys())
    assert failing in log and "/trainings-" in log
    assert failing in ledger and "/ledger-trainings-" in ledger
    assert "train again (run" in artifacts("plan")[0]["data"]


def test_a_damaged_checkpoint_is_named_and_the_next_call_repairs_it(tmp_path: Path) -> None:
    from specdyn.flows.engine.run_study import StudyFailed

    store = str(tmp_path / "store")
    few = {"executor": "inline", "analyses": ["spectrum", "agreement", "performance"]}
    sweep(store, **few)
    whole = files(store)
    run_id = min(path.split("/")[2] for path in whole if path.startswith("checkpoints/"))
    hurt = Path(Store(store).run(NAME, run_id).checkpoint(30))
    data = bytearray(hurt.read_bytes())
    data[-5] ^= 1
    hurt.write_bytes(data)
    for results in (tmp_path / "store" / "results" / "runs" / NAME).glob(f"{run_id}-*"):
        shutil.rmtree(results)
    with pytest.raises(StudyFailed, match=rf"(?s)1 failed.*DamagedCheckpoint: run {run_id} step 30"):
        sweep(store, **few)
    sweep(store, **few)
    healed = files(store)
    weights = [path for path in whole if path.endswith(".safetensors") and "/state/" not in path]
    results = [path for path in whole if path.startswith("results/")]
    assert weights and results
    assert [path for path in weights + results if whole[path] != healed.get(path)] == []


@pytest.mark.usefixtures("ray_cluster")
def test_ray_starts_without_what_nobody_reads_and_on_ports_that_another_cluster_leaves_it() -> None:
    from ray._private import ray_constants, worker

    node: Any = worker._global_node
    assert set(node.all_processes) & {"monitor", "log_monitor", "dashboard", "raylet"} == {"raylet"}
    assert node.dashboard_agent_listen_port not in (0, ray_constants.DEFAULT_DASHBOARD_AGENT_LISTEN_PORT)


@pytest.mark.usefixtures("ray_cluster")
def test_units_share_the_gpus_that_ray_has(tmp_path: Path) -> None:
    from specdyn.flows.resources import Resources

    outcome = sweep(str(tmp_path / "store"), weight_decays=[1.0], analyses=["norms"], resources=Resources(gpus=0.5))
    manifest = next((tmp_path / "store" / "runs").rglob("*.json")).read_text()
    assert len(outcome.ran) == 1
    assert json.loads(manifest)["device"] in ("cpu", "cuda")


@pytest.mark.usefixtures("ray_cluster")
def test_more_gpus_than_the_cluster_has_are_refused_before_anything_runs(tmp_path: Path) -> None:
    from specdyn.flows.engine.resources import NotEnoughResources
    from specdyn.flows.resources import Resources

    store = tmp_path / "store"
    with pytest.raises(
        NotEnoughResources, match="gpus=3 requested per task, but no node of the Ray cluster has more than 2"
    ):
        sweep(str(store), resources=Resources(gpus=3))
    assert not (store / "checkpoints").exists()
    anyhow = Resources(gpus=3, cpu_if_no_gpu=True)
    outcome = sweep(str(store), weight_decays=[1.0], analyses=["norms"], resources=anyhow)
    assert len(outcome.ran) == 1


@pytest.mark.usefixtures("ray_cluster")
def test_an_executor_starts_nothing_once_its_block_has_ended() -> None:
    from specdyn.flows.engine.executor import open_executor
    from specdyn.flows.engine.processes import PartLost
    from specdyn.flows.resources import Resources

    with open_executor("ray", Resources()) as executor:
        assert executor.run(len, "four") == 4
    for ask in (executor.run, executor.start):
        with pytest.raises(PartLost, match="Ray was stopped; finished work is kept, the same call continues from"):
            ask(len, "four")
