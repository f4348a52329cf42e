"""Who works on a study, and how far each run is that is in training."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.analysed import SETTINGS, sweep_called
from helpers.pipelines import ROOT
from specdyn.flows.cli.app import app
from specdyn.models.experiments.base import get_experiment
from specdyn.storage.access.codec import seal, unseal
from specdyn.storage.access.lease import LIFETIME, hold
from specdyn.storage.access.objects import read, write
from specdyn.storage.access.records import newest_place
from specdyn.storage.checkpoints import write_checkpoint
from specdyn.storage.places import Store
from specdyn.storage.studies import StudyRecord, read_study, record_study
from specdyn.tasks.plan.here import run_here
from specdyn.tasks.spectra.analysis import default_analyses

SWEEP = sweep_called("decay", 0.0, 1.0)
BEGUN, NEW = SWEEP.specs
HOLDER = """
import sys
from specdyn.storage.access.codec import seal, unseal
from specdyn.storage.access.lease import hold
with hold(sys.argv[1], "decay", lifetime=0.5) as lease:
    lease.tell("trainings 2/6; 9 s")
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def begun(local_store: Store) -> Store:
    """A store with a sweep of 20 steps, of which one run has checkpoints at steps 0 and 10, written 4 s apart."""
    SWEEP.record(local_store)
    weights = get_experiment(BEGUN.experiment).net(BEGUN).state_dict()
    now = time.time() + 3600  # later than whoever works on it will begin
    for step in (0, 10):
        write_checkpoint(local_store.run_of(BEGUN), step, weights)
        path = local_store.run_of(BEGUN).checkpoint(step)
        os.utime(path, (now + 0.4 * step, now + 0.4 * step))
    return local_store


def lease_of(store: Store) -> str:
    return store.lease(store.cube(SWEEP.name))


def status(store: Store) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """The tables by title, and what is said besides."""
    result = CliRunner().invoke(app, ["status", SWEEP.name, "--store", store.url, "--json"])
    assert result.exit_code == 0, result.output
    tables = json.loads(result.stdout)
    return {table["title"].partition(",")[0]: table["rows"] for table in tables}, result.stderr


@contextmanager
def holder(store: Store) -> Iterator["subprocess.Popen[str]"]:
    """Another process that works on the sweep."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, lease_of(store)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_nobody_works_on_a_study_that_was_left(begun: Store) -> None:
    tables, said = status(begun)
    assert list(tables) == ["decay", "Runs"]
    assert [row["state"] for row in tables["Runs"]] == ["begun", "new"]
    assert "2 of 2 trainings, 2 of 2 analyses to do." in said


def test_status_says_who_works_how_far_each_run_is_and_then_that_the_process_died(begun: Store) -> None:
    with holder(begun) as process:
        until = time.monotonic() + 60
        while "trainings 2/6" not in str((found := status(begun))[0]) and time.monotonic() < until:
            time.sleep(0.1)
        tables, said = found
        (worker,) = tables["At work"]
        assert worker["who"].startswith(f"process {process.pid} on ") and worker["how far"] == "trainings 2/6; 9 s"
        assert worker["last sign of life"].endswith(" s ago")
        assert [row["state"] for row in tables["Runs"]] == ["under way", "waiting"]
        assert "2 of 2 trainings, 2 of 2 analyses under way." in said and "to do" not in said
        # 10 steps in 4 s, and 10 of the 20 are left.
        (trained,) = tables["In training"]
        assert (trained["step"], trained["of"]) == (10, 20)
        assert (trained["steps a second"], trained["time left"]) == (2.5, "4 s")
    tables, said = status(begun)
    (worker,) = tables["Interrupted"]
    assert worker["who"].startswith(f"process {process.pid} on ") and worker["last sign of life"] == "has ended"
    assert [row["state"] for row in tables["Runs"]] == ["begun", "new"]
    assert "to do" in said and "the same command continues where it stopped" in said


def test_a_process_on_another_machine_without_a_sign_of_life_is_called_silent(begun: Store) -> None:
    with hold(lease_of(begun), "decay"):
        (held,) = Path(lease_of(begun)).glob("*.json")
        plain = json.loads(read(str(held)))
        for seconds, title in ((LIFETIME / 2, "At work"), (LIFETIME * 9, "Silent")):
            of_another = {**plain, "machine": "another", "host": "node7", "time": time.time() - seconds}
            write(str(held), json.dumps(of_another).encode())
            tables, said = status(begun)
            assert tables[title][0]["who"] == f"process {os.getpid()} on node7"
            assert ("under way." in said) == (title == "At work")
        write(str(held), json.dumps({name: plain[name] for name in plain if name not in ("time", "doing")}).encode())
        assert status(begun)[0]["At work"][0]["how far"] is None, "a lease of specdyn 0.1 says neither"


def run(store: Store, analyses: str) -> str:
    """What `specdyn run` says of the sweep with these analyses, where all is done."""
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    asked = ["--preset=smoke", "--weight-decays=0,1", "--seeds=0", f"--sweep={SWEEP.name}", *settings]
    chosen = [f"--analyses={analyses}"] if analyses else []
    result = CliRunner().invoke(app, ["run", "modular_addition", *asked, *chosen, "--no-report", "--store", store.url])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_status_counts_the_analyses_that_calls_asked_for(local_store: Store) -> None:
    two = sweep_called("decay", 0.0, 1.0, analyses=("spectrum", "effective_rank"))
    run_here(two, local_store, report=False)
    assert "2 runs already done: nothing to do" in run(local_store, "spectrum,effective_rank")
    assert "all done; nothing to do" in status(local_store)[1]
    # A later call with other analyses extends the study: the first ones stay.
    sweep_called("decay", 0.0, 1.0, analyses=("norms",)).record(local_store)
    record = read_study(local_store, "decay", "sweep")
    assert record and record.analyses == ("spectrum", "effective_rank", "norms")
    assert "2 of 2 analyses to do." in status(local_store)[1]
    run_here(sweep_called("decay", 0.0, 1.0, analyses=("norms",)), local_store, report=False)
    assert "all done; nothing to do" in status(local_store)[1]
    assert "2 runs already done: nothing to do" in run(local_store, "spectrum,effective_rank")


def test_a_record_without_analyses_is_of_the_default_ones(local_store: Store) -> None:
    usual = sweep_called("decay", 0.0, 1.0, analyses=tuple(default_analyses()))
    run_here(usual, local_store, report=False)
    record = read_study(local_store, "decay", "sweep")
    fields = {"name": "decay", "kind": "sweep", "experiment": usual.experiment, "preset": "smoke"}
    assert record == StudyRecord(**fields, specs=record.specs)
    place = newest_place(local_store.study("decay", "sweep"))
    plain = unseal(read(place))
    write(place, seal({name: value for name, value in plain.items() if name != "analyses"}))
    assert read_study(local_store, "decay", "sweep") == record
    assert "all done; nothing to do" in status(local_store)[1] and "nothing to do" in run(local_store, "")


def test_an_analysis_that_is_not_there_any_more_stays_in_the_record(begun: Store) -> None:
    before = read_study(begun, "decay", "sweep")
    assert before
    record_study(begun, dataclasses.replace(before, analyses=("of_a_plugin",)))
    assert "2 of 2 trainings, 2 of 2 analyses to do." in status(begun)[1]
    SWEEP.record(begun)
    after = read_study(begun, "decay", "sweep")
    assert after and after.analyses == ("spectrum", "of_a_plugin")
