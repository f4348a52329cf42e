"""Checkpoints that were measured are removed: not those that others need, and no number is lost."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr
from typer.testing import CliRunner

from helpers.analysed import analyse, sweep_called
from helpers.branched import carry_out, graph_in
from helpers.kept import put_back, snapshot
from specdyn.flows.cli.app import app
from specdyn.models.spec.parts import Norms
from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint, read_finished, read_manifest
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.query import open_results
from specdyn.tasks.care import thin as thinning
from specdyn.tasks.care.garbage import find_garbage
from specdyn.tasks.care.repair import repair, verify_study
from specdyn.tasks.care.thin import plan_thinning, thin
from specdyn.tasks.plan.gathering import finished_results, gather
from specdyn.tasks.training.replay import keep_states

SWEEP = sweep_called("decay", 0.0, 1.0, analyses=("spectrum",))
ALONE, SHARED = SWEEP.specs
"""Of the second one forks start at step 10."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = require_store(str(tmp_path_factory.mktemp("made") / "store"))
    analyse(SWEEP, store.url)
    gather(SWEEP, store, report=False)
    graph, _ = graph_in(store.url, "connect", name="forks", seeds=[0])
    assert graph.trunks == (SHARED,)
    carry_out(graph, store)
    graph.clean(store)
    return store


@pytest.fixture
def store(made: Store) -> Iterator[Store]:
    with put_back(Path(made.url)):
        yield made


def steps(store: Store, run_id: str) -> list[int]:
    """Steps of the checkpoints that are there."""
    names = objects.names(store.run(ALONE.experiment, run_id).folder)
    return [int(name[5:13]) for name in names if name.startswith("step=")]


def said(store: Store, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--store", store.url], env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_what_others_need_stays_and_no_number_is_lost(store: Store) -> None:
    before = open_results(store.cube("decay")).load()
    assert steps(store, ALONE.run_id) == steps(store, SHARED.run_id) == [0, 10, 20]
    known = snapshot(store)
    shown = said(store, "thin", "decay", "--keep-every", "2")
    assert shown.endswith("--yes removes them") and "1 checkpoint" in shown
    assert snapshot(store) == known, "nothing is written without --yes"
    assert "removed 1 checkpoint" in said(store, "thin", "decay", "--keep-every", "2", "--yes")
    assert steps(store, ALONE.run_id) == [0, 20]
    assert steps(store, SHARED.run_id) == [0, 10, 20], "forks start at step 10"
    assert said(store, "thin", "decay", "--keep-every", "2").endswith("nothing to remove")
    assert verify_study(store).damage == () and repair(store) == []
    assert find_garbage(store, older_than=0.0).things == ()
    assert finished_results(SWEEP, store, report=False)
    gather(SWEEP, store, report=False)
    xr.testing.assert_identical(open_results(store.cube("decay")).load(), before)


@pytest.mark.parametrize("killed_at", [0, 1])
def test_another_call_goes_on_where_one_was_killed(
    killed_at: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, usual = 0, objects.delete_all

    def dying(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > killed_at:
            raise RuntimeError("killed")
        usual(*arguments)  # type: ignore[arg-type]

    def two(manifest: object, keep_every: int, needed: set[int]) -> tuple[int, ...]:
        return (10,)

    with monkeypatch.context() as patch:
        patch.setattr(thinning, "_going", two)
        patch.setattr(thinning.objects, "delete_all", dying)
        with pytest.raises(RuntimeError, match="killed"):
            thin(store, "decay", 2)
        assert verify_study(store).damage == ()
    with monkeypatch.context() as patch:
        patch.setattr(thinning, "_going", two)
        assert len(thin(store, "decay", 2).things) == 2 - killed_at
    assert steps(store, ALONE.run_id) == steps(store, SHARED.run_id) == [0, 20]
    assert verify_study(store).damage == ()


def test_an_analysis_that_is_added_trains_the_run_again_and_what_was_measured_counts(store: Store) -> None:
    before = open_results(store.cube("decay")).load()
    thin(store, "decay", 2)
    more = dataclasses.replace(SWEEP, analyses=("spectrum", "effective_rank"))
    training = {item.key: item for item in more.items(store) if item.kind == "trainings"}
    assert (training[ALONE.run_id].state, training[SHARED.run_id].state) == ("damaged", "done")
    assert training[ALONE.run_id].reason == "checkpoints of it were removed, and effective_rank needs them"
    results = set(objects.names_below(store.measured("runs", ALONE.experiment)))
    unit = training[ALONE.run_id].unit
    assert unit
    unit.function(*unit.arguments)
    unit.function(*unit.arguments)
    analyse(more, store.url)
    assert steps(store, ALONE.run_id) == [0, 10, 20]
    assert results < set(objects.names_below(store.measured("runs", ALONE.experiment))), "of the same checkpoints"
    gather(more, store, report=False)
    after = open_results(store.cube("decay")).load()
    xr.testing.assert_equal(after["layers"]["singular_value"], before["layers"]["singular_value"])
    assert after["layers"]["effective_rank"].notnull().all()
    assert said(store, "thin", "decay", "--keep-every", "2").endswith("--yes removes them")


def test_a_fork_at_a_checkpoint_that_was_removed_has_the_run_trained_again(store: Store) -> None:
    thin(store, "decay", 2)
    for _ in range(2):
        with pytest.raises(
            DamagedCheckpoint, match=rf"run {ALONE.run_id} step 10: .* is missing.*trains the run again"
        ):
            keep_states(ALONE, store, [10])
    manifest = read_manifest(store.run_of(ALONE))
    assert manifest and manifest.status == "damaged"
    (item,) = (item for item in SWEEP.items(store) if item.key == ALONE.run_id)
    assert item.unit
    item.unit.function(*item.unit.arguments)
    assert keep_states(ALONE, store, [10]) >= 0
    manifest = read_manifest(store.run_of(ALONE))
    assert manifest and manifest.thinned == () and read_finished(store, manifest, 10)


def test_runs_that_are_not_measured_or_that_another_follows_keep_all(store: Store) -> None:
    follower = dataclasses.replace(ALONE, norms=Norms(run=ALONE.run_id), seed=1)
    study = dataclasses.replace(SWEEP, name="others", specs=(follower,))
    study.record(store)
    plan = plan_thinning(store, "others", 2)
    assert (dict(plan.steps), plan.things) == ({}, ())
    assert set(plan.whole.values()) == {"training is not finished", "another run follows its norms"}
    assert plan_thinning(store, "decay", 2).steps == {}
    folder = store.measured("runs", ALONE.experiment)
    block = next(name for name in objects.names_below(folder) if name.startswith(SHARED.run_id))
    objects.delete(f"{folder}/{block}")
    assert "analysis is not finished" in plan_thinning(store, "decay", 2).whole.values()


@pytest.mark.parametrize(
    ("study", "every", "message"),
    [
        ("none", 2, "study='none' is not allowed: expected one of decay, forks"),
        ("decay", 1, "keep_every=1"),
        ("decay", -3, "keep_every=-3"),
    ],
)
def test_what_cannot_be_thinned_is_refused(study: str, every: int, message: str, store: Store) -> None:
    with pytest.raises(ValueError, match=message):
        plan_thinning(store, study, every)


def test_nothing_is_removed_while_a_call_works_on_the_store(store: Store) -> None:
    with hold(store.lease(store.cube("decay")), "decay"), pytest.raises(StoreError, match="works on decay"):
        thin(store, "decay", 2)
    assert steps(store, ALONE.run_id) == [0, 10, 20]
