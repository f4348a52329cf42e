"""Objects of results: put once, told apart by their names, and never read where they are damaged."""

import threading
from pathlib import Path

import numpy as np
import pytest

from helpers.cubes import VARIABLES, layout_of, part, values_of, write_run
from specdyn.storage import results
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.results import (
    DamagedResult,
    analyses_of,
    block_length,
    blocks_of,
    part_name,
    parts_in,
    present,
    read_metadata,
    read_values,
    write_block,
    write_values,
)
from specdyn.storage.schema import SCHEMA_VERSION, Variable

LAYOUT = layout_of(steps=range(0, 200, 10))
BLOCKS = LAYOUT.blocks()
ANALYSES = {"spectrum": 1, "pruning": 2}
VALUES = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([3, -1], np.int32), "c": np.array(2.5)}


def snapshot(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("checkpoints", "length"), [(1, 1), (8, 1), (9, 2), (61, 8), (128, 16), (170, 16), (10_000, 16)]
)
def test_a_block_is_an_eighth_of_the_run_up_to_sixteen(checkpoints: int, length: int) -> None:
    assert block_length(checkpoints) == length
    blocks = blocks_of(tuple(range(checkpoints)))
    assert [step for block in blocks for step in block] == list(range(checkpoints))
    assert {len(block) for block in blocks[:-1]} <= {length}


