"""Every kind of object of a store that is damaged is named, refused by its readers, and made again after a repair."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import xarray as xr
from typer.testing import CliRunner

from helpers.kept import SERIES, SWEEP, call_all, cubes_of, put_back, snapshot
from specdyn.flows.cli.app import app
from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint, kept_states, read_checkpoint, read_kept_state, read_manifest
from specdyn.storage.datasets import DamagedData, read_arrays, read_data_manifest
from specdyn.storage.places import Store
from specdyn.storage.results import read_values
from specdyn.storage.studies import read_study
from specdyn.tasks.care import repair as module
from specdyn.tasks.care.repair import next_calls, repair, verify_study

RUN = SWEEP.specs[1]
"""It is the base run of the forks and of the tickets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A store, the checkpoints of another program that were analysed into it, and its cubes."""

    store: Store
    series: Path
    cubes: dict[str, xr.DataTree]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    store, series = Store(str(folder / "store")), folder / "series"
    call_all(store, series)
    return Made(store=store, series=series, cubes=cubes_of(store))


@pytest.fixture
def store(made: Made) -> Iterator[Store]:
    """The store, which is put back afterwards, as what is measured of a series says where that lies."""
    with put_back(Path(made.store.url)):
        yield made.store


def _read_checkpoints(store: Store) -> None:
    for spec in SWEEP.specs:
        manifest = read_manifest(store.run_of(spec))
        assert manifest is not None
        for entry in manifest.checkpoints:
            read_checkpoint(store.run_of(spec), entry)


def _read_kept(store: Store) -> None:
    for url in kept_states(store.run_of(RUN)).values():
        read_kept_state(url)


def _read_results(store: Store) -> None:
    for key in objects.find(store.results):
        read_values(f"{store.results}/{key}")


def _read_data(store: Store) -> None:
    manifest = read_data_manifest(store, objects.names(f"{store}/data")[0])
    assert manifest is not None
    read_arrays(store, manifest)


def _read_records(store: Store) -> None:
    read_study(store, SWEEP.name, "sweep")
    read_study(store, "forks", "connectivity")


def _no_reader(_: Store) -> None:
    raise StoreError("not read by itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of object: where one lies, and what reads it."""

    pattern: str
    read: Callable[[Store], object] = _no_reader
    deletion_is_seen: bool = True
    named: str = ""
    """What is said instead of its place: an array of a data set."""


KINDS = {
    "version": Kind(pattern="specdyn.json"),
    "record of a sweep": Kind(pattern=f"studies/{SWEEP.name}/sweep.json", read=_read_records),
    "record of forks": Kind(pattern="studies/forks/connectivity.json", read=_read_records),
    "manifest": Kind(pattern=f"runs/*/{RUN.run_id}.json", read=_read_checkpoints),
    "checkpoint": Kind(pattern=f"checkpoints/*/{RUN.run_id}/step=00000010*", read=_read_checkpoints),
    "kept state": Kind(pattern="checkpoints/*/*/state/kept=*", read=_read_kept, deletion_is_seen=False),
    "state": Kind(pattern="checkpoints/*/*/state/step=*", deletion_is_seen=False),
    "mask": Kind(pattern="masks/*"),
    "result of a run": Kind(pattern="results/runs/modular_addition/*/00000010*", read=_read_results),
    "result of a series": Kind(pattern="results/runs/foreign/*/00000010*", read=_read_results),
    "result of an end": Kind(pattern="results/ends/*/*", read=_read_results, deletion_is_seen=False),
    "result of a pair": Kind(pattern="results/pairs/*/*", read=_read_results),
    "result of a ticket": Kind(pattern="results/tickets/*/*", read=_read_results),
    "root": Kind(pattern=f"studies/{SWEEP.name}/results.zarr/zarr.json"),
    "group": Kind(pattern=f"studies/{SWEEP.name}/results.zarr/layers/zarr.json"),
    "array": Kind(pattern=f"studies/{SWEEP.name}/results.zarr/layers/singular_value/zarr.json"),
    "values": Kind(pattern=f"studies/{SWEEP.name}/results.zarr/layers/singular_value/c/0/0/0/0", read=cubes_of),
    "coordinate": Kind(pattern=f"studies/{SWEEP.name}/results.zarr/layers/seed/c/0", read=cubes_of),
    "column": Kind(pattern=f"studies/{SWEEP.name}/results.zarr/runs/contents/c/0", read=cubes_of),
    "values of a series": Kind(pattern=f"studies/{SERIES}/results.zarr/layers/singular_value/c/*/*/*/*", read=cubes_of),
    "values of a line": Kind(pattern="studies/forks/connectivity.zarr/loss/c/**/*", read=cubes_of),
    "zeros of a line": Kind(pattern="studies/forks/connectivity.zarr/trunk_a/c/0", read=cubes_of),
    "values of a ticket": Kind(pattern="studies/forks/tickets.zarr/loss/c/**/*", read=cubes_of),
    "data manifest": Kind(pattern="data/*/manifest.json", read=_read_data),
    "data": Kind(pattern="data/*/*.zarr/image/c/**/*", read=_read_data, named="image"),
    "record of a series": Kind(pattern="series/*.json", deletion_is_seen=False),
}


