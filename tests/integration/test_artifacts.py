"""What a sweep leaves in Prefect for people, and how flows wait for one another."""

import base64
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client
from prefect.client.schemas.objects import FlowRun

from helpers.pipelines import sweep
from specdyn.flows.engine.run_study import StudyFailed, cube_lease
from specdyn.storage.places import Store

pytestmark = pytest.mark.integration


def newest_run() -> FlowRun:
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        return client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)[0]


def artifacts_of(run: FlowRun) -> dict[str, Any]:
    """Key -> artifact, of the flow run and of its task runs."""
    wanted = {"flow_runs": {"id": {"any_": [str(run.id)]}}, "limit": 200, "offset": 0, "sort": "CREATED_DESC"}
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json=wanted).json()
    return {artifact["key"]: artifact for artifact in found}


@pytest.fixture(scope="module")
def swept(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, FlowRun]:
    """A small sweep with its report, and its flow run."""
    store = str(tmp_path_factory.mktemp("artifacts"))
    sweep(store, weight_decays=[0.0], executor="inline", report=True)
    return store, newest_run()


def test_a_run_has_a_readable_name_and_all_its_artifacts(swept: tuple[str, FlowRun]) -> None:
    _, run = swept
    assert run.name == "modular_addition smoke"
    kinds = {key: artifact["type"] for key, artifact in artifacts_of(run).items()}
    assert {"plan", "trainings-progress", "analyses-progress", "summary", "report", "effective-rank"} <= kinds.keys()
    assert kinds["trainings-progress"] == kinds["analyses-progress"] == "progress"
    assert kinds["effective-rank"] == "image"


def test_the_progress_ends_at_a_hundred(swept: tuple[str, FlowRun]) -> None:
    found = artifacts_of(swept[1])
    assert [found[f"{stage}-progress"]["data"] for stage in ("trainings", "analyses")] == [100.0, 100.0]


def test_the_first_figures_are_pictures(swept: tuple[str, FlowRun]) -> None:
    found = artifacts_of(swept[1])
    assert {key for key, one in found.items() if one["type"] == "image"} == {"performance", "effective-rank"}
    kind, _, data = str(found["effective-rank"]["data"]).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")


def test_the_lines_to_paste_open_the_results(swept: tuple[str, FlowRun]) -> None:
    text = str(artifacts_of(swept[1])["summary"]["data"])
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)
    assert names["results"]["layers"]["effective_rank"].shape[0] == 1
    assert "| weight decay |" in text


def test_logs_of_units_are_in_prefect_and_in_the_store(swept: tuple[str, FlowRun]) -> None:
    from prefect.client.schemas.filters import LogFilter

    store, run = swept
    (kept,) = Path(store, "logs").glob("modular_addition/*/trainings-*.log")
    last = kept.read_text().splitlines()[-1]
    assert "step 60 of 60, training loss" in last
    deadline = time.monotonic() + 30
    with get_client(sync_client=True) as client:
        only = LogFilter.model_validate({"flow_run_id": {"any_": [run.id]}})
        while last not in (told := [line.message for line in client.read_logs(log_filter=only, limit=200, offset=0)]):
            assert time.monotonic() < deadline, told
            time.sleep(0.5)


def test_a_failure_says_where_why_and_what_to_do(prefect_server: None, local_store: Store) -> None:
    with pytest.raises(StudyFailed):
        sweep(local_store.url, weight_decays=[0.0], executor="inline", settings={"learning_rate": 1e30, "steps": 20})
    text = str(artifacts_of(newest_run())["failures"]["data"])
    assert "Diverged: run " in text
    assert "lower the learning rate" in text
    assert list(Path(local_store.url, "logs").glob("modular_addition/*/trainings-*.log"))


seen: list[str] = []
both = threading.Barrier(2, timeout=60)


@flow(name="hold", persist_result=False)
def hold(store: str, name: str) -> None:
    both.wait()
    with cube_lease(Store(store).cube(name), Store(store)):
        seen.append("in")
        time.sleep(0.5)
        seen.append("out")


@flow(name="meet", persist_result=False)
def meet(store: str, name: str) -> None:
    with cube_lease(Store(store).cube(name), Store(store)):
        both.wait()
        seen.append(name)


def run_both(which: Any, store: str, names: str) -> list[str]:
    """What two flows did, in order."""
    seen.clear()
    threads = [threading.Thread(target=which, args=(store, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(seen)


def test_flows_on_one_sweep_take_turns(
    prefect_server: None, local_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_both(hold, local_store.url, "aa") == ["in", "out", "in", "out"]
    assert [text for text in caplog.messages if text.startswith(f"a: waiting for process {os.getpid()} on ")]


def test_flows_on_two_sweeps_go_on_together(prefect_server: None, local_store: Store) -> None:
    assert sorted(run_both(meet, local_store.url, "bc")) == ["b", "c"]
