"""What no study needs is found and deleted, a study goes with what is its own, and nothing else does."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xarray as xr
from typer.testing import CliRunner

from helpers.kept import GRAPHS, SERIES, SWEEP, call_all, cubes_of, put_back, snapshot
from specdyn.flows.cli.app import app
from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.places import Store
from specdyn.storage.studies import read_study, record_study, study_names
from specdyn.tasks.care import remove as removal
from specdyn.tasks.care.garbage import delete_garbage, find_garbage
from specdyn.tasks.care.references import all_records, begins_from, references
from specdyn.tasks.care.remove import plan_removal, remove
from specdyn.tasks.care.repair import repair, verify_study
from specdyn.tasks.plan.branching.records import graph_of

ALONE, SHARED = (spec.run_id for spec in SWEEP.specs)
"""Of the sweep's runs the second one is the base run of the forks and of the tickets."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    folder = tmp_path_factory.mktemp("made")
    store, series = Store(str(folder / "store")), folder / "series"
    call_all(store, series)
    return store, series


@pytest.fixture
def store(made: tuple[Store, Path]) -> Iterator[Store]:
    with put_back(Path(made[0].url)):
        yield made[0]


def age(store: Store, seconds: float = 7200) -> None:
    """Have everything in a store look as if it was written so long ago."""
    then = time.time() - seconds
    for path in Path(store.url).rglob("*"):
        os.utime(path, (then, then))


def garbage(store: Store) -> dict[str, list[str]]:
    """Names of what may be deleted, by their kind."""
    found: dict[str, list[str]] = {}
    for thing in find_garbage(store).things:
        found.setdefault(thing.kind, []).append(thing.name)
    return found