ROUNDS = {
    "root": ["root", "manifest", "result of a series", "data manifest", "record of forks"],
    "group": ["group", "checkpoint", "result of an end", "data"],
    "array": ["array", "kept state", "result of a ticket", "record of a series"],
    "values": ["values", "state", "mask", "values of a line"],
    "coordinate": ["coordinate", "result of a pair", "values of a series"],
    "column": ["column", "zeros of a line", "values of a ticket"],
    "record": ["record of a sweep", "version", "result of a run"],
}
"""Kinds that are damaged together: none is found, or made again, because of another one."""


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


HARM: dict[str, Callable[[Path], None]] = {"flipped": _flip, "truncated": _truncate, "deleted": Path.unlink}
REFUSED_WHERE_DELETED = {"checkpoint", "data"}
"""Kinds whose readers know that there has to be one. Of others there is none then, and nothing wrong is read."""


def found_in(store: Store, study: str = "") -> list[str]:
    return [one.url.removeprefix(f"{store}/") for one in verify_study(store, study).damage]


def victim(store: Store, kind: Kind) -> Path:
    return min(path for path in Path(store.url).glob(kind.pattern) if path.is_file())


def test_every_kind_is_damaged_in_one_round() -> None:
    assert sorted(name for names in ROUNDS.values() for name in names) == sorted(KINDS)


@pytest.mark.parametrize("names", ROUNDS.values(), ids=ROUNDS)
@pytest.mark.parametrize("harm", HARM)
def test_what_is_damaged_is_named_and_its_readers_refuse_it(harm: str, names: list[str], store: Store) -> None:
    expected = []
    for name in names:
        kind, path = KINDS[name], victim(store, KINDS[name])
        key, data = str(path.relative_to(store.url)), path.read_bytes()
        if kind.named:
            key = f"{key.partition('.zarr/')[0]}.zarr/{kind.named}"
        if harm != "deleted" or kind.deletion_is_seen:
            expected.append(key)
        if harm != "deleted" or name in REFUSED_WHERE_DELETED:
            HARM[harm](path)
            with pytest.raises((StoreError, DamagedCheckpoint, DamagedData)):
                kind.read(store)
            path.write_bytes(data)
    for path in [victim(store, KINDS[name]) for name in names]:
        HARM[harm](path)
    assert sorted(found_in(store)) == sorted(expected)


@pytest.mark.parametrize("names", ROUNDS.values(), ids=ROUNDS)
def test_what_is_damaged_is_made_again_after_a_repair(names: list[str], store: Store, made: Made) -> None:
    for name in names:
        _flip(victim(store, KINDS[name]))
    require_repaired(store, made, names)


@pytest.mark.parametrize(
    "names", [["checkpoint", "root", "result of a pair", "data"], ["values", "mask", "result of a series"]]
)
def test_what_is_deleted_is_made_again_after_a_repair(names: list[str], store: Store, made: Made) -> None:
    for name in names:
        victim(store, KINDS[name]).unlink()
    require_repaired(store, made, names)


def require_repaired(store: Store, made: Made, names: list[str]) -> None:
    """A repair finds that many objects at least, and the calls that made the store make the same values again."""
    assert len(repair(store)) >= len(names)
    call_all(store, made.series)
    assert found_in(store) == []
    now = cubes_of(store)
    for cube, tree in made.cubes.items():
        xr.testing.assert_identical(now[cube], tree)


def test_a_whole_store_is_as_written_and_every_object_is_looked_at(store: Store) -> None:
    found = verify_study(store)
    # Factors that a series keeps are not looked at: they are made again where they are wrong.
    kept = Path(store.scratch)
    files = [path for path in Path(store.url).rglob("*") if path.is_file() and kept not in path.parents]
    assert (found.damage, found.skipped, found.objects) == ((), (), len(files))
    assert found.bytes == sum(path.stat().st_size for path in files)
    assert repair(store) == []


@pytest.mark.parametrize("key", ["zarr.json", "layers/zarr.json", "layers/singular_value/zarr.json"])
def test_metadata_that_can_still_be_parsed_are_not_believed(key: str, store: Store) -> None:
    path = Path(store.cube(SWEEP.name), key)
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b'"units": "1"', b'"units": "9"', 1).replace(b'"long_name": "', b'"long_name": "9', 1)
    )
    assert path.read_bytes() != data
    assert found_in(store) == [str(path.relative_to(store.url))]


