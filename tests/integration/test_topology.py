"""What deploy/compose.yaml starts, as processes: sweeps through it, no way in without credentials, no secret kept."""

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr

from helpers.servers import forget_clients
from helpers.topology import (
    Topology,
    below,
    command_line,
    http_status,
    postgres_folder,
    topology,
    wait_until,
    with_password,
)
from specdyn.storage.places import Store

pytestmark = [
    pytest.mark.integration,
    pytest.mark.scenario,
    pytest.mark.timeout(600),
    pytest.mark.skipif(postgres_folder() is None, reason="PostgreSQL's programs postgres and initdb are not installed"),
]

ROOT = Path(__file__).resolve().parents[2]
FLOW = "specdyn.flows.sweep.weight_decay_sweep"
EXPERIMENT = "modular_addition"
FIRST, SECOND = "swept-in-peace", "swept-with-a-kill"
GRID = {"experiment": EXPERIMENT, "preset": "smoke", "weight_decays": [0, 1], "seeds": [0], "report": False}
ANALYSES = ["spectrum", "effective_rank", "performance"]
TRAINED = re.compile(r":(\d+) INFO run ([0-9a-f]+): training from step (\d+)")
KINDS = ("flow_runs", "task_runs", "deployments", "logs", "artifacts", "work_pools", "block_documents", "automations")
PICKLE = b"\x80\x05\x95"
CONNECT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import specdyn.flows
from specdyn.flows.engine.resources import NotEnoughResources
from specdyn.flows.resources import Resources
from specdyn.flows.engine.executor import open_executor
start = time.monotonic()
try:
    with open_executor("ray", Resources(), sys.argv[2]) as executor:
        print("slots", executor.slots)
except NotEnoughResources as error:
    print(int(time.monotonic() - start), error)
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Topology]:
    """All services, two Ray workers among them."""
    with topology() as services:
        yield services


@pytest.fixture(scope="module")
def swept(running: Topology) -> Topology:
    """The services after a sweep of two runs."""
    run = running.ended(running.run(FLOW, **GRID, sweep=FIRST, settings={"checkpoint_every": 30}, analyses=ANALYSES))
    assert run["state_type"] == "COMPLETED", run["state"]
    return running


@pytest.fixture(scope="module")
def kept(swept: Topology) -> dict[str, bytes]:
    """Every object of the store after that sweep."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in swept.store_environment.items():
            patch.setenv(name, value)
        forget_clients()
        found = objects(swept.store)
        forget_clients()
    return found


@pytest.fixture
def layout(running: Topology, fresh_clients: None, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store, whose address and key are in the environment."""
    for name, value in running.store_environment.items():
        monkeypatch.setenv(name, value)
    return Store(running.store)


def objects(folder: str) -> dict[str, bytes]:
    """Every object of the store below a folder."""
    store = fsspec.filesystem("s3", use_listings_cache=False)
    paths = store.find(folder)
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(paths, pool.map(store.cat_file, paths), strict=True))


def moments(layout: Store) -> dict[str, tuple[str, str]]:
    """When each checkpoint was written, and what it is, by the object store."""
    found = fsspec.filesystem("s3", use_listings_cache=False).find(f"{layout.url}/checkpoints", detail=True)
    return {
        path: (str(about["LastModified"]), about["ETag"])
        for path, about in found.items()
        if path.endswith(".safetensors") and "/state/" not in path
    }


def trainings(layout: Store) -> list[tuple[int, str, int]]:
    """Process, run and first step of each training, as the units' logs in the store say."""
    logs = [data.decode() for data in objects(f"{layout.url}/logs").values()]
    return [(int(pid), run, int(step)) for log in logs for pid, run, step in TRAINED.findall(log)]


def test_a_sweep_started_by_the_api_runs_on_the_ray_workers(swept: Topology, layout: Store) -> None:
    layers = xr.open_datatree(layout.cube(FIRST), engine="zarr")["layers"].to_dataset()
    assert sorted(layers.weight_decay.values) == [0.0, 1.0]
    assert set(layers.seed.values) == {0}
    assert np.isfinite(layers.effective_rank).all()
    trained = trainings(layout)
    assert len(trained) == len({run for _, run, _ in trained}) == 2
    assert {swept.processes.get(pid) for pid, _, _ in trained} == set(swept.ray_workers)


def test_no_secret_is_kept_or_shown(swept: Topology, kept: dict[str, bytes]) -> None:
    searched = {
        "API": json.dumps(from_api(swept)).encode(),
        "database": asyncio.run(from_database(swept)).encode(),
        "store": b"".join([f"{path}\n".encode() + data for path, data in kept.items()]),
        "files": b"".join(path.read_bytes() for path in swept.folder.rglob("*") if path.is_file()),
        "command lines": "\n".join(swept.command_lines).encode(),
    }

    def places(text: str) -> set[str]:
        return {place for place, data in searched.items() if text.encode() in data}

    assert places(FIRST) == set(searched) - {"command lines"}
    assert places("prefect.engine") >= {"command lines"}
    header = base64.b64encode(swept.api.auth.encode()).decode()
    found = {name: places(secret) for name, secret in {**swept.secrets, "header": header}.items()}
    assert found == {name: set() for name in found}


