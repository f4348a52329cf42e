"""The storage layer on a real S3 server that checks credentials; every HTTP request is counted by the server."""

import multiprocessing
import pickle
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from helpers.cubes import layout_of, part, values_of, write_cube, write_row
from helpers.rebuilt import build, check, reading, rows_of
from helpers.servers import BUCKET, S3Server, forget_clients
from specdyn.storage import checkpoints, probe
from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint, Manifest
from specdyn.storage.generations import current, form_of
from specdyn.storage.leftovers import remove_leftovers
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.query import grid, open_results
from specdyn.storage.results import part_name, parts_in, read_values, write_block
from specdyn.storage.rows import Row
from specdyn.storage.studies import study_names

pytestmark = pytest.mark.integration

RUN = ("hand", "0123456789ab")
WEIGHTS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, 2])}
STEPS = range(40)
SHAPES = {f"layer{i}": (300, 256) for i in range(7)}
DECAYS, SEEDS = (0.0, 0.5, 1.0), (0, 1)
"""Six runs; a run's singular values are 280 KiB."""


def kinds(requests: Sequence[str]) -> dict[str, int]:
    """Requests by kind; a GET on the bucket itself is a LIST."""
    return dict(
        Counter("LIST" if request.startswith(f"GET /{BUCKET}?") else request.split()[0] for request in requests)
    )


def objects_below(url: str) -> dict[str, bytes]:
    client = objects.filesystem(url)
    prefix = url.removeprefix("s3://")
    return {name.removeprefix(f"{prefix}/"): client.cat_file(name) for name in client.find(prefix)}


def sweep_on(store: str) -> tuple[str, list[Row], dict[str, dict[str, np.ndarray]]]:
    """A sweep of six runs and its cube."""
    rows, values = [], {}
    for i, (decay, seed) in enumerate((decay, seed) for decay in DECAYS for seed in SEEDS):
        layout = layout_of(run_id=f"run{i}", steps=STEPS, shapes=SHAPES)
        values[f"run{i}"] = values_of(layout, i)
        rows.append(write_row(Store(store), layout, values[f"run{i}"], weight_decay=decay, seed=seed))
    url = Store(store).cube("decay")
    write_cube(url, rows, {"title": "decay"})
    return url, rows, values


