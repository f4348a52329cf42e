"""The sweep cube, from run stores made by hand."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from helpers.run_stores import VARIABLES, layout_of, values_of, write_member
from specdyn.storage import cube
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.cube import write_cube
from specdyn.storage.members import Member, RunGroup
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.results import write_block
from specdyn.storage.schema import SCHEMA_VERSION, Variable

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


def members_of(store: Store) -> list[Member]:
    return [write_member(store.url, LAYOUTS[run], VALUES[run], **HYPERPARAMETERS[run]) for run in LAYOUTS]


@pytest.fixture
def members(local_store: Store) -> list[Member]:
    return members_of(local_store)


@pytest.fixture
def url(local_store: Store, members: list[Member]) -> str:
    where = f"{local_store}/sweeps/hand.zarr"
    write_cube(where, members, {"title": "made by hand"})
    return where


def snapshot(folder: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_every_value_lies_at_its_labels(url: str) -> None:
    tree = open_results(url)
    for run, layout in LAYOUTS.items():
        for name, variable in layout.variables.items():
            found = tree[f"{variable.group}/{name}"].sel(run=run, **{dim: layout.labels[dim] for dim in variable.dims})
            np.testing.assert_array_equal(found, VALUES[run][name])


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
    differing = [*members_of(local_store), write_member(local_store.url, wide, values_of(wide), width=8)]
    write_cube(url, differing, {})
    rows = open_results(url)["layers"]["rows"]
    assert rows.dims == ("run", "layer")
    assert rows.sel(run="wide", layer="in.weight") == 8
    assert rows.sel(run="long", layer="in.weight") == 4
    assert np.isnan(rows.sel(run="long", layer="mid"))


def test_names_units_and_flags_are_kept(url: str) -> None:
    tree = open_results(url)
    assert tree.attrs == {"schema_version": SCHEMA_VERSION, "Conventions": "CF-1.11", "title": "made by hand"}
    assert tree["metrics/loss"].attrs == {"long_name": "loss", "units": "nat"}
    assert tree["layers/effective_rank"].attrs["comment"] == "METHOD 4.3"
    assert tree["layers/collapse"].attrs["flag_meanings"] == "missing alive collapsed"
    assert tree["layers/collapse"].attrs["flag_values"] == [0, 1, 2]
    assert "cube_chunks" not in tree["layers/singular_value"].attrs
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
    assert set(tree.children) == {"layers", "pairs", "metrics"}
    xr.testing.assert_identical(tree["layers"].to_dataset().load(), layers.load())
    xr.testing.assert_identical(layers, open_results(url)["layers"].to_dataset().load())
    assert layers["singular_value"].dims == ("run", "layer", "step", "rank")


def test_large_arrays_are_one_shard_a_run_small_ones_one_chunk(local_store: Store) -> None:
    shapes = {f"layer{i}": (300, 100) for i in range(4)}
    layout = layout_of(run_id="large", steps=range(180), shapes=shapes)
    assert 4 * 180 * 100 * 4 > cube.SMALL > 3 * 180 * 4 * 8
    values = values_of(layout)
    two = [write_member(local_store.url, layout, values), write_member(local_store.url, LONG, VALUES["long"])]
    write_cube(f"{local_store}/sweeps/large.zarr", two, {})
    root = zarr.open_group(f"{local_store}/sweeps/large.zarr", mode="r")
    large, small = root["layers/singular_value"], root["layers/effective_rank"]
    assert isinstance(large, zarr.Array)
    assert isinstance(small, zarr.Array)
    assert large.shape == (2, 6, 180, 100)
    assert large.chunks == (1, 1, 180, 16)
    assert large.shards == (1, 6, 180, 112)
    assert small.chunks == (1, 6, 180)
    assert small.shards is None
    found = open_results(f"{local_store}/sweeps/large.zarr")["layers/singular_value"]
    np.testing.assert_array_equal(found.sel(run="large", layer=list(shapes)), values["singular_value"])
    assert np.isnan(found.sel(run="large", layer="in.weight")).all()


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
    local_store: Store, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"{local_store}/sweeps/hand.zarr"

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cube, "_placed", die)
        with pytest.raises(KeyboardInterrupt):
            write_cube(where, members, {})
    with pytest.raises(StoreError, match="no results there"):
        open_results(where)
    write_cube(where, members, {})
    afresh = f"{local_store}/sweeps/afresh.zarr"
    write_cube(afresh, members, {})
    assert snapshot(where) == snapshot(afresh)


def test_rebuilding_leaves_nothing_of_what_is_no_more(local_store: Store, url: str, members: list[Member]) -> None:
    write_cube(url, members[2:], {"title": "less"})
    afresh = f"{local_store}/sweeps/afresh.zarr"
    write_cube(afresh, members[2:], {"title": "less"})
    for consolidated in (True, False):
        with warnings.catch_warnings():
            # Chunks of arrays that are no more stay for readers who have them open.
            warnings.filterwarnings("ignore", message="Object at .* is not recognized")
            found = xr.open_datatree(url, engine="zarr", consolidated=consolidated).load()
        assert found.identical(xr.open_datatree(afresh, engine="zarr", consolidated=consolidated).load())
    assert set(found.children) == {"layers"}
    assert json.loads(Path(url, "zarr.json").read_text())["attributes"]["title"] == "less"


def test_a_missing_run_store_is_named_and_the_old_cube_stays(url: str, members: list[Member]) -> None:
    before = snapshot(url)
    gone = Member(run_id="gone", url=f"{members[0].url}.gone", hyperparameters={})
    with pytest.raises(StoreError, match="gone: no results there; run the sweep first"):
        write_cube(url, [*members, gone], {})
    assert snapshot(url) == before


def test_runs_that_do_not_fit_together_are_named(local_store: Store) -> None:
    changed = Variable(dims=("layer", "step", "rank"), long_name="effective rank / rank")
    other = layout_of(run_id="other", variables={"effective_rank": changed})
    two = [write_member(local_store.url, FEW, VALUES["few"]), write_member(local_store.url, other, values_of(other))]
    with pytest.raises(StoreError, match=r"'effective_rank' has dimensions .* in run few and .* in run other"):
        write_cube(f"{local_store}/sweeps/hand.zarr", two, {})


@pytest.mark.parametrize("name", ["effective_rank", "step", "run"])
def test_a_hyperparameter_may_not_hide_results(local_store: Store, name: str) -> None:
    member = write_member(local_store.url, FEW, VALUES["few"], **{name: 1})
    with pytest.raises(ValueError, match=f"'{name}' is a hyper-parameter and a"):
        write_cube(f"{local_store}/sweeps/hand.zarr", [member], {})
    assert not objects.exists(f"{local_store}/sweeps/hand.zarr")


COUNTS = Variable(dims=("layer", "step"), long_name="how many", dtype="int32")


def test_counts_are_integers_and_show_nan_where_there_is_none(local_store: Store) -> None:
    variables = {"how_many": COUNTS, "collapse": VARIABLES["collapse"]}
    layouts = [layout_of(run_id=run, steps=steps, variables=variables) for run, steps in (("a", (0, 1)), ("b", (0,)))]
    counted = {"how_many": np.array([[3, -1], [0, 7]], np.int32), "collapse": np.ones((2, 2), np.int8)}
    values = [counted, {name: array[:, :1] for name, array in counted.items()}]
    members = [write_member(local_store.url, layout, of) for layout, of in zip(layouts, values, strict=True)]
    where = f"{local_store}/sweeps/counts.zarr"
    write_cube(where, members, {})
    stored = zarr.open_array(f"{where}/layers/how_many", mode="r")
    assert (stored.dtype, stored.fill_value, stored.attrs["_FillValue"]) == (np.int32, -1, -1)
    expected = [[[3, np.nan], [0, 7]], [[3, np.nan], [0, np.nan]]]
    for tree in (xr.open_datatree(where, engine="zarr"), open_results(where)):
        np.testing.assert_array_equal(tree["layers/how_many"], expected)
        assert tree["layers/collapse"].sel(run="b", step=1).values.tolist() == [0, 0]
    assert float(open_results(members[0].url)["layers/how_many"].isnull().sum()) == 1


def test_counts_of_older_run_stores_were_floats_and_are_integers_in_the_cube(local_store: Store) -> None:
    older = Variable(dims=("layer", "step"), long_name="how many")
    layout = layout_of(run_id="old", steps=(0, 1), variables={"how_many": older})
    old = write_member(local_store.url, layout, {"how_many": np.array([[3, np.nan], [0, 7]], np.float32)})
    new = layout_of(run_id="new", steps=(0, 1), variables={"how_many": COUNTS})
    both = [old, write_member(local_store.url, new, {"how_many": np.array([[4, 5], [-1, 6]], np.int32)})]
    where = f"{local_store}/sweeps/counts.zarr"
    for members in (both, both[::-1]):
        write_cube(where, members, {}, declared={"how_many": COUNTS})
        counts = xr.open_datatree(where, engine="zarr")["layers/how_many"]
        assert counts.encoding["dtype"] == np.int32
        np.testing.assert_array_equal(counts.sel(run="old"), [[3, np.nan], [0, 7]])
        np.testing.assert_array_equal(counts.sel(run="new"), [[4, 5], [np.nan, 6]])
    # A block that is analysed now goes into the older store as it is.
    write_block(
        old.url,
        layout_of(run_id="old", steps=(0, 1), variables={"how_many": COUNTS}),
        (0,),
        {"how_many": np.array([[-1], [8]], np.int32)},
    )
    np.testing.assert_array_equal(open_results(old.url)["layers/how_many"], [[np.nan, np.nan], [8, 7]])


def test_what_is_not_finished_of_a_run_is_missing_and_the_rest_stays(local_store: Store) -> None:
    member = write_member(local_store.url, LONG, VALUES["long"])
    where = f"{local_store}/sweeps/part.zarr"
    unknown = {"singular_value": frozenset({10, 30}), "collapse": frozenset({0}), "loss": None}
    write_cube(where, [replace(member, unknown=unknown)], {})
    tree = open_results(where)
    whole = VALUES["long"]
    found = tree["layers/singular_value"].isel(run=0)
    assert found.sel(step=[10, 30]).isnull().all()
    np.testing.assert_array_equal(found.sel(step=[0, 20]), whole["singular_value"][:, [0, 2]])
    assert tree["layers/collapse"].isel(run=0).sel(step=0).values.tolist() == [0, 0]
    np.testing.assert_array_equal(tree["layers/collapse"].isel(run=0, step=[1, 2, 3]), whole["collapse"][:, 1:])
    assert tree["metrics/loss"].isnull().all()
    np.testing.assert_array_equal(tree["layers/effective_rank"].isel(run=0), whole["effective_rank"])


def test_facts_of_runs_lie_among_the_metrics(local_store: Store) -> None:
    largest = Variable(dims=(), long_name="largest loss", constants={"threshold": 2.0})
    steps = Variable(dims=("split",), long_name="how many", dtype="int32")

    def facts(run: Mapping[str, RunGroup]) -> dict[str, tuple[Variable, Any]]:
        if "loss" not in run["metrics"].variables:
            return {}
        loss = run["metrics"].labelled("loss")
        return {"largest": (largest, float(loss.max())), "many": (steps, np.array([loss.sizes["step"], np.nan]))}

    members = members_of(local_store)
    where = f"{local_store}/sweeps/facts.zarr"
    write_cube(where, members, {}, facts=facts)
    metrics = xr.open_datatree(where, engine="zarr")["metrics"]
    assert metrics["largest"].dims == ("run",)
    assert metrics["largest"].attrs["threshold"] == 2.0
    np.testing.assert_array_equal(
        metrics["largest"], [VALUES["long"]["loss"].max(), VALUES["deep"]["loss"].max(), np.nan]
    )
    np.testing.assert_array_equal(metrics["many"], [[4, np.nan], [3, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(metrics["loss"].sel(run="deep", step=[0, 5, 10]), VALUES["deep"]["loss"])
