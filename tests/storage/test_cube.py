"""The sweep cube, from run stores made by hand."""

import contextlib
import errno
import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
import zarr.storage

from helpers.cubes import VARIABLES, DiedError, dying_after, each_put, layout_of, values_of, write_cube, write_row
from specdyn.storage import cube
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.cube_in_memory import cube_in_memory
from specdyn.storage.generations import SEAL
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.results import DamagedResult
from specdyn.storage.rows import Facts, Row
from specdyn.storage.schema import LIVE, SCHEMA_VERSION, Variable

LONG = layout_of(run_id="long", steps=(0, 10, 20, 30))
DEEP = layout_of(run_id="deep", steps=(0, 5, 10), shapes={"in.weight": (4, 3), "mid": (4, 4), "out.weight": (2, 4)})
FEW = layout_of(run_id="few", variables={name: VARIABLES[name] for name in ("effective_rank",)})
LAYOUTS = {layout.attributes["run_id"]: layout for layout in (LONG, DEEP, FEW)}
VALUES = {run: values_of(layout, seed) for seed, (run, layout) in enumerate(LAYOUTS.items())}
HYPERPARAMETERS = {
    "long": {"weight_decay": 0.0, "seed": 0, "net": "MLP", "shuffle": True},
    "deep": {"weight_decay": 0.1, "seed": 1, "net": "MLP", "depth": 3},
    "few": {"weight_decay": 1, "seed": 2, "activation": "relu"},
}


def rows_of(store: Store) -> list[Row]:
    return [write_row(store, LAYOUTS[run], VALUES[run], **HYPERPARAMETERS[run]) for run in LAYOUTS]


@pytest.fixture
def rows(local_store: Store) -> list[Row]:
    return rows_of(local_store)


@pytest.fixture
def url(local_store: Store, rows: list[Row]) -> str:
    where = local_store.cube("hand")
    write_cube(where, rows, {"title": "made by hand"})
    return where