@pytest.fixture(scope="module")
def shared_sweep(s3_server: S3Server) -> tuple[str, list[Row], dict[str, dict[str, np.ndarray]]]:
    """The sweep, written once for the tests that only read it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        forget_clients()
        sweep = sweep_on(f"s3://{BUCKET}/shared")
        forget_clients()
    return sweep


# --- Whether a store can be used ---


def test_the_server_can_do_everything(s3_store: Store) -> None:
    checks = probe.probe(s3_store.url)
    assert [check.name for check in checks] == ["reachable", "write", *probe.TRIALS, "delete"]
    assert {check.level for check in checks} == {"ok"}
    assert objects_below(s3_store.url) == {}


def test_ignored_conditions_are_a_warning_with_its_consequence(careless_s3_store: Store) -> None:
    checks = {check.name: check for check in probe.probe(careless_s3_store.url)}
    assert {name for name, check in checks.items() if check.level == "warning"} == {
        "conditional create",
        "concurrent create",
    }
    assert "8 of 8" in checks["concurrent create"].detail
    assert "one sweep at a time" in checks["conditional create"].advice
    assert all(check.ok for check in checks.values())
    require_store(careless_s3_store.url)


def test_a_required_store_gets_its_version_with_few_requests(s3_store: Store, s3_server: S3Server) -> None:
    with s3_server.counted() as first:
        require_store(s3_store.url)
    with s3_server.counted() as second:
        require_store(s3_store.url)
    assert list(objects_below(s3_store.url)) == ["specdyn.json"]
    assert kinds(first) == kinds(second) == {"LIST": 2, "GET": 2, "PUT": 2, "POST": 1}


FAULTS = {
    "no key": ({"AWS_ACCESS_KEY_ID": None}, "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "no secret": ({"AWS_SECRET_ACCESS_KEY": None}, "no credentials; set"),
    "wrong secret": ({"AWS_SECRET_ACCESS_KEY": "wrong+secret"}, "access denied.*check the credentials"),
    "unknown key": ({"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"}, "access denied.*check the credentials"),
    "closed port": ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "not reachable.*check AWS_ENDPOINT_URL_S3"),
    "no such host": ({"AWS_ENDPOINT_URL_S3": "http://nowhere.invalid"}, "not reachable.*check AWS_ENDPOINT_URL_S3"),
    "no scheme": ({"AWS_ENDPOINT_URL_S3": "127.0.0.1:9000"}, "not reachable.*Invalid endpoint"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_said_within_seconds_and_without_secrets(
    s3_store: Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    environment, expected = FAULTS[fault]
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    before = time.monotonic()
    with pytest.raises(StoreError, match=expected) as caught:
        require_store(s3_store.url)
    (check,) = probe.probe(s3_store.url)
    assert time.monotonic() - before < 40, "a request is sent again for a minute where that may help"
    assert check.level == "error"
    for text in (str(caught.value), check.detail, check.advice):
        assert s3_server.secret_key not in text
        assert "wrong+secret" not in text
    assert s3_store.url in str(caught.value)


def test_a_server_that_never_answers_is_given_up(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = objects.IMPATIENT["config_kwargs"]
    assert patient["connect_timeout"] + patient["read_timeout"] <= 15
    monkeypatch.setitem(objects.IMPATIENT, "config_kwargs", {**patient, "read_timeout": 1})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        before = time.monotonic()
        with pytest.raises(StoreError, match="not reachable"):
            require_store(s3_store.url)
        assert time.monotonic() - before < 40


@pytest.mark.parametrize("bucket", ["no-such-bucket", "Not_A_Bucket!"])
def test_a_missing_bucket_is_said(s3_store: Store, bucket: str) -> None:
    url = f"s3://{bucket}/x"
    for attempt in (lambda: require_store(url), lambda: objects.names(url), lambda: objects.read(url)):
        with pytest.raises(StoreError, match=f"s3://{bucket}.*(the bucket does not exist; create it|Invalid bucket)"):
            attempt()


@pytest.mark.parametrize("act", ["names", "read", "write", "create", "delete", "exists", "read_values", "open_results"])
def test_every_way_in_explains_missing_credentials(s3_store: Store, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    ways = {
        "names": lambda: objects.names(s3_store.url),
        "read": lambda: objects.read(f"{s3_store}/x"),
        "write": lambda: objects.write(f"{s3_store}/x", b""),
        "create": lambda: objects.create(f"{s3_store}/x", b""),
        "delete": lambda: objects.delete(f"{s3_store}/x"),
        "exists": lambda: objects.exists(f"{s3_store}/x"),
        "read_values": lambda: read_values(f"{s3_store}/x.safetensors"),
        "open_results": lambda: open_results(f"{s3_store}/x.zarr"),
    }
    with pytest.raises(StoreError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        ways[act]()


# --- Objects ---


def test_each_operation_on_an_object_is_the_least_requests(s3_store: Store, s3_server: S3Server) -> None:
    url = f"{s3_store}/folder/step=00000001.safetensors"
    objects.exists(url)
    for act, expected in (
        (lambda: objects.write(url, b"0123456789"), {"PUT": 1}),
        (lambda: objects.read(url), {"GET": 1}),
        (lambda: objects.read_range(url, 2, 5), {"GET": 1}),
        (lambda: objects.create(f"{url}.marker", b""), {"PUT": 1}),
        (lambda: objects.create(f"{url}.marker", b""), {"PUT": 1}),
        (lambda: objects.names(f"{s3_store}/folder"), {"LIST": 1}),
        (lambda: objects.exists(url), {"HEAD": 1}),
        (lambda: objects.write_all(s3_store.url, {"a": b"1", "b": b"2"}), {"PUT": 2}),
        (lambda: objects.delete(f"{s3_store}/folder"), {"LIST": 1, "POST": 1}),
    ):
        with s3_server.counted() as requests:
            act()
        assert kinds(requests) == expected


def test_many_objects_are_deleted_in_parts(
    s3_store: Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.write_all(s3_store.url, {f"a/{i} [x]": b"" for i in range(5)} | {"ab": b""})
    monkeypatch.setattr(objects, "DELETED_AT_ONCE", 2)
    with s3_server.counted() as requests:
        objects.delete(f"{s3_store}/a")
    assert kinds(requests) == {"LIST": 1, "POST": 3}
    assert list(objects_below(s3_store.url)) == ["ab"]


def test_a_refused_delete_is_said(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.write(f"{s3_store}/a", b"")
    refusal = {"Errors": [{"Key": "a", "Code": "AccessDenied", "Message": "Access Denied"}]}
    monkeypatch.setattr(objects.filesystem(s3_store.url), "call_s3", lambda *_, **__: refusal)
    with pytest.raises(StoreError, match=r"access denied \(deleting a: Access Denied\)"):
        objects.delete(f"{s3_store}/a")


def test_one_of_many_threads_creates(s3_store: Store) -> None:
    url, won = f"{s3_store}/marker", []

    def create(i: int) -> None:
        if objects.create(url, f"{i}".encode()):
            won.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert objects.read(url) == f"{won[0]}".encode()


def test_checkpoints_states_and_manifests_come_back(s3_store: Store, s3_server: S3Server) -> None:
    with s3_server.counted() as requests:
        entry = checkpoints.write_checkpoint(s3_store.run(*RUN), 100, WEIGHTS)
    assert kinds(requests) == {"PUT": 1}
    with s3_server.counted() as requests:
        found = checkpoints.read_checkpoint(s3_store.run(*RUN), entry)
    assert kinds(requests) == {"GET": 1}
    assert list(found) == ["b", "a"]
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())
    for step in (50, 100):
        checkpoints.write_state(s3_store.run(*RUN), step, WEIGHTS, {"step": step})
    state = checkpoints.read_state(s3_store.run(*RUN))
    assert state is not None
    assert state[1] == {"step": 100}
    assert len(objects.names(s3_store.run(*RUN).states)) == 1
    manifest = Manifest(
        experiment=RUN[0],
        run_id=RUN[1],
        spec="{}",
        status="complete",
        checkpoints=(entry,),
        device="cpu",
        threads=1,
        seconds=0.5,
    )
    assert checkpoints.read_manifest(s3_store.run(*RUN)) is None
    checkpoints.write_manifest(s3_store, manifest)
    assert checkpoints.read_manifest(s3_store.run(*RUN)) == manifest
    assert checkpoints.checkpoints_written(s3_store.run(*RUN)) == 1


def test_a_damaged_checkpoint_is_named(s3_store: Store) -> None:
    entry = checkpoints.write_checkpoint(s3_store.run(*RUN), 100, WEIGHTS)
    url = s3_store.run(*RUN).checkpoint(100)
    data = objects.read(url)
    for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1])):
        objects.write(url, damaged)
        with pytest.raises(DamagedCheckpoint, match=f"run {RUN[1]} step 100: {url}"):
            checkpoints.read_checkpoint(s3_store.run(*RUN), entry)
    objects.delete(url)
    with pytest.raises(DamagedCheckpoint, match="is missing"):
        checkpoints.read_checkpoint(s3_store.run(*RUN), entry)


# --- Results and cubes ---


def test_a_run_is_an_object_for_each_block_put_by_one_request_and_listed_at_once(
    s3_store: Store, s3_server: S3Server
) -> None:
    layout, folder = layout_of(steps=range(0, 200, 10)), s3_store.run_results(*RUN)
    values = values_of(layout)
    threads = [
        threading.Thread(target=write_block, args=(folder, layout, steps, {"spectrum": 1}, part(layout, values, steps)))
        for steps in layout.blocks()
    ]
    with s3_server.counted() as requests:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert kinds(requests) == {"PUT": len(layout.blocks())}
    with s3_server.counted() as requests:
        found = parts_in(objects.names(folder))
    assert kinds(requests) == {"LIST": 1}
    assert [one.name for one in found] == [part_name(steps, {"spectrum": 1}) for steps in layout.blocks()]
    with s3_server.counted() as requests:
        measured = read_values(f"{folder}/{found[0].name}")
    assert kinds(requests) == {"GET": 1}
    assert measured is not None
    np.testing.assert_array_equal(measured.values["loss"], part(layout, values, layout.blocks()[0])["loss"])
    assert not write_block(folder, layout, layout.blocks()[0], {"spectrum": 1}, {})


def test_the_cube_is_the_same_objects_as_on_a_local_folder(s3_store: Store, local_store: Store) -> None:
    layouts = [layout_of(run_id="a"), layout_of(run_id="b", steps=(0, 5), shapes={"x": (2, 9), "in.weight": (4, 4)})]
    for store in (s3_store, local_store):
        rows = [write_row(store, layout, values_of(layout), seed=i) for i, layout in enumerate(layouts)]
        objects.write(f"{store.cube('both')}/layers/stale/zarr.json", b"stale")
        for chosen in (rows[:1], rows):
            write_cube(store.cube("both"), chosen, {"title": "both"})
    folder = Path(local_store.cube("both"))
    local = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert objects_below(s3_store.cube("both")) == local


def test_gathering_puts_each_object_once(s3_store: Store, s3_server: S3Server) -> None:
    layout = layout_of(run_id="a")
    row = write_row(s3_store, layout, values_of(layout), seed=0)
    url = s3_store.cube("one")
    with s3_server.counted() as requests:
        write_cube(url, [row], {})
    assert kinds(requests)["PUT"] == len(objects_below(url))
    assert [request for request in requests if request.startswith("PUT")][-1].endswith("one/results.zarr/zarr.json")


def test_a_reader_in_a_loop_sees_whole_versions_while_another_is_built(s3_store: Store) -> None:
    rows, url = rows_of(s3_store), s3_store.cube("hand")
    build(url, rows, 2)
    for version in (3, 4):
        with reading(lambda: xr.open_datatree(url, engine="zarr", storage_options=objects.S3_OPTIONS)) as seen:
            build(url, rows, version)
        assert set(seen) <= {version - 1, version}
        assert check(open_results(url)) == version


def test_readers_are_switched_by_one_request_after_all_chunks(s3_store: Store, s3_server: S3Server) -> None:
    rows, url = rows_of(s3_store), s3_store.cube("hand")
    for version in (0, 1):
        build(url, rows, version)
    before = objects_below(url)
    with s3_server.counted() as requests:
        build(url, rows, 3)
    puts = [request.rpartition("results.zarr/")[2] for request in requests if request.startswith("PUT")]
    root = puts.index("zarr.json")
    assert puts.count("zarr.json") == 1
    assert {key for key in puts[:root] if key.endswith("zarr.json")} == set()
    assert {key for key in puts[root + 1 :] if not key.endswith("zarr.json")} == set()
    assert not set(puts[:root]) & set(before)
    after = objects_below(url)
    assert {key: after.get(key) for key in before if not key.endswith("zarr.json")} == {
        key: data for key, data in before.items() if not key.endswith("zarr.json")
    }


def test_cleaning_removes_what_was_replaced_long_ago(s3_store: Store) -> None:
    rows, url = rows_of(s3_store), s3_store.cube("hand")
    for version in (0, 1, 3):
        build(url, rows, version)
    assert remove_leftovers(s3_store) == (0, 0)
    with hold(s3_store.lease(url), "hand"):
        assert remove_leftovers(s3_store, older_than=-1.0) == (0, 0)
    replaced = [data for key, data in objects_below(url).items() if form_of(key) not in (None, current(url))]
    assert remove_leftovers(s3_store, older_than=-1.0) == (len(replaced), sum(map(len, replaced)))
    assert {form_of(key) for key in objects_below(url)} == {None, current(url)}
    assert check(open_results(url)) == 3


def test_opening_a_cube_reads_its_metadata_and_each_coordinate_once(
    s3_store: Store, s3_server: S3Server, shared_sweep: tuple[str, list[Row], object]
) -> None:
    url = shared_sweep[0]
    with s3_server.counted() as requests:
        tree = open_results(url)
    of_runs = 4  # run, status, weight_decay, seed
    coordinates = {"layers": of_runs + 3 + 2, "pairs": of_runs + 3, "metrics": of_runs + 2, "runs": 2}
    assert {node.name: len(node.coords) for node in tree.leaves} == coordinates
    assert kinds(requests) == {"GET": 1 + sum(coordinates.values())}


def test_plain_xarray_opens_a_cube_by_its_consolidated_metadata(
    s3_store: Store, s3_server: S3Server, shared_sweep: tuple[str, list[Row], object]
) -> None:
    with s3_server.counted() as requests:
        plain = xr.open_datatree(shared_sweep[0], engine="zarr", storage_options=objects.S3_OPTIONS)
    indexes, guesses_of_zarr_2 = 4 + 4 + 3 + 1, 3
    assert kinds(requests) == {"GET": 1 + indexes + guesses_of_zarr_2}
    xr.testing.assert_identical(plain.load(), open_results(shared_sweep[0]).load())


def test_a_question_over_all_runs_is_a_request_for_the_runs_of_a_chunk(
    s3_store: Store, s3_server: S3Server, shared_sweep: tuple[str, list[Row], dict[str, dict[str, np.ndarray]]]
) -> None:
    url, _, values = shared_sweep
    layers = open_results(url)["layers"].to_dataset()
    with s3_server.counted() as requests:
        found = layers["effective_rank"].sel(run=layers["weight_decay"] == 0.5).load()
    assert kinds(requests) == {"GET": 1}
    np.testing.assert_array_equal(found, [values["run2"]["effective_rank"], values["run3"]["effective_rank"]])
    with s3_server.counted() as requests:
        mean = grid(layers["effective_rank"].load(), "weight_decay", "seed").mean("seed")
    assert kinds(requests) == {"GET": 1}
    expected = (values["run0"]["effective_rank"] + values["run1"]["effective_rank"]) / 2
    np.testing.assert_allclose(mean.sel(weight_decay=0.0).transpose("layer", "step"), expected, rtol=1e-6)
    # 7 x 40 x 256 floats are 280 KiB: one run fills a chunk of 512 KiB.
    with s3_server.counted() as requests:
        top = layers["singular_value"].sel(layer="layer3", rank=slice(1, 10)).load()
    assert kinds(requests) == {"GET": len(values)}
    np.testing.assert_array_equal(top, [of_run["singular_value"][3, :, :10] for of_run in values.values()])


def test_what_is_not_there_is_answered_with_what_is(s3_store: Store) -> None:
    layout = layout_of()
    row = write_row(s3_store, layout, values_of(layout), seed=0)
    write_cube(s3_store.cube("decay"), [row], {})
    objects.write(s3_store.study("decay", "sweep"), b"{}")
    assert study_names(s3_store) == [("decay", "sweep")]
    with pytest.raises(StoreError, match=r"no results there; next to it: decay$"):
        open_results(s3_store.cube("dekay"))


# --- Secrets and processes ---


def test_no_object_and_no_pickle_holds_a_secret(s3_store: Store, s3_server: S3Server) -> None:
    secrets = (s3_server.secret_key.encode(), s3_server.access_key.encode(), s3_server.endpoint.encode())
    require_store(s3_store.url)
    entry = checkpoints.write_checkpoint(s3_store.run(*RUN), 100, WEIGHTS)
    layout = layout_of(run_id=RUN[1])
    row = write_row(s3_store, layout, values_of(layout), seed=0)
    write_cube(s3_store.cube("decay"), [row], {})
    for name, data in objects_below(s3_store.url).items():
        assert not any(secret in data for secret in secrets), name
    sent = pickle.dumps((s3_store, s3_store, entry, layout, row.parts))
    assert not any(secret in sent for secret in secrets)


def first_effective_rank(url: str) -> float:
    return float(open_results(url)["layers/effective_rank"][0, 0, 0])


def test_another_process_needs_the_url_and_the_environment(s3_store: Store) -> None:
    layout, url = layout_of(), s3_store.cube("hand")
    values = values_of(layout)
    write_cube(url, [write_row(s3_store, layout, values)])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(first_effective_rank, url).result(timeout=60)
    assert found == pytest.approx(float(values["effective_rank"][0, 0]))