def test_arrays_come_back_with_their_dtypes_order_and_what_decides_them(local_store: Store) -> None:
    url = f"{local_store}/x.safetensors"
    assert write_values(url, VALUES, {"of": "somebody"})
    found = read_values(url)
    assert found is not None
    assert list(found.values) == list(VALUES)
    for name, array in VALUES.items():
        assert (found.values[name].dtype, found.values[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found.values[name], array)
    assert found.metadata["of"] == "somebody"
    assert read_metadata(url)["of"] == "somebody"


def test_an_object_is_put_once_and_equal_results_have_equal_bytes(local_store: Store) -> None:
    urls = [f"{local_store}/{name}.safetensors" for name in "ab"]
    assert [write_values(url, VALUES, {"of": 1}) for url in urls] == [True, True]
    assert objects.read(urls[0]) == objects.read(urls[1])
    assert not write_values(urls[0], {"a": np.zeros(3)}, {"of": 2})
    assert objects.read(urls[0]) == objects.read(urls[1])


def test_where_there_is_no_object(local_store: Store) -> None:
    assert read_values(f"{local_store}/x.safetensors") is None
    assert not present(f"{local_store}/x.safetensors")


def test_every_flipped_byte_and_every_cut_is_noticed(local_store: Store) -> None:
    url = f"{local_store}/x.safetensors"
    write_values(url, VALUES, {"of": "somebody"})
    whole = objects.read(url)
    for place in range(len(whole)):
        for data in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            Path(url).write_bytes(data)
            with pytest.raises(StoreError, match=r"x\.safetensors"):
                read_values(url)
    objects.write(url, whole + b"more")
    with pytest.raises(DamagedResult, match="damaged after it was written"):
        read_values(url)


def test_what_is_damaged_counts_as_missing_and_is_removed(local_store: Store) -> None:
    url = f"{local_store}/x.safetensors"
    write_values(url, VALUES, {})
    assert present(url)
    objects.write(url, objects.read(url)[:-1])
    assert not present(url)
    assert not objects.exists(url)


def test_an_object_of_a_newer_specdyn_is_refused(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{local_store}/x.safetensors"
    monkeypatch.setattr(results, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    write_values(url, VALUES, {})
    with pytest.raises(StoreError, match="install a newer specdyn"):
        read_values(url)


def test_a_name_holds_the_block_and_the_analyses(local_store: Store) -> None:
    folder = f"{local_store}/run"
    write_block(folder, LAYOUT, BLOCKS[1], ANALYSES, part(LAYOUT, values_of(LAYOUT), BLOCKS[1]))
    (found,) = parts_in([*objects.names(folder), "notes.txt", "00000000-00000010.safetensors"])
    assert (found.first, found.last) == (BLOCKS[1][0], BLOCKS[1][-1])
    assert found.name == part_name(BLOCKS[1], {"pruning": 2, "spectrum": 1})
    assert found.name != part_name(BLOCKS[1], {"pruning": 3, "spectrum": 1})
    assert analyses_of(folder, found) == ANALYSES


def test_the_header_of_one_object_tells_the_analyses_of_all_like_it(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reads = f"{local_store}/run", list[str]()
    for steps in BLOCKS:
        write_block(folder, LAYOUT, steps, {"unheard_of": 7}, part(LAYOUT, values_of(LAYOUT), steps))
    read_range = objects.read_range

    def counted(url: str, start: int, end: int) -> bytes:
        reads.append(url)
        return read_range(url, start, end)

    monkeypatch.setattr(objects, "read_range", counted)
    assert all(analyses_of(folder, found) == {"unheard_of": 7} for found in parts_in(objects.names(folder)))
    assert len(reads) == 2
    (lost,) = parts_in([part_name(BLOCKS[0], {"never_written": 1})])
    assert analyses_of(folder, lost) == {}


def test_blocks_put_by_many_threads_in_any_order_are_all_there(local_store: Store) -> None:
    folder, values = f"{local_store}/run", values_of(LAYOUT)
    threads = [
        threading.Thread(target=write_block, args=(folder, LAYOUT, steps, ANALYSES, part(LAYOUT, values, steps)))
        for steps in (*reversed(BLOCKS), *BLOCKS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = objects.names(folder)
    assert names == sorted(part_name(steps, ANALYSES) for steps in BLOCKS)
    for steps in BLOCKS:
        found = read_values(f"{folder}/{part_name(steps, ANALYSES)}")
        assert found is not None
        assert found.steps == steps
        for name, array in part(LAYOUT, values, steps).items():
            np.testing.assert_array_equal(found.values[name], array)


def test_what_is_said_of_a_whole_run_goes_with_its_last_block(local_store: Store) -> None:
    variables = {**VARIABLES, "path": Variable(dims=("layer", "step"), long_name="path of the whole run")}
    layout = layout_of(steps=(0, 10, 20), variables=variables)
    path = np.arange(6, dtype=np.float32).reshape(2, 3)
    folder = f"{local_store}/run"
    write_block(folder, layout, (20,), {"trajectory": 1}, {}, {"path": path})
    found = read_values(f"{folder}/{part_name((20,), {'trajectory': 1})}")
    assert found is not None
    np.testing.assert_array_equal(found.values["path"], path)
    assert found.metadata["of_run"] == ["path"]
    assert found.metadata["labels"]["step"] == [0, 10, 20]


@pytest.mark.parametrize("name", VARIABLES)
def test_a_wrong_shape_is_refused_before_anything_is_written(local_store: Store, name: str) -> None:
    values = part(LAYOUT, values_of(LAYOUT), BLOCKS[0])
    with pytest.raises(ValueError, match=f"variable '{name}'.*expected.*got"):
        write_block(f"{local_store}/run", LAYOUT, BLOCKS[0], ANALYSES, {**values, name: values[name][:1, :1]})
    assert snapshot(local_store.url) == {}


@pytest.mark.parametrize("steps", [BLOCKS[0][:1], (*BLOCKS[0], *BLOCKS[1]), BLOCKS[0][1:], (5,)])
def test_anything_but_a_block_is_refused(local_store: Store, steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not one of the run's blocks"):
        write_block(f"{local_store}/run", LAYOUT, steps, ANALYSES, {})


def test_a_run_is_at_most_twelve_objects(local_store: Store) -> None:
    for checkpoints in (1, 7, 31, 64, 128):
        layout = layout_of(steps=range(checkpoints))
        urls = write_run(f"{local_store}/{checkpoints}", layout, values_of(layout))
        assert len(objects.names(f"{local_store}/{checkpoints}")) == len(urls) <= 12
