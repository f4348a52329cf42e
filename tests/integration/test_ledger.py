"""The ledger of studies that run through Prefect, and what calls on Ray tell of what they took."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.pipelines import sweep
from specdyn.flows.cli.app import app
from specdyn.flows.engine.executor import open_executor
from specdyn.flows.engine.run_study import StudyFailed
from specdyn.flows.resources import Resources
from specdyn.storage.places import Store
from specdyn.tasks.ledger.entries import read_entries
from specdyn.tasks.ledger.metering import Spent, noted

pytestmark = pytest.mark.integration
NAME = "modular_addition"
SMALL = {"weight_decays": [0.0], "executor": "inline", "report": False, "analyses": ["spectrum"]}


def test_a_sweep_leaves_what_it_took_and_the_command_sums_it(prefect_server: None, local_store: Store) -> None:
    began = time.perf_counter()
    outcome = sweep(local_store.url, **SMALL)
    wall = time.perf_counter() - began
    entries = read_entries(local_store, NAME)
    assert sorted(entry.kind for entry in entries) == ["analyses", "trainings"]
    assert all(entry.seconds > 0 for entry in entries) and sum(entry.seconds for entry in entries) <= wall
    assert all(entry.estimate and not entry.failed and entry.executor == "inline" for entry in entries)
    said = CliRunner().invoke(app, ["ledger", outcome.name, "--store", local_store.url]).output
    assert all(f"{entry.seconds:.2f}" in said for entry in entries) and "2 entries: " in said
    (run,) = {entry.key for entry in entries if entry.kind == "trainings"}
    shown = CliRunner().invoke(app, ["show", run, "--store", local_store.url]).output
    assert "What it took" in shown and all(f"{entry.seconds:.2f}" in shown for entry in entries)


def test_a_failed_training_is_in_the_ledger(prefect_server: None, local_store: Store) -> None:
    with pytest.raises(StudyFailed):
        sweep(local_store.url, **SMALL, settings={"learning_rate": 1e30, "steps": 20})
    assert [(entry.kind, entry.failed) for entry in read_entries(local_store, NAME)] == [("trainings", True)]


def test_a_ledger_that_cannot_be_written_fails_no_unit(prefect_server: None, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "logs").write_text("a file where a folder is to be")
    assert sweep(str(store), **SMALL).finished == 1


def test_calls_on_ray_report_their_cost_even_if_nobody_waits_for_them() -> None:
    told: list[tuple[Sequence[Spent], bool]] = []
    with (
        open_executor("ray", Resources(cpus=1)) as workers,
        noted(lambda calls, failed: told.append((calls, failed))),
    ):
        shared = workers.start(time.sleep, 0.2)
        values: list[str] = []
        workers.run_all(repr, [(shared,), (shared,)], values.append)
        with pytest.raises(ValueError, match="invalid literal"):
            workers.run(int, "no number")
    ((calls, failed),) = told
    assert values == ["None", "None"] and not failed and len(calls) == 4
    assert 0.2 <= sum(call.seconds for call in calls) < 5
    assert {(call.device, call.threads, call.gpus) for call in calls} == {("cpu", 1, 0.0)}
