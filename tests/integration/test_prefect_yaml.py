"""deploy/prefect.yaml on a real Prefect server with a password: what it registers, and that a worker can run it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.topology import basic, free_ports, http_status, prefect
from specdyn.storage.places import Store

pytestmark = [pytest.mark.integration, pytest.mark.scenario]

ROOT = Path(__file__).resolve().parents[2]
DECLARED: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())["deployments"]
SWEEP = "specdyn.flows.sweep.weight_decay_sweep"
AUTH = "specdyn:only-for-this-test"


def run(*arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        prefect(*arguments), env=os.environ, cwd=cwd, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server as deploy/ configures it, but with SQLite; the URL of its API."""
    home, (port,) = tmp_path_factory.mktemp("prefect"), free_ports(1)
    url = f"http://127.0.0.1:{port}/api"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_UI_API_URL": "https://prefect.example.org/api",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
    }
    start = prefect("server", "start", "--host", "127.0.0.1", "--port", str(port))
    with (
        (home / "server.log").open("w") as log,
        subprocess.Popen(start, env={**os.environ, **settings}, stdout=log, stderr=log) as process,
    ):
        try:
            deadline = time.monotonic() + 120
            while http_status(f"{url}/ready", {}) != 200:
                assert process.poll() is None and time.monotonic() < deadline, (home / "server.log").read_text()
                time.sleep(0.5)
            yield url
        finally:
            process.terminate()


@pytest.fixture
def api(server: str, s3_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of the server's API; its password and a store are in the environment, as in a container of `setup`."""
    given = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": server,
        "PREFECT_API_AUTH_STRING": AUTH,
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "PREFECT_FILE": str(ROOT / "deploy" / "prefect.yaml"),
        "SPECDYN_STORE": s3_store.url,
        "TMPDIR": str(tmp_path),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return server


def ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    """A request to the API by Prefect's own client, which brings password and CSRF token."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    api, _, path = url.partition("/api/")
    with (
        temporary_settings({PREFECT_API_URL: f"{api}/api", PREFECT_API_AUTH_STRING: AUTH}),
        get_client(sync_client=True) as client,
    ):
        answer = client._client.request(method, f"/{path}", json=body).raise_for_status()
        return answer.json() if answer.content else None


def registered(api: str) -> dict[str, dict[str, Any]]:
    """The deployments on the server, by entry point."""
    return {each["entrypoint"]: each for each in ask("POST", f"{api}/deployments/filter", {})}


def require_as_declared(found: dict[str, Any], declared: dict[str, Any]) -> None:
    assert (found["name"], found["work_pool_name"]) == (declared["name"], "specdyn")
    assert not found["pull_steps"] and not found["path"]
    assert found["parameters"]["store"] == os.environ["SPECDYN_STORE"]
    assert found["tags"] == declared["tags"]
    assert found["global_concurrency_limit"]["limit"] == declared["concurrency_limit"]["limit"]
    assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    schedules = {schedule["slug"]: schedule for schedule in found["schedules"]}
    assert set(schedules) == {schedule["slug"] for schedule in declared["schedules"]}
    for schedule in declared["schedules"]:
        kept = schedules[schedule["slug"]]
        assert kept["active"] is schedule["active"] is False
        assert kept["schedule"].get("cron") == schedule.get("cron")
        assert kept["schedule"].get("interval") == schedule.get("interval")
        assert set(kept["parameters"]) == set(schedule["parameters"])
        assert "$" not in str(kept["parameters"])


def test_what_prefect_yaml_declares_is_registered_and_runs(api: str, tmp_path: Path) -> None:
    assert http_status(f"{api}/ready", {}) == 200
    assert http_status(f"{api}/admin/version", {}) == 401
    assert http_status(f"{api}/admin/version", basic(AUTH)) == 200

    run("--no-prompt", "work-pool", "create", "specdyn", "--type", "process")
    run("deploy", "--all", "--prefect-file", "deploy/prefect.yaml", "--no-prompt")
    found = registered(api)
    assert set(found) == {declared["entrypoint"] for declared in DECLARED}
    for declared in DECLARED:
        require_as_declared(found[declared["entrypoint"]], declared)

    # What people turned on since is still on after another `setup`.
    sweep = found[SWEEP]
    schedule = f"{api}/deployments/{sweep['id']}/schedules/{sweep['schedules'][0]['id']}"
    ask("PATCH", schedule, {"active": True})
    done = subprocess.run([ROOT / "deploy" / "role.sh", "setup"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = {each["slug"]: each["active"] for each in registered(api)[SWEEP]["schedules"]}
    assert kept == {each["slug"]: each["slug"] == sweep["schedules"][0]["slug"] for each in sweep["schedules"]}

    parameters = {"preset": "smoke", "store": str(tmp_path / "store"), "dry_run": True, "executor": "inline"}
    flow_run = ask("POST", f"{api}/deployments/{sweep['id']}/create_flow_run", {"parameters": parameters})
    (tmp_path / "anywhere").mkdir()
    run("worker", "start", "--pool", "specdyn", "--type", "process", "--run-once", cwd=tmp_path / "anywhere")
    ended = ask("GET", f"{api}/flow_runs/{flow_run['id']}")
    assert ended["state_type"] == "COMPLETED", ended["state"]