def said(store: Store, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--store", store.url], env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def unneeded(store: Store) -> dict[str, str]:
    """One object of every kind that nobody needs, by its key, with the kind."""
    manifest = read_manifest(store.run_of(SWEEP.specs[1]))
    assert manifest is not None
    ticket = objects.names(store.measured("tickets", SWEEP.experiment))[0]
    other = "0123456789ab"
    kinds = {
        f".probe-{other}/a": "trials of the store",
        f"checkpoints/modular_addition/{other}/step=00000000.safetensors": "runs",
        f"runs/modular_addition/{other}.json": "runs",
        f"runs/modular_addition/{other}.versions/00000002.json": "runs",
        f"results/runs/modular_addition/{other}-{other}/00000000-00000000-{other}.safetensors": "runs",
        f"results/runs/modular_addition/{SHARED}-{other}/00000000-00000000-{other}.safetensors": (
            "results of other checkpoints"
        ),
        f"results/ends/modular_addition/{other}-{other}-{other}.safetensors": "results",
        f"results/pairs/modular_addition/{other}-{other}.safetensors": "results",
        f"results/tickets/modular_addition/{ticket[:12]}-{other}.safetensors": "results of other checkpoints",
        f"logs/modular_addition/{other}/trainings-1.log": "logs",
        f"logs/modular_addition/{other}/ledger-trainings-20260101T000000Z-01234567.json": "logs",
        f"logs/modular_addition/{other}-factors/factors-1.log": "logs",
        f"masks/{other}.safetensors": "masks",
        f"series/{other}.json": "series records",
        "reports/gone/index.html": "reports",
        "tensorboard/gone/wd=0 seed=0/events.out.tfevents.1": "tensorboard",
        f"data/{objects.names(f'{store}/data')[0]}/arrays-{other}.zarr/zarr.json": "prepared data",
        f"studies/{SWEEP.name}/results.zarr/layers/loss/c.0.0": "replaced chunks",
        "scratch/factors.safetensors": "scratch",
        "reservations/0123456789abcdef": "reservations",
        "leases/gone.results.zarr/00000001.json": "leases",
        f"checkpoints/.{'0' * 32}.partial": "unfinished writes",
    }
    for key in kinds:
        objects.write(f"{store}/{key}", b"{}")
    objects.delete(f"{store}/leases/gone.results.zarr")
    with hold(f"{store}/leases/gone.results.zarr", "what ended"):
        pass
    return kinds


def test_everything_in_a_store_belongs_to_a_study(store: Store) -> None:
    age(store)
    assert garbage(store) == {}
    assert said(store, "gc") == "nothing to delete"


def test_what_nobody_needs_is_found_by_its_kind_and_only_that_is_deleted(store: Store) -> None:
    kinds = unneeded(store)
    age(store)
    kept = snapshot(store)
    found = {key: thing.kind for thing in find_garbage(store).things for key in thing.keys}
    assert found == kinds
    output = said(store, "gc")
    assert snapshot(store) == kept, "nothing is written without --delete"
    assert f"{len(kinds)} objects" in output and "--delete deletes them" in output
    assert all(kind in output for kind in kinds.values())
    assert f"deleted {len(kinds)} objects" in said(store, "gc", "--delete")
    assert snapshot(store) == {path: of for path, of in kept.items() if path.removeprefix(f"{store}/") not in kinds}
    assert said(store, "gc", "--delete") == "nothing to delete"


def test_what_was_written_within_the_hour_stays(store: Store) -> None:
    objects.write(f"{store}/masks/0123456789ab.safetensors", b"young")
    assert "1 more object that no study needs was written within the last hour" in said(store, "gc", "--delete")
    assert objects.exists(f"{store}/masks/0123456789ab.safetensors")


def test_a_run_is_as_young_as_the_last_of_its_objects(store: Store) -> None:
    folder = f"{store}/checkpoints/modular_addition/0123456789ab"
    objects.write(f"{folder}/step=00000000.safetensors", b"old")
    age(store)
    assert garbage(store) == {"runs": ["modular_addition/0123456789ab"]}
    objects.write(f"{folder}/step=00000010.safetensors", b"young")
    assert garbage(store) == {}


def test_nothing_is_deleted_while_any_call_is_at_work(store: Store) -> None:
    unneeded(store)
    age(store)
    found = find_garbage(store)
    with hold(store.lease(store.cube("another")), "a sweep"):
        before = snapshot(store)
        with pytest.raises(StoreError, match=r"process .* works on another.results; call again"):
            find_garbage(store)
        with pytest.raises(StoreError, match="works on another"):
            delete_garbage(store, found)
        assert {p: d for p, d in snapshot(store).items() if "leases" not in p} == {
            p: d for p, d in before.items() if "leases" not in p
        }


def test_nothing_is_deleted_after_another_call_came_and_went(store: Store) -> None:
    kinds = unneeded(store)
    age(store)
    found = find_garbage(store)
    with hold(store.lease(store.cube("another")), "a sweep"):
        pass
    with pytest.raises(StoreError, match="a call has worked on a study meanwhile"):
        delete_garbage(store, found)
    assert all(Path(store.url, key).exists() for key in kinds)


def test_a_record_that_was_lost_or_damaged_makes_nothing_deletable(store: Store) -> None:
    age(store)
    record = Path(store.study(SWEEP.name, "sweep"))
    text = record.read_bytes()
    record.unlink()
    with pytest.raises(StoreError, match=r"results.zarr: there is a cube, but no record of its study"):
        find_garbage(store)
    record.write_bytes(text.replace(b"sweep", b"swept"))
    with pytest.raises(StoreError, match="is not the record of a study"):
        find_garbage(store)


def test_runs_that_others_began_from_or_follow_are_needed(store: Store) -> None:
    """Also where no record has them, as where the sweep that made a run of norms was removed."""
    record = read_study(store, GRAPHS, "tickets")
    assert record is not None
    tickets = graph_of(record).tickets
    assert all(begins_from(spec) == {SHARED} for spec in tickets)
    specs = tuple(text for text in record.specs if '"start"' in text)
    assert len(specs) == len(tickets)
    alone = record.__class__(name="alone", kind="sweep", experiment=record.experiment, specs=specs)
    assert (SWEEP.experiment, SHARED) in references(store, [alone]).runs
    assert (SWEEP.experiment, ALONE) not in references(store, [alone]).runs


def test_results_of_a_run_whose_manifest_cannot_be_read_are_needed(store: Store) -> None:
    Path(store.run_of(SWEEP.specs[0]).manifest).write_bytes(b"{")
    age(store)
    assert garbage(store) == {}


@pytest.mark.parametrize("study", [SWEEP.name, GRAPHS, SERIES])
def test_a_study_goes_with_what_is_its_own(study: str, store: Store, made: tuple[Store, Path]) -> None:
    cubes, before = cubes_of(store), snapshot(store)
    others = [record for record in all_records(store) if record.name != study]
    needed = references(store, others).runs
    output = said(store, "remove", study)
    assert "--yes removes them" in output and snapshot(store) == before
    assert (SHARED in output) == (study != SERIES), "it stays, and is said to"
    assert "removed" in said(store, "remove", study, "--yes")
    assert {record.name for record in all_records(store)} == {SWEEP.name, GRAPHS, SERIES} - {study}
    assert not Path(store.studies, study).exists()
    for experiment, run_id in needed:
        kept = [path for path in before if run_id in path]
        assert kept and all(Path(path).read_bytes() == before[path][0] for path in kept), (experiment, run_id)
    age(store)
    assert set(garbage(store)) <= {"leases"}, "nothing else is left"
    assert f"no study called '{study}'" in said(store, "remove", study, code=2)
    call_all(store, made[1])
    now = cubes_of(store)
    for cube, tree in cubes.items():
        xr.testing.assert_identical(now[cube], tree)


def test_runs_of_a_study_alone_go(store: Store) -> None:
    remove(store, SWEEP.name)
    assert not [path for path in Path(store.url).rglob("*") if ALONE in path.name]
    remove(store, GRAPHS)
    remove(store, SERIES)
    left = {path.relative_to(store.url).parts[0] for path in Path(store.url).rglob("*") if path.is_file()}
    assert left == {"specdyn.json", "data", "leases"}


def test_a_study_that_is_worked_on_is_not_removed(store: Store) -> None:
    held = hold(store.lease(store.tickets(GRAPHS)), "tickets")
    with held, pytest.raises(StoreError, match=r"forks: process .* works on tickets.zarr; call again"):
        remove(store, GRAPHS)
    assert read_study(store, GRAPHS, "tickets") is not None


class Killed(BaseException):
    """Stands for the end of a process."""


@contextlib.contextmanager
def _killed_after(count: int) -> Iterator[None]:
    """Have the process end after so many steps that end a record or delete something."""
    left = [count]

    def guarded(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "delete_all", guarded(objects.delete_all))
        patch.setattr(removal, "end_record", guarded(removal.end_record))
        patch.setattr(removal, "delete_record", guarded(removal.delete_record))
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize("left", [0, 1, 2, 3, 6, 9, -2, -1])
def test_a_removal_that_is_killed_is_finished_by_a_search_for_what_nobody_needs(left: int, store: Store) -> None:
    """After so many steps, or before so many of the last: two records are ended, all things and they are deleted."""
    steps = 2 + len(plan_removal(store, GRAPHS).things) + 2
    needed = references(store, [record for record in all_records(store) if record.name != GRAPHS]).runs
    before = snapshot(store)
    with _killed_after(left % steps):
        remove(store, GRAPHS)
    age(store)
    living = [record for record in all_records(store) if record.name == GRAPHS]
    of_living = references(store, living).runs
    assert all(read_manifest(store.run(*run)) for run in of_living), "no study lost a run of its own"
    delete_garbage(store, find_garbage(store))
    if not living:
        assert (GRAPHS, "tickets") not in study_names(store) and not Path(store.studies, GRAPHS).exists()
    for _, run_id in needed:
        assert all(Path(path).read_bytes() == before[path][0] for path in before if run_id in path)
    age(store)
    assert garbage(store) == {}


def test_a_study_that_was_removed_halfway_can_be_made_again(store: Store, made: tuple[Store, Path]) -> None:
    cubes = cubes_of(store)
    with _killed_after(3):
        remove(store, GRAPHS)
    call_all(store, made[1])
    assert {record.name for record in all_records(store)} == {SWEEP.name, GRAPHS, SERIES}
    age(store)
    delete_garbage(store, find_garbage(store))
    now = cubes_of(store)
    for cube, tree in cubes.items():
        xr.testing.assert_identical(now[cube], tree)


def test_a_plan_and_a_search_write_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("written")

    unneeded(store)
    age(store)
    for name in ("write", "write_all", "create", "delete", "delete_all"):
        monkeypatch.setattr(objects, name, refused)
    assert find_garbage(store).things and plan_removal(store, SWEEP.name).things
    said(store, "gc")
    said(store, "remove", SWEEP.name)
    with pytest.raises(AssertionError, match="written"):
        remove(store, SWEEP.name)


def test_more_runs_may_be_recorded_after_a_removal(store: Store) -> None:
    record = read_study(store, SWEEP.name, "sweep")
    assert record is not None
    remove(store, SWEEP.name)
    assert record_study(store, record) == record
    assert read_study(store, SWEEP.name, "sweep") == record


def test_a_store_in_object_storage_is_looked_after_as_well(made: tuple[Store, Path], s3_store: Store) -> None:
    files = {str(path.relative_to(made[0].url)): path for path in Path(made[0].url).rglob("*") if path.is_file()}
    objects.write_all(s3_store.url, {key: path.read_bytes() for key, path in files.items()})
    found = verify_study(s3_store)
    checked = [key for key in files if key.split("/")[0] not in ("leases", "scratch")]
    assert (found.objects, found.damage) == (len(checked), ())
    chunk = f"{s3_store.cube(SWEEP.name)}/layers/singular_value/c/0/0/0/0"
    objects.write(chunk, objects.read(chunk)[:-1])
    objects.delete(f"{s3_store.connectivity(GRAPHS)}/trunk_a/c/0")
    assert {one.url for one in verify_study(s3_store).damage} == {
        chunk,
        f"{s3_store.connectivity(GRAPHS)}/trunk_a/c/0",
    }
    assert [one.done for one in repair(s3_store)] == ["the cube is deleted"] * 2
    assert find_garbage(s3_store).things == ()
    remove(s3_store, GRAPHS)
    assert verify_study(s3_store).damage == ()
    old = find_garbage(s3_store, older_than=-60.0)
    assert {thing.kind for thing in old.things} == {"leases"}
    delete_garbage(s3_store, old)
    assert find_garbage(s3_store, older_than=-60.0).things == ()
