"""Run stores: allocation that can be repeated, blocks of whole chunks, and their markers."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from helpers.run_stores import VARIABLES, layout_of, part, values_of, write_run
from specdyn.storage import results
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.commits import block_length, blocks_of, commit, committed, marker
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.schema import SCHEMA_VERSION

LAYOUT = layout_of(steps=range(0, 200, 10))
BLOCKS = LAYOUT.blocks()


def url_of(store: Store) -> str:
    return f"{store}/runs/hand/aaa.zarr"


def snapshot(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def read(url: str, name: str) -> np.ndarray:
    array = results.read_run(url)[VARIABLES[name].group][name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...])


@pytest.mark.parametrize(
    ("checkpoints", "length"), [(1, 1), (8, 1), (9, 2), (61, 8), (128, 16), (170, 16), (10_000, 16)]
)
def test_a_block_is_an_eighth_of_the_run_up_to_sixteen(checkpoints: int, length: int) -> None:
    assert block_length(checkpoints) == length
    blocks = blocks_of(tuple(range(checkpoints)))
    assert [step for block in blocks for step in block] == list(range(checkpoints))
    assert {len(block) for block in blocks[:-1]} <= {length}


def test_a_block_is_whole_chunks_of_every_variable(local_store: Store) -> None:
    results.allocate(url_of(local_store), LAYOUT)
    groups = results.read_run(url_of(local_store))
    for name, variable in VARIABLES.items():
        array = groups[variable.group][name]
        assert isinstance(array, zarr.Array)
        chunks = dict(zip(variable.dims, array.chunks, strict=True))
        sizes = dict(zip(variable.dims, array.shape, strict=True))
        assert chunks.pop("step") == len(BLOCKS[0])
        assert chunks == {dim: size for dim, size in sizes.items() if dim != "step"}


def test_allocated_arrays_hold_nothing_yet(local_store: Store) -> None:
    results.allocate(url_of(local_store), LAYOUT)
    assert np.isnan(read(url_of(local_store), "singular_value")).all()
    assert (read(url_of(local_store), "collapse") == 0).all()


def test_allocating_again_changes_no_object(local_store: Store) -> None:
    write_run(url_of(local_store), LAYOUT, values_of(LAYOUT))
    before = snapshot(local_store.url)
    results.allocate(url_of(local_store), LAYOUT)
    assert snapshot(local_store.url) == before


def test_a_further_variable_leaves_written_blocks(local_store: Store) -> None:
    url, values = url_of(local_store), values_of(LAYOUT)
    fewer = replace(LAYOUT, variables={name: VARIABLES[name] for name in ("singular_value", "loss")})
    write_run(url, fewer, {name: values[name] for name in fewer.variables})
    results.allocate(url, LAYOUT)
    np.testing.assert_array_equal(read(url, "singular_value"), values["singular_value"])
    np.testing.assert_array_equal(read(url, "loss"), values["loss"])
    assert np.isnan(read(url, "effective_rank")).all()


@pytest.mark.parametrize("survivors", range(0, 29, 3))
def test_an_allocation_that_died_is_completed(local_store: Store, tmp_path: Path, survivors: int) -> None:
    whole, url = tmp_path / "whole.zarr", url_of(local_store)
    results.allocate(str(whole), LAYOUT)
    files = {str(path.relative_to(whole)): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    arrays = {f"{variable.group}/{name}/zarr.json" for name, variable in VARIABLES.items()}
    in_order = sorted(files, key=lambda key: (key in arrays, key == "zarr.json", key))
    objects.write_all(url, {key: files[key] for key in in_order[:survivors]})
    results.allocate(url, LAYOUT)
    assert snapshot(url) == {f"{url}/{key}": data for key, data in files.items()}


def test_a_changed_shape_is_refused(local_store: Store) -> None:
    results.allocate(url_of(local_store), LAYOUT)
    with pytest.raises(StoreError, match=r"'singular_value' has shape \(2, 20, 3\), expected \(2, 2, 3\); delete"):
        results.allocate(url_of(local_store), replace(layout_of(steps=(0, 10)), variables=VARIABLES))


def test_a_newer_store_is_refused(local_store: Store) -> None:
    results.allocate(url_of(local_store), LAYOUT)
    zarr.open_group(url_of(local_store), mode="r+").attrs["schema_version"] = SCHEMA_VERSION + 1
    for attempt in (
        lambda: results.allocate(url_of(local_store), LAYOUT),
        lambda: results.read_run(url_of(local_store)),
        lambda: open_results(url_of(local_store)),
    ):
        with pytest.raises(StoreError, match="install a newer specdyn"):
            attempt()


def test_blocks_written_by_many_threads_in_any_order_make_the_whole(local_store: Store) -> None:
    url, values = url_of(local_store), values_of(LAYOUT)
    results.allocate(url, LAYOUT)
    threads = [
        threading.Thread(target=results.write_block, args=(url, LAYOUT, steps, part(LAYOUT, values, steps)))
        for steps in reversed(BLOCKS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in VARIABLES:
        np.testing.assert_array_equal(read(url, name), values[name])


@pytest.mark.parametrize("name", VARIABLES)
def test_a_wrong_shape_is_refused_before_anything_is_written(local_store: Store, name: str) -> None:
    url = url_of(local_store)
    results.allocate(url, LAYOUT)
    before = snapshot(local_store.url)
    values = part(LAYOUT, values_of(LAYOUT), BLOCKS[0])
    with pytest.raises(ValueError, match=f"variable '{name}'.*expected.*got"):
        results.write_block(url, LAYOUT, BLOCKS[0], {**values, name: values[name][:1, :1]})
    assert snapshot(local_store.url) == before


@pytest.mark.parametrize("steps", [BLOCKS[0][:1], (*BLOCKS[0], *BLOCKS[1]), BLOCKS[0][1:], (5,)])
def test_anything_but_a_block_is_refused(local_store: Store, steps: tuple[int, ...]) -> None:
    results.allocate(url_of(local_store), LAYOUT)
    with pytest.raises(ValueError, match="not one of the run's blocks"):
        results.write_block(url_of(local_store), LAYOUT, steps, {})


def test_a_block_is_marked_once(local_store: Store) -> None:
    commits = f"{local_store}/aaa.commits"
    assert committed(commits, {"spectrum": 1}) == set()
    won = [commit(commits, "spectrum", 1, BLOCKS[0], {"by": i}) for i in range(3)]
    assert won == [True, False, False]
    assert committed(commits, {"spectrum": 1}) == {marker("spectrum", 1, BLOCKS[0])}
    assert committed(commits, {"spectrum": 2, "pruning": 1}) == set()
    assert b'"by": 0' in objects.read(f"{commits}/{marker('spectrum', 1, BLOCKS[0])}")


def test_a_run_store_opens_in_xarray_with_labels_and_units(local_store: Store) -> None:
    values = values_of(LAYOUT)
    write_run(url_of(local_store), LAYOUT, values)
    tree = open_results(url_of(local_store))
    layers = tree["layers"].to_dataset()
    np.testing.assert_array_equal(
        layers["singular_value"].sel(layer="out.weight", step=30), values["singular_value"][1, 3]
    )
    assert layers["rows"].values.tolist() == [4, 2]
    assert tree["metrics/loss"].attrs["units"] == "nat"
    assert tree.attrs["run_id"] == "aaa"


def test_where_there_is_no_run_store(local_store: Store) -> None:
    with pytest.raises(StoreError, match="no results there"):
        results.read_run(url_of(local_store))
