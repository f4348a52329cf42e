"""The service of a group: who is let in, and sweeps that start by themselves."""

import contextlib
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest

from helpers.pipelines import NAME, ROOT, call
from helpers.served import Served, served
from helpers.topology import basic, wait_until
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.query import open_results

pytestmark = [pytest.mark.integration, pytest.mark.scenario, pytest.mark.timeout(600)]

PASSWORD = secrets.token_hex(16)
AUTH = f"lab:{PASSWORD}"
SECONDS = 240.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with a password."""
    with served(tmp_path_factory.mktemp("service"), PREFECT_SERVER_API_AUTH_STRING=AUTH) as running:
        yield running


def ask(
    url: str, auth: str = "", question: dict[str, Any] | None = None, token: str = "", method: str | None = None
) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    headers = {"Content-Type": "application/json"}
    if auth:
        headers |= basic(auth)
    if token:
        headers |= {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"}
    data = None if question is None else json.dumps(question).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask_with_token(service: Served, what: str, question: dict[str, Any] | None = None) -> Any:
    """All objects of that kind that fit the question."""
    token = ask(f"{service.api}/csrf-token?client=tests", AUTH)[1]["token"]
    status, found = ask(f"{service.api}/{what}/filter", AUTH, question or {}, token)
    assert status == 200, found
    return found


def flow_runs(service: Served) -> list[dict[str, Any]]:
    found = ask_with_token(service, "flow_runs", {"flow_runs": {"start_time": {"is_null_": False}}})
    return sorted(found, key=lambda run: str(run["start_time"]))


def waiting(service: Served) -> list[dict[str, Any]]:
    """The flow runs that have not begun, in the order of their times."""
    asked = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
    return list(ask_with_token(service, "flow_runs", asked))


def seeds_of(cube: str) -> set[int]:
    """The seeds in a cube, which a queued firing may be writing again."""
    for _ in range(100):
        with contextlib.suppress(StoreError, KeyError):
            return set(open_results(cube)["layers"]["seed"].values.tolist())
        time.sleep(0.2)
    raise AssertionError(f"{cube} cannot be read")


@pytest.mark.parametrize(
    ("auth", "status"),
    [("", 401), ("lab:wrong", 401), (f"other:{PASSWORD}", 401), (AUTH, 200)],
    ids=["none", "wrong password", "wrong user", "right"],
)
def test_the_api_is_for_those_with_the_password(service: Served, auth: str, status: int) -> None:
    assert ask(f"{service.api}/csrf-token?client=tests", auth)[0] == status
    assert ask(f"{service.reports}/none/index.html", auth)[0] == (404 if status == 200 else 401)


def test_another_page_cannot_use_a_signed_in_browser(service: Served) -> None:
    assert ask(f"{service.api}/flow_runs/filter", AUTH, {})[0] == 403
    assert ask(f"{service.api}/flow_runs/filter", AUTH, {}, token="made-up")[0] == 403


@pytest.mark.parametrize("auth", ["", "lab:wrong"])
def test_the_command_says_what_is_missing(service: Served, auth: str) -> None:
    ended = call("schedule", "list", "--api", service.api, env={"PREFECT_API_AUTH_STRING": auth} if auth else {})
    assert ended.returncode == 2
    assert "refuses access: set PREFECT_API_AUTH_STRING to its user:password" in " ".join(ended.stderr.split())


TELL = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.deployments import run_deployment
from specdyn.flows.service.automations import set_up

hook = CustomWebhookNotificationBlock(
    name="tests", url=sys.argv[1], method="POST", json_data={"subject": "{{subject}}", "body": "{{body}}"}
)
hook.save("tests")
print(set_up("custom-webhook/tests") == set_up("custom-webhook/tests"))
WRONG = {"preset": "smoke", "settings": {"learning_rate": -1.0}, "executor": "inline"}
run = run_deployment("weight-decay-sweep/run", parameters=WRONG, timeout=180)
print(run.state.name)
"""


def test_a_store_that_is_not_allowed_is_refused_with_the_run(service: Served) -> None:
    _, deployment = ask(f"{service.api}/deployments/name/weight-decay-sweep/run", AUTH)
    before = len(ask_with_token(service, "flow_runs"))
    token = ask(f"{service.api}/csrf-token?client=tests", AUTH)[1]["token"]
    parameters = {"preset": "smoke", "store": str(service.store.parent / "elsewhere")}
    url = f"{service.api}/deployments/{deployment['id']}/create_flow_run"
    status, said = ask(url, AUTH, {"parameters": parameters}, token)
    assert status == HTTPStatus.CONFLICT
    assert "Validation failed for field 'store'" in said and "does not match" in said
    assert len(ask_with_token(service, "flow_runs")) == before


