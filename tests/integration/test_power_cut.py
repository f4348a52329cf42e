"""A killed `specdyn serve` leaves nothing running; the next start marks the run and frees its place for another."""

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.pipelines import NAME, call, weights_files
from helpers.served import Served, started_service
from specdyn.flows.engine.watchdog import marked
from specdyn.storage.leftovers import remove_leftovers
from specdyn.storage.places import Store
from specdyn.storage.query import open_results

pytestmark = [pytest.mark.integration, pytest.mark.scenario, pytest.mark.timeout(600)]

SWEEP = {
    "experiment": NAME,
    "preset": "smoke",
    "weight_decays": [1.0],
    "settings": {"steps": 6000, "checkpoint_every": 500},
    "analyses": ["spectrum"],
    "sweep": "cut",
    "report": False,
}
CHECKPOINTS = 13
SOON = Path(__file__).resolve().parents[1] / "helpers" / "soon_marking.py"
HEARTBEATS = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}, "limit": 1}
SECONDS = 300.0
GONE_SECONDS = 10.0


def wait_for(condition: Callable[[], Any], what: str, service: Served) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"still not: {what}\n{service.log.read_text()[-3000:]}"
        time.sleep(0.3)


def start(service: Served) -> str:
    (deployment,) = [each for each in service.ask("/deployments/filter", {}) if "weight_decay" in each["entrypoint"]]
    return str(service.ask(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": SWEEP})["id"])


def schedule(service: Served) -> dict[str, Any]:
    (found,) = [one for each in service.ask("/deployments/filter", {}) for one in each["schedules"]]
    return dict(found)


def coming(service: Served) -> list[dict[str, Any]]:
    return [run for run in service.ask("/flow_runs/filter", {}) if run["auto_scheduled"]]


def state(service: Served, flow_run: str) -> str:
    return str(service.ask(f"/flow_runs/{flow_run}")["state"]["name"])


def checkpoints(store: Path) -> dict[Path, tuple[int, bytes]]:
    """When each was written, and what it holds."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in weights_files(store)}


def test_a_run_that_died_with_its_machine_is_marked_and_another_ends_its_work(tmp_path: Path) -> None:
    name, value = "SPECDYN_TESTED", uuid.uuid4().hex
    with started_service(tmp_path, **{name: value}) as (process, service):
        ended = call("schedule", "add", "daily", NAME, "-w", "0.5", "--cron", "0 2 * * *", "--api", service.api)
        assert ended.returncode == 0, ended.stderr
        asked = schedule(service)["parameters"]
        assert (asked["weight_decays"], asked["sweep"]) == ([0.5], "daily")
        died = start(service)
        wait_for(lambda: len(checkpoints(service.store)) >= 2, "two checkpoints", service)
        wait_for(lambda: service.ask("/events/filter", HEARTBEATS)["total"], "a heartbeat", service)
        assert state(service, died) == "Running"
        assert len(marked(f"{name}={value}")) > 5
        process.kill()
        end = time.monotonic() + GONE_SECONDS
        while left := marked(f"{name}={value}"):
            assert time.monotonic() < end, left
            time.sleep(0.1)
    there = checkpoints(service.store)
    assert len(there) < CHECKPOINTS, "it was to be cut off in training"
    remove_leftovers(Store(str(service.store)), older_than=0.0)

    with started_service(tmp_path, program=(str(SOON),)) as (_, service):
        assert state(service, died) == "Running", "nobody has told Prefect yet"
        again = start(service)
        assert (schedule(service)["active"], schedule(service)["parameters"]) == (True, asked)
        wait_for(lambda: coming(service), "the schedule makes runs", service)
        assert all(run["parameters"] == asked for run in coming(service))
        wait_for(lambda: state(service, died) == "Crashed", "the run that died is marked", service)
        wait_for(lambda: state(service, again) in ("Completed", "Failed", "Crashed"), "the second run ends", service)
        assert state(service, again) == "Completed"
        assert state(service, died) == "Crashed"
    final = checkpoints(service.store)
    assert len(final) == CHECKPOINTS
    assert all(final[path][1] == held for path, (_, held) in there.items())
    # The state that training goes on from is put after the weights: the newest may be written again.
    newest = max(there, key=lambda path: there[path][0])
    assert [path for path in there if path != newest and final[path] != there[path]] == []
    assert open_results(Store(str(service.store)).cube("cut"))["layers"].sizes["step"] == CHECKPOINTS