def from_api(services: Topology) -> list[Any]:
    """All that the API tells of runs, deployments, their logs, artifacts and states."""
    found = {kind: services.api.every(kind) for kind in KINDS}
    states = [services.api.ask(f"/flow_run_states/?flow_run_id={run['id']}") for run in found["flow_runs"]]
    assert all(found[kind] for kind in ("flow_runs", "task_runs", "deployments", "logs", "artifacts", "work_pools"))
    return [found, states]


async def from_database(services: Topology) -> str:
    """Every row of every table of Prefect's database."""
    import asyncpg

    connection = await asyncpg.connect(with_password(services.database, services.secrets["PostgreSQL"]))
    try:
        tables = await connection.fetch("select format('%I', tablename) from pg_tables where schemaname = 'public'")
        rows = [row for (table,) in tables for row in await connection.fetch(f"select t::text from {table} t")]
    finally:
        await connection.close()
    return "\n".join(text for (text,) in rows)


def test_nothing_is_kept_as_a_pickle(swept: Topology, kept: dict[str, bytes]) -> None:
    assert (swept.folder / "worker").is_dir() and not list(swept.folder.glob("*/storage"))  # PREFECT_HOME of each role
    runs = swept.api.every("flow_runs") + swept.api.every("task_runs")
    assert runs and not [run["name"] for run in runs if run["state"]["data"]]
    assert not [path for path in kept if path.endswith((".pkl", ".pickle", ".pt", ".pth", ".npy"))]
    assert not [path for path, data in kept.items() if data.startswith(PICKLE)]


def test_prefect_admits_nobody_without_the_password(swept: Topology) -> None:
    api = swept.api
    wrong = f"{api.auth[:-1]}{'0' if api.auth[-1] != '0' else '1'}"
    for path in ("/admin/version", "/admin/settings", "/csrf-token?client=x"):
        assert [api.status(path, auth) for auth in (None, wrong, api.auth)] == [401, 401, 200]
    assert api.status_of_post("/flow_runs/filter", api.auth) == 403  # without a CSRF token
    assert [socket_lets_in(api.url, auth) for auth in ("", wrong, api.auth)] == [False, False, True]


def socket_lets_in(url: str, token: str) -> bool:
    """Whether the socket on which the server tells events lets in whoever sends the token."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with connect(f"{url.replace('http', 'ws', 1)}/events/out", subprotocols=["prefect"]) as socket:
        socket.send(json.dumps({"type": "auth", "token": token}))
        try:
            return bool(json.loads(socket.recv(timeout=20))["type"] == "auth_success")
        except ConnectionClosed:
            return False


def test_ray_admits_nobody_without_the_token(swept: Topology, tmp_path: Path) -> None:
    token = swept.ray.token
    given = {
        "nothing": {},
        "no token": {"RAY_AUTH_MODE": "token"},
        "a wrong one": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token[::-1]},
        "the token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
    }
    command = [sys.executable, "-c", CONNECT, str(ROOT), swept.ray.address]
    tries = {
        name: subprocess.Popen(
            command,
            env={**os.environ, "HOME": str(tmp_path), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name, variables in given.items()
    }
    said = {name: process.communicate(timeout=120)[0].strip() for name, process in tries.items()}
    assert said.pop("the token") == "slots 2"
    for text in said.values():
        seconds, why = text.split(maxsplit=1)
        assert int(seconds) <= 30
        assert f"ray_address='{swept.ray.address}'" in why and "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in why
        assert token not in why and token[::-1] not in why

    def dashboard(secret: str | None, job: bytes | None = None) -> int:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return http_status(f"{swept.ray.dashboard}/api/jobs/", {"Content-Type": "application/json", **headers}, job)

    assert [dashboard(secret) for secret in (None, token[::-1], token)] == [401, 403, 200]
    assert [dashboard(secret, b'{"entrypoint": "true"}') for secret in (None, token[::-1])] == [401, 403]


def test_a_sweep_survives_the_loss_of_a_ray_worker(swept: Topology, layout: Store) -> None:
    before = moments(layout)
    settings = {"steps": 2000, "checkpoint_every": 250}
    flow_run = swept.run(FLOW, **GRID, sweep=SECOND, settings=settings, analyses=["spectrum"])

    def both_train() -> bool:
        written = [path.rsplit("/", 1)[0] for path in set(moments(layout)) - set(before)]
        return len(set(written)) == 2 and all(written.count(run) >= 3 for run in written)

    wait_until(both_train, "both runs have three checkpoints")
    lost = swept.ray_workers["ray-worker-2"]
    (raylet,) = [pid for pid in below(lost.popen.pid) if "/raylet/raylet " in command_line(pid)]
    os.kill(raylet, signal.SIGKILL)
    there = moments(layout)
    run = swept.ended(flow_run)
    assert run["state_type"] == "COMPLETED", run["state"]
    after = moments(layout)
    assert len(there) < len(after) == len(before) + 2 * 9
    assert {path: after[path] for path in there} == there
    resumed = [(pid, step) for pid, _, step in trainings(layout) if step > 0]
    assert [swept.processes[pid] for pid, _ in resumed] == ["ray-worker-1"]
    layers = xr.open_datatree(layout.cube(SECOND), engine="zarr")["layers"].to_dataset()
    assert np.isfinite(layers.singular_value.isel(rank=0)).all()