def test_a_failure_is_sent_to_the_notification_block(service: Served) -> None:
    told: queue.Queue[dict[str, str]] = queue.Queue()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    environment = {**os.environ, "PREFECT_API_URL": service.api, "PREFECT_API_AUTH_STRING": AUTH}
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = [sys.executable, "-c", TELL, f"http://127.0.0.1:{server.server_port}/"]
        ended = subprocess.run(given, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        assert ended.stdout.split() == ["True", "Failed"], ended.stdout + ended.stderr
        message = told.get(timeout=60)
        server.shutdown()
    assert message["subject"] == "specdyn: modular_addition smoke failed"
    assert "learning_rate=-1.0 is not allowed: expected a finite number above 0" in message["body"]
    automations = ask_with_token(service, "automations")
    assert sorted(one["name"] for one in automations) == ["specdyn: mark runs that died", "specdyn: tell of failures"]


SILENT = """
import time
from prefect import flow, get_client
from prefect.events import emit_event
from prefect.states import Running
from specdyn.flows.service import automations, silent_runs

silent_runs.SILENT_SECONDS = 10.0
with get_client(sync_client=True) as client:
    def started(name):
        deployment = client.read_deployment_by_name(name)
        return client.create_flow_run_from_deployment(deployment.id, state=Running())

    silent, heard = started("lottery-tickets/tickets"), started("mode-connectivity/connect")
    alone = client.create_flow_run(flow(lambda: None, name="alone"), state=Running())
    assert silent_runs.mark_silent_runs() == [], "they began just now"
    time.sleep(11)
    about = f"prefect.flow-run.{heard.id}"
    of_it = silent_runs.EventResourceFilter(id=[about])
    emit_event(automations.HEARTBEAT, resource={"prefect.resource.id": about})
    while True:
        there = client.read_events(silent_runs.EventFilter(resource=of_it), limit=50).events
        if automations.HEARTBEAT in {event.event for event in there}:
            break
        time.sleep(0.2)
    assert silent_runs.mark_silent_runs() == [silent.name]
    assert silent_runs.mark_silent_runs() == []
    print([client.read_flow_run(run.id).state.type.value for run in (silent, heard, alone)])
    for run in (heard, alone):
        client.delete_flow_run(run.id)
"""


def test_runs_that_are_silent_are_marked_and_no_others(service: Served) -> None:
    environment = {**os.environ, "PREFECT_API_URL": service.api, "PREFECT_API_AUTH_STRING": AUTH}
    given = [sys.executable, "-c", SILENT]
    ended = subprocess.run(given, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout.strip() == "['CRASHED', 'RUNNING', 'RUNNING']", ended.stdout + ended.stderr


def test_a_schedule_extends_its_sweep_one_firing_after_another(service: Served) -> None:
    def command(*words: str) -> str:
        ended = call("schedule", *words, "--api", service.api, env={"PREFECT_API_AUTH_STRING": AUTH})
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    grid = ("--preset", "smoke", "-w", "0", "-s", "0", "--set", "steps=20", "--analyses", "spectrum")
    command("add", "often", NAME, *grid, "--every", "8s", "--more-seeds", "1")
    listed = command("list")
    assert "every 0:00:08" in listed and "active" in listed

    def wait_for_two(field: str) -> list[dict[str, Any]]:
        end = time.monotonic() + SECONDS
        while len(found := [run for run in flow_runs(service) if run["auto_scheduled"] and run[field]]) < 2:
            assert time.monotonic() < end, service.log.read_text()
            time.sleep(1.0)
        return found

    wait_for_two("start_time")
    command("pause", "often")
    assert "paused" in command("list")
    for run in waiting(service):  # those that came due meanwhile would each be worked through
        send(service, "DELETE", f"flow_runs/{run['id']}")
    worked = wait_for_two("end_time")
    assert {run["state_type"] for run in worked} == {"COMPLETED"}
    assert {0, 1} <= seeds_of(Store(str(service.store)).cube("often"))
    for before, after in pairwise(worked):
        assert datetime.fromisoformat(before["end_time"]) <= datetime.fromisoformat(after["start_time"])
    command("remove", "often")
    assert "often" not in command("list")


def schedule_of(service: Served) -> dict[str, Any]:
    """The only schedule of the sweeps, as the server has it."""
    (found,) = [one for each in ask_with_token(service, "deployments") for one in each["schedules"]]
    return dict(found)


def change(service: Served, **changes: Any) -> None:
    """Change the schedule as a page of the UI does."""
    schedule = schedule_of(service)
    assert send(service, "PATCH", f"deployments/{schedule['deployment_id']}/schedules/{schedule['id']}", changes) == 204


def send(service: Served, method: str, path: str, question: dict[str, Any] | None = None) -> int:
    """The status of the answer."""
    token = ask(f"{service.api}/csrf-token?client=tests", AUTH)[1]["token"]  # of two that a client asks for the last
    for _ in range(20):  # 503 is said while the server's database is busy
        status = ask(f"{service.api}/{path}", AUTH, question, token, method)[0]
        if status != 503:
            break
        time.sleep(0.5)
    return status


def test_a_schedule_fires_what_was_asked_for_whoever_pauses_and_resumes_it(service: Served) -> None:
    def command(*words: str) -> str:
        ended = call("schedule", *words, "--api", service.api, env={"PREFECT_API_AUTH_STRING": AUTH})
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def fire(expected: dict[str, Any]) -> None:
        """Have the next run of the schedule begin now, as the UI offers it; it is to end with these parameters."""
        end = time.monotonic() + SECONDS
        while not (runs := [run for run in waiting(service) if (run["created_by"] or {}).get("id") == schedule]):
            assert time.monotonic() < end, service.log.read_text()
            time.sleep(0.5)
        now = {"type": "SCHEDULED", "state_details": {"scheduled_time": datetime.now(UTC).isoformat()}}
        assert send(service, "POST", f"flow_runs/{runs[0]['id']}/set_state", {"state": now, "force": True}) == 201
        while (run := ask(f"{service.api}/flow_runs/{runs[0]['id']}", AUTH)[1])["end_time"] is None:
            assert time.monotonic() < end, service.log.read_text()
            time.sleep(0.5)
        assert (run["state_type"], run["parameters"]) == ("COMPLETED", expected)

    grid = ("--preset", "smoke", "-w", "0", "-s", "0", "--set", "steps=20", "--analyses", "spectrum")
    command("add", "kept", NAME, *grid, "--every", "1d", "--more-seeds", "0")
    asked, schedule = schedule_of(service)["parameters"], schedule_of(service)["id"]
    assert (asked["settings"], asked["sweep"]) == ({"steps": 20}, "kept")
    asked = {**asked, "executor": "inline"}  # each firing would start Python on the Ray cluster as well
    change(service, active=True, parameters=asked)
    for verb, active in (("pause", False), ("resume", True)):
        command(verb, "kept")
        assert (schedule_of(service)["parameters"], schedule_of(service)["active"]) == (asked, active)
    fire(asked)

    # As Prefect's newer UI and its own command do it, which the server answers by dropping the parameters.
    change(service, active=False)
    assert schedule_of(service)["parameters"] == {}
    assert "sweep=kept" in command("list").replace("\n", "")
    change(service, active=True)
    fire(asked)
    assert schedule_of(service)["parameters"] == asked

    # Edited on a page, then switched by the command.
    edited = {**asked, "weight_decays": [0.0, 0.5]}
    change(service, active=True, parameters=edited)
    command("pause", "kept")
    command("resume", "kept")
    assert schedule_of(service)["parameters"] == edited
    fire(edited)
    change(service, active=False)
    command("resume", "kept")
    assert schedule_of(service)["parameters"] == edited
    command("remove", "kept")
    layers = open_results(Store(str(service.store)).cube("kept"))["layers"]
    assert sorted(layers["weight_decay"].values.tolist()) == [0.0, 0.5]
    assert {path.parent.name for path in (service.store / "studies").glob("*/sweep.json")} <= {"often", "kept"}
    assert not [one for one in ask_with_token(service, "variables") if one["name"].startswith("specdyn-schedule-")]


def test_runs_give_signs_of_life_also_with_a_password(service: Served) -> None:
    asked = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}, "limit": 50}
    told = {event["resource"]["prefect.resource.id"] for event in ask_with_token(service, "events", asked)["events"]}
    fired = {f"prefect.flow-run.{run['id']}" for run in flow_runs(service) if run["auto_scheduled"]}
    assert told & fired