def test_a_study_is_checked_by_itself(store: Store) -> None:
    _flip(victim(store, KINDS["result of a series"]))
    _flip(victim(store, KINDS["values of a ticket"]))
    _flip(victim(store, KINDS["checkpoint"]))
    assert {study: len(found_in(store, study)) for study in (SWEEP.name, "forks", SERIES)} == {
        SWEEP.name: 1,  # its run is the trunk of the forks
        "forks": 2,
        SERIES: 1,
    }
    assert [one.damage.kind for one in repair(store, SERIES)] == ["result"]
    missing = [one.what for one in verify_study(store, SERIES).damage]
    assert missing == ["is missing, though the cube has its values"] and len(found_in(store)) == 3
    with pytest.raises(ValueError, match=r"no study called 'decoy' in .*; it has: decay, forks, theirs"):
        verify_study(store, "decoy")


def test_a_record_that_cannot_be_read_hides_nothing_else(store: Store) -> None:
    record = victim(store, KINDS["record of a sweep"])
    record.write_bytes(b"{}")
    _flip(victim(store, KINDS["checkpoint"]))
    assert found_in(store, SWEEP.name) == [str(record.relative_to(store.url))]
    assert {one.damage.kind for one in repair(store)} == {"record", "checkpoint"}


def test_the_version_before_counts_where_the_newest_is_damaged(store: Store) -> None:
    url = store.study(SWEEP.name, "sweep")
    before = read_study(store, SWEEP.name, "sweep")
    objects.write(f"{url.removesuffix('.json')}.versions/00000002.json", b"not a record")
    assert [one.done for one in repair(store)] == ["it is deleted"]
    assert read_study(store, SWEEP.name, "sweep") == before and found_in(store) == []
    Path(url).write_bytes(b"not a record")
    assert [one.done for one in repair(store, SWEEP.name)] == ["it is deleted", ""]
    (damage,) = verify_study(store, SWEEP.name).damage
    assert (damage.url, damage.what) == (url, "is missing, though there is results.zarr")


@pytest.mark.parametrize(("harm", "done"), [("deleted", ""), ("flipped", "it is deleted")])
def test_a_cube_whose_results_are_gone_stays(harm: str, done: str, store: Store, made: Made) -> None:
    _flip(victim(store, KINDS["values"]))
    HARM[harm](victim(store, KINDS["result of a run"]))
    assert {one.damage.kind: one.done for one in repair(store)} == {"cube": "", "result": done}
    assert Path(store.cube(SWEEP.name), "zarr.json").exists()
    call_all(store, made.series)
    assert [one.done for one in repair(store)] == ["the cube is deleted"]


@pytest.mark.parametrize("name", ["checkpoint", "values", "manifest", "record of a sweep", "result of a run"])
def test_nothing_is_repaired_while_a_call_works_on_the_study(name: str, store: Store) -> None:
    _flip(victim(store, KINDS[name]))
    with hold(store.lease(store.cube(SWEEP.name)), "a sweep"):
        before = snapshot(store)
        with pytest.raises(StoreError, match=r"process .* works on it; call again"):
            repair(store)
        kept = {path: data for path, data in snapshot(store).items() if "/leases/" not in path}
        assert kept == {path: data for path, data in before.items() if "/leases/" not in path}


def test_a_cube_that_is_written_is_not_checked_and_said_so(store: Store) -> None:
    _flip(victim(store, KINDS["values"]))
    with hold(store.lease(store.cube(SWEEP.name)), "a sweep"):
        found = verify_study(store, SWEEP.name)
    assert found.damage == () and "works on it" in found.skipped[0]


def test_the_commands_say_what_is_wrong_what_was_done_and_what_to_call(store: Store) -> None:
    def said(*arguments: str, code: int) -> str:
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300", "SPECDYN_STORE": store.url})
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    assert "all as written" in said("verify", code=0)
    assert said("repair", code=0) == "nothing is damaged"
    path = victim(store, KINDS["checkpoint"])
    _truncate(path)
    output = said("verify", SWEEP.name, code=1)
    assert str(path.relative_to(store.url)) in output and "1 damaged" in output
    output = said("repair", code=0)
    assert "its run is marked as damaged" in output
    call = f"specdyn run modular_addition --preset smoke --sweep {SWEEP.name} --analyses spectrum --store {store} ..."
    assert call in output
    assert "specdyn connect modular_addition --name forks" in output and "specdyn analyse" not in output
    assert "No store at" in said("verify", "--store", f"{store}/none", code=2)


def test_commands_are_named_for_studies_that_were_repaired_alone(store: Store) -> None:
    _flip(victim(store, KINDS["values of a series"]))
    (call,) = next_calls(store, repair(store))
    assert call.startswith("specdyn analyse /") and f"--name {SERIES}" in call


def test_a_check_reads_with_a_key_that_may_not_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("written")

    for name in ("write", "write_all", "create", "delete", "delete_all"):
        monkeypatch.setattr(objects, name, refused)
    _flip(victim(store, KINDS["checkpoint"]))
    assert len(found_in(store)) == 1
    with pytest.raises(AssertionError, match="written"):
        module.repair(store)
