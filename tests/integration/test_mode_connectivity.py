"""Graphs of trunks, branches and pairs through Prefect and Ray: what runs, what does not run again, what dies."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import xarray as xr

from helpers.pipelines import NAME, ROOT, at_server, call, command, files
from specdyn.flows.outcome import Outcome
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.start import MASKS
from specdyn.storage.places import Store
from specdyn.tasks.figures.report import write_report
from specdyn.tasks.plan.branching.graph import Graph, Lines, connectivity_graph, trunk_specs
from specdyn.tasks.plan.branching.records import read_graphs
from specdyn.tasks.plan.plan import planned

if TYPE_CHECKING:
    from specdyn.flows.engine.executor import Executor

pytestmark = [pytest.mark.integration, pytest.mark.scenario, pytest.mark.usefixtures("prefect_server")]
SETTINGS = {"weight_decay": 1.0, "steps": 40}
GRAPH_NAME = f"{NAME}-smoke-steps=40-weight_decay=1"
"""Made of the settings: another weight decay has results of its own."""
GRAPH: dict[str, Any] = {"seeds": [0, 1], "splits": [0, 20], "orders": [3, 4], "sizes": [0.0, 1.0]}
TRAININGS, PAIRS = 2 + 2 * 2 * 2 + 2 * 2 * 2, 4 + 4 + 4


def connect(store: str, **parameters: Any) -> dict[str, Any]:
    """The flow on a graph of seconds."""
    from specdyn.flows.connect import mode_connectivity

    given = {"experiment": NAME, "preset": "smoke", "settings": SETTINGS, "store": store, **GRAPH, **parameters}
    outcome: Outcome = mode_connectivity(**given)
    return outcome


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, prefect_server: None, ray_cluster: None) -> Path:
    """A store with the finished graph, made through Ray."""
    store = tmp_path_factory.mktemp("done") / "store"
    outcome = connect(str(store))
    assert f": 2 of 2 trunks, {TRAININGS - 2} of {TRAININGS - 2} branches, " in outcome.summary
    assert f"{PAIRS} of {PAIRS} pairs to do." in outcome.summary
    # Ends: sixteen branches on their own data, and eight of them on that of the other trunk too (the split of modular
    # addition depends on the seed), four of which are the second of a pair. Pairs: 54 and 18 for the matched line.
    assert outcome.work.trainings == TRAININGS
    assert outcome.work.evaluations == (16 + 4) * 6 + PAIRS * (54 + 18)
    # Each end once, and the nine points inside each line.
    assert outcome.work.decompositions == 16 * 6 + PAIRS * 9 * 6
    assert not (store / "scratch").exists()
    return store


def cube(store: Path) -> xr.Dataset:
    return xr.open_zarr(Store(str(store)).connectivity(GRAPH_NAME)).load()


def test_the_cube_has_every_pair_with_its_labels(done: Path) -> None:
    data = cube(done)
    assert data.sizes["pair"] == PAIRS
    assert Counter(data.kind.values.tolist()) == {"across": 4, "perturbed": 4, "within": 4}
    within = data.isel(pair=np.flatnonzero(data.kind.values == "within"))
    assert sorted(within.split_step.values.tolist()) == [0, 0, 20, 20]
    assert np.isfinite(data.barrier_loss).all() and np.isfinite(data.agreement_score).all()
    # Branches that part late stay closer than those that part at once, and those than two trunks.
    apart = within.distance.groupby("split_step").mean()
    across = data.distance.isel(pair=np.flatnonzero(data.kind.values == "across")).mean()
    assert apart.sel(split_step=20) < apart.sel(split_step=0) < across


def test_its_figures_are_drawn_on_request(done: Path, tmp_path: Path) -> None:
    folder = Path(Store(str(done)).report(GRAPH_NAME))
    assert {path.name for path in folder.glob("*.*")} >= {"connectivity.html"} and not list(folder.glob("*.png"))
    write_report(Store(str(done)).connectivity(GRAPH_NAME), str(tmp_path), figures=True)
    kinds = ("", "_barriers", "_agreement", "_agreement_score")
    expected = {"connectivity", "barriers", "ends_agreement", "ends_agreement_score"}
    assert {path.stem for path in tmp_path.glob("*.png")} == expected | {f"perturbation{kind}" for kind in kinds}


def test_a_second_call_says_that_nothing_is_left_and_writes_nothing(done: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    outcome = connect(str(done))
    assert f"2 trunks, {TRAININGS - 2} branches, {PAIRS} pairs, all done; nothing to do." in outcome.summary
    assert (outcome.measured, len(outcome.report)) == (PAIRS, 1)
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*")} == before


def test_what_each_unit_logged_is_kept(done: Path) -> None:
    logs = [path.name.split("-")[0] for path in (done / "logs" / NAME).rglob("*.log")]
    assert Counter(logs) == {"trunks": 2, "branches": 16, "factors": 16, "ends": 20, "pairs": PAIRS}
    (pair, *_) = sorted((done / "logs" / NAME).glob("*/pairs-*.log"))
    assert ": 72 evaluations, 54 decompositions" in pair.read_text()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    outcome = connect(str(tmp_path / "store"), dry_run=True, executor="inline")
    assert f"{PAIRS} of {PAIRS} pairs" in outcome.summary
    assert outcome.summary.endswith("of checkpoints to write.")
    left = {"trunks": 2, "branches": 16, "factors": 16, "ends": 20, "pairs": PAIRS}
    assert ", ".join(f"{count} of {count} {kind}" for kind, count in left.items()) in outcome.summary
    assert len(outcome.todo) == sum(left.values())
    with_data = {"experiment": "image_classification", "seeds": [0], "splits": [], "sizes": [], "settings": {}}
    assert " to do. About" in connect(str(tmp_path / "store"), **with_data, dry_run=True, executor="inline").summary
    assert list(tmp_path.iterdir()) == []


def test_the_graph_is_kept_and_its_state_is_shown_by_name(done: Path) -> None:
    (graph,) = [found for found in read_graphs(Store(str(done)), GRAPH_NAME) if found.kind == "connectivity"]
    assert sorted(pair.pair_id for pair in graph.pairs) == sorted(cube(done).pair.values.tolist())
    assert graph.splits == (0, 20)
    output = call("status", GRAPH_NAME, "--store", str(done)).stdout
    assert f"2 trunks, {TRAININGS - 2} branches, {PAIRS} pairs, all done; nothing to do." in output


def test_states_that_a_trunk_did_not_keep_are_refused_or_made_again(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    small = {"executor": "inline", "seeds": [0], "sizes": [], "report": False}
    connect(store, **{**small, "splits": [0]})
    with pytest.raises(ValueError, match=r"did not keep its state at steps 30; it kept: 0. Allow retrain"):
        connect(store, **{**small, "splits": [30], "retrain": False})
    outcome = connect(store, **{**small, "splits": [], "split_epochs": [7.5]})
    assert "1 of 1 states" in outcome.summary
    assert cube(tmp_path / "store").split_step.values.tolist() == [0, 30]


class Watched:
    """Runs units one at a time in the threads that ask for it, the second trunk only when a branch has begun."""

    slots = 2

    def __init__(self, graph: Graph) -> None:
        (self.first, self.second), self.lock, self.branch_began = graph.trunks, threading.Lock(), threading.Event()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        given = args[0]
        if given == self.second:
            assert self.branch_began.wait(60), "no branch of the first trunk began before the second was trained"
        with self.lock:
            if isinstance(given, RunSpec) and given.start and given.start.run_id == self.first.run_id:
                self.branch_began.set()
            return function(*args)


def test_a_branch_starts_while_another_trunk_is_still_in_training(tmp_path: Path) -> None:
    from prefect import flow

    from specdyn.flows.engine.units import run_units

    store, trunks = str(tmp_path), trunk_specs(NAME, "smoke", (0, 1), SETTINGS)
    graph = connectivity_graph("g", trunks, (20,), (3, 4), lines=Lines(points=3))
    plan, executor = planned(graph, Store(store)), cast("Executor", Watched(graph))
    made = flow(lambda: run_units(plan, executor), name="watched")()
    assert (made.failures, made.left_out, made.work.trainings) == ({}, {}, 6)
    assert all(item.state == "done" for item in graph.items(Store(store)))


def test_a_trunk_that_fails_leaves_out_what_begins_there(tmp_path: Path) -> None:
    from specdyn.flows.engine.run_study import StudyFailed

    store = tmp_path / "store"
    with pytest.raises(
        StudyFailed, match=r"^1 failed; results of the others are kept.*\n  trunks: wd=1 seed=0 .*Diverged"
    ):
        connect(str(store), seeds=[0], settings={**SETTINGS, "learning_rate": 1e30}, executor="inline")
    assert len(list((store / "checkpoints" / NAME).iterdir())) == 1
    before = files(store)
    with pytest.raises(
        StudyFailed, match=r"(?s)^1 failed; results of the others are kept.*Diverged: .*\n  branches: .* failed$"
    ):
        connect(str(store), seeds=[0], settings={**SETTINGS, "learning_rate": 1e30}, executor="inline")
    assert {path for path, data in files(store).items() if before.get(path) != data} == set()


def test_a_damaged_end_is_named_and_the_next_call_trains_it_again(tmp_path: Path) -> None:
    from specdyn.flows.engine.run_study import StudyFailed

    store = tmp_path / "store"
    small = {"executor": "inline", "seeds": [0], "splits": [20], "orders": [3, 4, 5], "sizes": [], "report": False}
    connect(str(store), **small)
    expected = cube(store)
    branch = expected.run_a.values[0]
    shutil.rmtree(store / "results")
    (store / "checkpoints" / NAME / branch / "step=00000040.safetensors").unlink()
    with pytest.raises(StudyFailed, match=r"^1 failed.*\n  factors: factors of seed=0 split=20 order=3 .*is missing"):
        connect(str(store), **small)
    left = cube(store)
    damaged = (left.run_a == branch) | (left.run_b == branch)
    assert left.status.values.tolist() == np.where(damaged, "damaged", "done").tolist()
    assert damaged.values.tolist().count(False) == 1, "the pair of the two others"
    connect(str(store), **small)
    xr.testing.assert_allclose(cube(store), expected)


def test_a_graph_that_was_killed_goes_on_and_trains_nothing_twice(done: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = ["--seeds", "0,1", "--splits", "0,20", "--orders", "3,4", "--sizes", "0,1", "--executor", "inline"]
    settings = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    line = command("connect", NAME, "--preset", "smoke", *words, *settings, "--store", str(store))
    environment = {**os.environ, **at_server()}
    process = subprocess.Popen(line, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    manifests = f"runs/{NAME}/*.json"
    deadline = time.monotonic() + 200
    while len(list(store.glob(manifests))) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in store.glob(manifests)}
    assert 6 <= len(before) < TRAININGS
    again = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert again.returncode == 0, again.stderr
    assert f"made         {TRAININGS - len(before)} trainings" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (store / "scratch").exists()
    xr.testing.assert_allclose(cube(store).sortby("pair"), cube(done).sortby("pair"), rtol=1e-4, atol=1e-5)


def test_tickets_are_trained_from_the_trunk_that_pairs_have_and_compared_with_it(done: Path) -> None:
    from specdyn.flows.tickets import lottery_tickets

    given: dict[str, Any] = {"experiment": NAME, "preset": "smoke", "settings": SETTINGS, "store": str(done)}
    given |= {"seeds": [0], "rewind": 20, "densities": [0.3, 0.6]}
    outcome = lottery_tickets(**given)
    # The trunk and its state are those of the graph of pairs.
    assert "10 of 10 branches, 1 of 1 factors, 10 of 10 tickets to do." in outcome.summary
    # Five masked layers: of the dense run at steps 20, 30 and 40, of each ticket there, and of what a mask leaves.
    assert outcome.work.decompositions == 5 * (3 + 10 * (3 + 1))
    data = xr.open_zarr(outcome.cube).load()
    assert Counter(data["mask"].values.tolist()) == dict.fromkeys(MASKS, 2)
    mask = data.agreement_mask_score.mean("layer").groupby("mask").mean()
    assert mask.sel(mask="magnitude") > mask.sel(mask="random")
    assert Path(outcome.report[0]).is_file()
    assert "1 trunk, 10 branches, 10 tickets, all done" in lottery_tickets(**given).summary