def snapshot(folder: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_every_value_lies_at_its_labels(url: str) -> None:
    tree = open_results(url)
    for run, layout in LAYOUTS.items():
        for name, variable in layout.variables.items():
            found = tree[f"{variable.group}/{name}"].sel(run=run, **{dim: layout.labels[dim] for dim in variable.dims})
            np.testing.assert_array_equal(found, VALUES[run][name])


def test_a_cube_in_memory_is_the_stored_one(local_store: Store, url: str, rows: list[Row]) -> None:
    spikes = Variable(dims=("layer", "step"), long_name="spikes", dtype="int32")
    counted = layout_of(run_id="counted", variables={**VARIABLES, "spikes": spikes})
    values = {**VALUES, "counted": values_of(counted)}
    values["counted"]["spikes"][0, 0] = spikes.fill
    rows = [*rows, write_row(local_store, counted, values["counted"], weight_decay=2.0)]
    write_cube(url, rows, {"title": "made by hand"})
    stored, made = open_results(url), cube_in_memory(rows, [*values.values()], None, {"title": "made by hand"})
    assert list(stored.groups) == list(made.groups) and stored.attrs == {**made.attrs, SEAL: stored.attrs[SEAL]}
    for path in ("layers", "pairs", "metrics", "runs"):
        theirs, ours = (tree[path].to_dataset() for tree in (stored, made))
        came_from = [name for name in LIVE if name in theirs.data_vars]  # nothing in memory comes from an object
        xr.testing.assert_identical(ours.drop_vars(came_from), theirs.drop_vars(came_from))
        for name in theirs.variables:
            assert ours[name].dtype == theirs[name].dtype
            assert ours[name].encoding.get("_FillValue") == theirs[name].encoding.get("_FillValue")
    assert np.isnan(made["layers/spikes"].sel(run="counted").values[0, 0])
    assert (made["layers/spikes"].sel(run="counted", step=[10, 20], layer=["in.weight", "out.weight"]) > 0).all()


def test_labels_are_the_union_over_runs(url: str) -> None:
    layers = open_results(url)["layers"]
    assert layers["run"].values.tolist() == ["long", "deep", "few"]
    assert layers["step"].values.tolist() == [0, 5, 10, 20, 30]
    assert layers["layer"].values.tolist() == ["in.weight", "out.weight", "mid"]
    assert layers["rank"].values.tolist() == [1, 2, 3, 4]


def test_what_a_run_lacks_is_nan_or_missing(url: str) -> None:
    layers = open_results(url)["layers"].to_dataset()
    assert np.isnan(layers["singular_value"].sel(run="long", step=5)).all()
    assert np.isnan(layers["singular_value"].sel(run="long", layer="mid")).all()
    assert np.isnan(layers["singular_value"].sel(run="few")).all()
    assert np.isnan(layers["singular_value"].sel(run="deep", layer="out.weight", rank=[3, 4])).all()
    assert (layers["collapse"].sel(run="few") == 0).all()
    assert (layers["collapse"].sel(run="long", step=[0, 10], layer="in.weight") > 0).all()


def test_hyperparameters_are_coordinates_of_the_runs(url: str) -> None:
    layers = open_results(url)["layers"].to_dataset()
    assert layers["weight_decay"].values.tolist() == [0.0, 0.1, 1.0]
    assert layers["seed"].dtype == np.int64
    assert layers["net"].values.tolist() == ["MLP", "MLP", ""]
    np.testing.assert_array_equal(layers["depth"], [np.nan, 3, np.nan])
    np.testing.assert_array_equal(layers["shuffle"], [1.0, np.nan, np.nan])


def test_shapes_of_layers_depend_on_the_run_only_where_they_differ(local_store: Store, url: str) -> None:
    agreeing = open_results(url)["layers"].to_dataset()
    assert agreeing["rows"].dims == ("layer",)
    assert agreeing["rows"].values.tolist() == [4, 2, 4]
    wide = layout_of(run_id="wide", shapes={"in.weight": (8, 3), "out.weight": (2, 8)})
    differing = [*rows_of(local_store), write_row(local_store, wide, values_of(wide), width=8)]
    write_cube(url, differing, {})
    rows = open_results(url)["layers"]["rows"]
    assert rows.dims == ("run", "layer")
    assert rows.sel(run="wide", layer="in.weight") == 8
    assert rows.sel(run="long", layer="in.weight") == 4
    assert np.isnan(rows.sel(run="long", layer="mid"))


def test_names_units_and_flags_are_kept(url: str) -> None:
    tree = open_results(url)
    attributes = {name: value for name, value in tree.attrs.items() if name not in ("structure", SEAL)}
    assert attributes == {
        "schema_version": SCHEMA_VERSION,
        "Conventions": "CF-1.11",
        "groups": "layers, pairs, metrics, runs; open one with group=NAME, or all with xarray.open_datatree",
        "title": "made by hand",
    }
    assert tree["metrics/loss"].attrs == {"long_name": "loss", "units": "nat"}
    assert tree["layers/effective_rank"].attrs["comment"] == "METHOD 4.3"
    assert tree["layers/collapse"].attrs["flag_meanings"] == "missing alive collapsed"
    assert tree["layers/collapse"].attrs["flag_values"] == [0, 1, 2]
    assert "chunks" not in tree["layers/singular_value"].attrs
    for node in tree.leaves:
        for name, coordinate in node.coords.items():
            assert coordinate.attrs["long_name"], name
    assert tree["layers/singular_value"].dtype == np.float32
    assert tree["layers/collapse"].dtype == np.int8


def test_plain_xarray_opens_it_without_a_word(url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xr.open_datatree(url, engine="zarr")
        layers = xr.open_zarr(url, group="layers")
    assert set(tree.children) == {"layers", "pairs", "metrics", "runs"}
    xr.testing.assert_identical(tree["layers"].to_dataset().load(), layers.load())
    xr.testing.assert_identical(layers, open_results(url)["layers"].to_dataset().load())
    assert layers["singular_value"].dims == ("run", "layer", "step", "rank")


def test_chunks_span_runs_and_large_arrays_are_cut_along_layers(local_store: Store) -> None:
    shapes = {f"layer{i}": (300, 100) for i in range(4)}
    layout = layout_of(run_id="large", steps=range(900), shapes=shapes)
    values = values_of(layout)
    two = [write_row(local_store, layout, values), write_row(local_store, LONG, VALUES["long"])]
    where = local_store.cube("large")
    write_cube(where, two)
    root = zarr.open_group(where, mode="r")
    chunks = {name: root[name].chunks for name in ("layers/singular_value", "layers/effective_rank", "metrics/loss")}  # type: ignore[union-attr]
    # (runs, layers, steps, ranks): 4 x 900 x 100 floats of one run are more than 1 MiB, those of one layer are not.
    assert chunks["layers/singular_value"] == (1, 1, 900, 100)
    # 512 KiB of 6 x 900 and of 2 x 900 floats.
    assert chunks["layers/effective_rank"] == (24, 6, 900)
    assert chunks["metrics/loss"] == (72, 2, 900)
    found = open_results(where)["layers/singular_value"]
    np.testing.assert_array_equal(found.sel(run="large", layer=list(shapes)), values["singular_value"])
    assert np.isnan(found.sel(run="large", layer="in.weight")).all()


def test_every_chunk_is_there_and_has_a_checksum(local_store: Store, rows: list[Row]) -> None:
    where = local_store.cube("hand")
    planned = replace(rows[0], key="planned", parts={}, results="", status="planned")
    write_cube(where, [*rows, planned])
    root = zarr.open_group(where, mode="r")
    for group in root.groups():
        for name, array in group[1].arrays():
            codecs = [codec["name"] for codec in array.metadata.to_dict()["codecs"]]  # type: ignore[union-attr,index,call-overload]
            assert codecs[-1] == "crc32c", name
            assert array.nchunks_initialized == array.nchunks, name


@pytest.mark.parametrize("survives", [0.3, 0.9])
def test_a_cube_that_was_not_finished_does_not_open(url: str, survives: float) -> None:
    files = sorted(snapshot(url))
    for name in ["zarr.json", *files[int(len(files) * survives) :]]:
        Path(url, name).unlink(missing_ok=True)
    with pytest.raises(StoreError, match="no results there"):
        open_results(url)
    with pytest.raises(FileNotFoundError):
        xr.open_datatree(url, engine="zarr")
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(url)


def test_a_first_build_that_dies_leaves_nothing_that_opens(
    local_store: Store, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = local_store.cube("hand")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cube, "placed", die)
        with pytest.raises(KeyboardInterrupt):
            write_cube(where, rows, {})
    with pytest.raises(StoreError, match="no results there"):
        open_results(where)
    write_cube(where, rows, {})
    afresh = local_store.cube("afresh")
    write_cube(afresh, rows, {})
    assert snapshot(where) == snapshot(afresh)


def test_rebuilding_leaves_nothing_of_what_is_no_more(local_store: Store, url: str, rows: list[Row]) -> None:
    write_cube(url, rows[2:], {"title": "less"})
    afresh = local_store.cube("afresh")
    write_cube(afresh, rows[2:], {"title": "less"})
    for consolidated in (True, False):
        with warnings.catch_warnings():
            # Chunks of arrays that are no more stay for readers who have them open.
            warnings.filterwarnings("ignore", message="Object at .* is not recognized")
            found = xr.open_datatree(url, engine="zarr", consolidated=consolidated).load()
        assert found.identical(xr.open_datatree(afresh, engine="zarr", consolidated=consolidated).load())
    assert set(found.children) == {"layers", "runs"}
    assert json.loads(Path(url, "zarr.json").read_text())["attributes"]["title"] == "less"


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_result_is_named_and_the_old_cube_stays(
    local_store: Store, url: str, rows: list[Row], damage: str
) -> None:
    before = snapshot(url)
    wide = layout_of(run_id="wide", shapes={"in.weight": (8, 3), "out.weight": (2, 8)})
    row = write_row(local_store, wide, values_of(wide))
    lost = next(iter(row.parts))
    if damage == "gone":
        objects.delete(lost)
    else:
        objects.write(lost, objects.read(lost)[:-1])
    with pytest.raises(DamagedResult, match=lost):
        write_cube(url, [*rows, row])
    kept = {key: data for key, data in snapshot(url).items() if key in before}
    assert kept == before
    assert open_results(url)["layers"]["run"].values.tolist() == ["long", "deep", "few"]


@pytest.mark.parametrize("name", ["effective_rank", "step", "run"])
def test_a_hyperparameter_may_not_hide_results(local_store: Store, name: str) -> None:
    row = write_row(local_store, FEW, VALUES["few"], **{name: 1})
    with pytest.raises(ValueError, match=f"'{name}' is a setting of the runs"):
        write_cube(local_store.cube("hand"), [row])
    assert not objects.exists(local_store.cube("hand"))


COUNTS = Variable(dims=("layer", "step"), long_name="how many", dtype="int32")


def test_counts_are_integers_and_show_nan_where_there_is_none(local_store: Store) -> None:
    variables = {"how_many": COUNTS, "collapse": VARIABLES["collapse"]}
    layouts = [layout_of(run_id=run, steps=steps, variables=variables) for run, steps in (("a", (0, 1)), ("b", (0,)))]
    counted = {"how_many": np.array([[3, -1], [0, 7]], np.int32), "collapse": np.ones((2, 2), np.int8)}
    values = [counted, {name: array[:, :1] for name, array in counted.items()}]
    rows = [write_row(local_store, layout, of) for layout, of in zip(layouts, values, strict=True)]
    where = local_store.cube("counts")
    write_cube(where, rows, {})
    stored = zarr.open_array(f"{where}/layers/how_many", mode="r")
    assert (stored.dtype, stored.fill_value, stored.attrs["_FillValue"]) == (np.int32, -1, -1)
    expected = [[[3, np.nan], [0, 7]], [[3, np.nan], [0, np.nan]]]
    for tree in (xr.open_datatree(where, engine="zarr"), open_results(where)):
        np.testing.assert_array_equal(tree["layers/how_many"], expected)
        assert tree["layers/collapse"].sel(run="b", step=1).values.tolist() == [0, 0]


def test_what_is_not_measured_of_a_run_is_missing_and_is_filled_later(local_store: Store) -> None:
    where, whole = local_store.cube("part"), VALUES["long"]
    for blocks in (0, 2, 3, 4):
        row = write_row(local_store, LONG, whole, blocks=blocks)
        write_cube(where, [row])
        tree = open_results(where)
        assert tree["layers"]["status"].values.tolist() == [row.status]
        found = tree["layers/singular_value"].isel(run=0)
        np.testing.assert_array_equal(found[:, :blocks], whole["singular_value"][:, :blocks])
        assert found[:, blocks:].isnull().all()
        assert (tree["layers/collapse"].isel(run=0)[:, blocks:] == 0).all()
        np.testing.assert_array_equal(tree["metrics/loss"].isel(run=0)[:, :blocks], whole["loss"][:, :blocks])


def test_facts_of_runs_lie_among_the_metrics(local_store: Store) -> None:
    largest = Variable(dims=(), long_name="largest loss", constants={"threshold": 2.0})
    steps = Variable(dims=("split",), long_name="how many", dtype="int32")

    def declare(variables: Mapping[str, Variable]) -> dict[str, Variable]:
        return {"largest": largest, "many": steps} if "loss" in variables else {}

    def compute(run: Mapping[str, xr.DataArray]) -> dict[str, Any]:
        loss = run.get("loss")
        return {} if loss is None else {"largest": float(loss.max()), "many": np.array([loss.sizes["step"], np.nan])}

    rows = rows_of(local_store)
    where = local_store.cube("facts")
    write_cube(where, rows, facts=Facts(declare=declare, compute=compute))
    metrics = xr.open_datatree(where, engine="zarr")["metrics"]
    assert metrics["largest"].dims == ("run",)
    assert metrics["largest"].attrs["threshold"] == 2.0
    np.testing.assert_array_equal(
        metrics["largest"], [VALUES["long"]["loss"].max(), VALUES["deep"]["loss"].max(), np.nan]
    )
    np.testing.assert_array_equal(metrics["many"], [[4, np.nan], [3, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(metrics["loss"].sel(run="deep", step=[0, 5, 10]), VALUES["deep"]["loss"])


def puts_of(monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]) -> list[str]:
    """Keys of the objects that a call puts, by zarr or by itself, within the cube."""
    put: list[str] = []
    with each_put(monkeypatch, put.append):
        call()
    return put


def run_rows(store: Store, count: int, blocks: int | None = None) -> list[Row]:
    layout = layout_of(steps=(0, 10), run_id="same")
    model = write_row(store, layout, values_of(layout), blocks=blocks, seed=0)
    return [replace(model, key=f"run{i}", coordinates={"seed": i}, settings={"seed": i}) for i in range(count)]


def test_adding_a_run_costs_the_same_whatever_is_there(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []
    for count in (3, 700):
        where, rows = local_store.cube(f"of{count}"), run_rows(local_store, count + 1)
        write_cube(where, rows[:-1])
        put = puts_of(monkeypatch, lambda where=where, rows=rows: write_cube(where, rows))  # type: ignore[misc]
        assert len(put) == len(set(put)), "nothing is put twice"
        costs.append(Counter(key.rpartition("/c/")[0] or key for key in put))
        assert open_results(where)["layers"].sizes["run"] == count + 1
    assert costs[0] == costs[1]


def test_a_block_that_lands_rewrites_its_values_and_what_says_so_and_nothing_else(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = local_store.cube("hand")
    few, more = run_rows(local_store, 2, blocks=1), run_rows(local_store, 2)
    write_cube(where, few)
    put = puts_of(monkeypatch, lambda: write_cube(where, [few[0], more[1]]))
    values = {f"{variable.group}/{name}" for name, variable in VARIABLES.items()}
    says = {f"{group}/status" for group in ("layers", "pairs", "metrics", "runs")} | {"runs/parts", "runs/contents"}
    assert {key.partition("/c/")[0] for key in put} == values | says | {
        "runs/results",
        "runs/computed_on",
        "runs/trained",
    }
    assert puts_of(monkeypatch, lambda: write_cube(where, [few[0], more[1]])) == []


@pytest.mark.parametrize(("runs", "every"), [(3, 5), (2, 1)])
def test_what_a_call_left_that_died_anywhere_is_completed(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, runs: int, every: int
) -> None:
    """Whatever was put by then: readers see the old values or the new ones, and the next call puts the rest.

    A new run has the columns of all put again, so what is forgotten of the others shows only without one.
    """
    small, grown = run_rows(local_store, 2, blocks=1), run_rows(local_store, runs)
    whole = local_store.cube("whole")
    write_cube(whole, grown)
    expected = {name: group.to_dataset().load() for name, group in open_results(whole).children.items()}
    total = count_of_puts(monkeypatch, local_store.cube("counted"), small, grown)
    for survivors in range(0, total, every):
        where = local_store.cube(f"cut{survivors}")
        write_cube(where, small)
        with dying_after(monkeypatch, survivors), contextlib.suppress(DiedError):
            write_cube(where, grown)
        tree = open_results(where)
        assert tree["layers"].sizes["run"] in (2, 3)
        assert tree["layers/effective_rank"].isel(run=slice(2), step=0).notnull().all(), "what was there stays"
        write_cube(where, grown)
        completed = open_results(where).children
        assert completed.keys() == expected.keys()
        for name, group in completed.items():
            xr.testing.assert_identical(group.to_dataset().load(), expected[name])


def count_of_puts(monkeypatch: pytest.MonkeyPatch, where: str, small: list[Row], grown: list[Row]) -> int:
    write_cube(where, small)
    return len(puts_of(monkeypatch, lambda: write_cube(where, grown)))


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_full_disk_is_said_and_what_was_there_stays_and_is_completed(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    where, puts, store_set = local_store.cube("hand"), left, zarr.storage.LocalStore.set
    few, more = run_rows(local_store, 2, blocks=1), run_rows(local_store, 2)
    write_cube(where, few)
    before = open_results(where).load()

    async def full(self: Any, key: str, value: Any) -> None:
        nonlocal puts
        puts -= 1
        if puts < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        await store_set(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", full)
        with pytest.raises(
            StoreError, match=r"hand/results\.zarr: no space is left on the disk \([\d,]+ bytes are free\)"
        ):
            write_cube(where, more)
    for name in ("layers", "metrics"):
        there = open_results(where)[name].to_dataset().isel(step=[0]).load()
        xr.testing.assert_identical(there, before[name].to_dataset().isel(step=[0]))
    write_cube(where, more)
    write_cube(local_store.cube("whole"), more)
    for name, group in open_results(local_store.cube("whole")).children.items():
        xr.testing.assert_identical(open_results(where)[name].to_dataset().load(), group.to_dataset().load())