def test_the_password_is_written_nowhere(service: Served) -> None:
    places = [path for path in [service.log, *service.store.rglob("*")] if path.is_file()]
    assert len(places) > 1
    for path in places:
        assert PASSWORD.encode() not in path.read_bytes(), path


def test_a_run_that_waits_for_its_turn_asks_for_it_every_few_seconds(service: Served) -> None:
    """By the times that its states say, as runs wait long enough for several only on a slow machine."""
    _, deployment = ask(f"{service.api}/deployments/name/weight-decay-sweep/run", AUTH)
    token = ask(f"{service.api}/csrf-token?client=tests", AUTH)[1]["token"]
    parameters = {"preset": "smoke", "settings": {"learning_rate": -1.0}, "executor": "inline"}
    url = f"{service.api}/deployments/{deployment['id']}/create_flow_run"
    runs = [ask(url, AUTH, {"parameters": parameters}, token)[1]["id"] for _ in range(2)]
    wait_until(lambda: all(_ended(service, run) for run in runs), "both runs end", SECONDS)
    states = [state for run in runs for state in ask(f"{service.api}/flow_run_states/?flow_run_id={run}", AUTH)[1]]
    waits = [
        datetime.fromisoformat(state["state_details"]["scheduled_time"]) - datetime.fromisoformat(state["timestamp"])
        for state in states
        if state["name"] == "AwaitingConcurrencySlot"
    ]
    assert waits, "one of both waits for the other"
    assert {round(wait.total_seconds()) for wait in waits} == {3}


def _ended(service: Served, run: str) -> bool:
    return bool(ask(f"{service.api}/flow_runs/{run}", AUTH)[1]["state_type"] in ("FAILED", "COMPLETED", "CRASHED"))
