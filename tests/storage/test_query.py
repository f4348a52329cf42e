"""Opening results and turning runs into a grid."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from helpers.cubes import layout_of, values_of, write_cube, write_row
from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.query import DamagedCube, grid, open_results, open_study, reading
from specdyn.storage.studies import study_names
from specdyn.tasks.figures.configurations import runs_of, settings_of

NAN = float("nan")


@pytest.fixture
def store(local_store: Store) -> Store:
    """A store with a sweep of weight decay 0, 1 and seed 0, 1 that lacks one cell."""
    cells = [(0.0, 0), (0.0, 1), (1.0, 0)]
    rows = []
    for i, (decay, seed) in enumerate(cells):
        layout = layout_of(run_id=f"run{i}")
        rows.append(write_row(local_store, layout, values_of(layout, i), weight_decay=decay, seed=seed))
    write_cube(local_store.cube("decay"), rows)
    for name in ("decay", "waiting"):
        objects.write(local_store.study(name, "sweep"), b"{}")
    return local_store


def test_sweeps_are_listed_by_their_records(store: Store) -> None:
    objects.write(store.study("decay", "tickets"), b"{}")
    assert study_names(store) == [("decay", "sweep"), ("decay", "tickets"), ("waiting", "sweep")]
    assert study_names(store, ("tickets",)) == [("decay", "tickets")]
    assert study_names(Store(f"{store}/nothing")) == []


def test_what_is_not_there_is_answered_with_what_is(store: Store) -> None:
    with pytest.raises(StoreError, match=r"waiting/results.zarr: no results there; next to it: decay, waiting$"):
        open_results(store.cube("waiting"))
    with pytest.raises(StoreError, match="next to it: none"):
        open_results(f"{store}/elsewhere/decay/results.zarr")


def test_a_store_names_its_studies_and_a_study_opens_by_its_folder(store: Store) -> None:
    objects.write(store.schema, b"{}")
    for opened in (open_results, open_study):
        with pytest.raises(StoreError, match=r"a store, not a study: .*; its studies are: decay, waiting$"):
            opened(store.url)
    with pytest.raises(StoreError, match=r"no results of a study called 'dekay'; its studies are: decay, waiting$"):
        open_study(store.url, "dekay")
    by_name, by_folder = open_study(store.url, "decay"), open_study(f"{store.url}/studies/decay")
    xr.testing.assert_identical(by_name["layers"].to_dataset(), by_folder["layers"].to_dataset())


def test_results_are_read_lazily_and_their_coordinates_at_once(store: Store) -> None:
    layers = open_results(f"{store.cube('decay')}/")["layers"].to_dataset()
    assert all(not variable._in_memory for variable in layers.data_vars.variables.values())
    assert all(variable._in_memory for variable in layers.coords.variables.values())
    assert set(layers.indexes) == {"run", "layer", "step", "rank"}


def test_metadata_of_the_whole_that_is_damaged_is_not_passed_over_for_that_of_the_arrays(store: Store) -> None:
    root = Path(store.cube("decay")) / "zarr.json"
    plain = json.loads(root.read_text())
    entries = plain["consolidated_metadata"]["metadata"]
    entries["layers/effective_rank"]["shape"] = [1]
    root.write_text(json.dumps(plain))
    with pytest.raises(StoreError, match=r"these results are damaged .*shape"):
        open_results(store.cube("decay"))
    del plain["consolidated_metadata"]
    root.write_text(json.dumps(plain))
    with pytest.raises(DamagedCube, match="these results are damaged"):
        open_results(store.cube("decay"))


@pytest.mark.parametrize("change", ["flipped", "cut", "gone"])
def test_a_damaged_chunk_is_named_and_is_never_a_value(store: Store, change: str) -> None:
    url = store.cube("decay")
    for key in (key for key in objects.find(url) if generations.form_of(key) is not None):
        whole = objects.read(f"{url}/{key}")
        if change == "gone":
            objects.delete(f"{url}/{key}")
        else:
            data = whole[:-1] if change == "cut" else whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:]
            objects.write(f"{url}/{key}", data)
        with pytest.raises(StoreError, match=r"decay/results\.zarr"), reading(url):
            open_results(url).load()
        objects.write(f"{url}/{key}", whole)
    open_results(url).load()


def test_a_grid_has_hyperparameters_for_dimensions(store: Store) -> None:
    layers = open_results(store.cube("decay"))["layers"].to_dataset()
    ranks = grid(layers["effective_rank"], "weight_decay", "seed")
    assert dict(ranks.sizes) == {"layer": 2, "step": 3, "weight_decay": 2, "seed": 2}
    np.testing.assert_array_equal(
        ranks.sel(weight_decay=0.0, seed=1).transpose("layer", "step"), layers["effective_rank"].sel(run="run1")
    )
    assert np.isnan(ranks.sel(weight_decay=1.0, seed=1)).all()
    whole = grid(layers, "weight_decay", "seed")
    assert isinstance(whole, xr.Dataset)
    xr.testing.assert_equal(whole["effective_rank"], ranks)


def test_a_grid_of_one_axis(store: Store) -> None:
    layers = open_results(store.cube("decay"))["layers"].to_dataset()
    ranks = grid(layers["effective_rank"].isel(run=[0, 2]), "weight_decay")
    assert ranks["weight_decay"].values.tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(ranks.sel(weight_decay=1.0), layers["effective_rank"].sel(run="run2"))


def test_axes_that_do_not_tell_runs_apart_are_refused(store: Store) -> None:
    layers = open_results(store.cube("decay"))["layers"].to_dataset()
    with pytest.raises(ValueError, match=r"axes=\('weight_decay',\) do not distinguish the runs"):
        grid(layers, "weight_decay")


def test_where_a_run_comes_from_decides_nothing(local_store: Store) -> None:
    layout = layout_of(run_id="run0")
    row = write_row(local_store, layout, values_of(layout, 0), weight_decay=0.0, seed=0)
    url = local_store.cube("whence")
    write_cube(url, [dataclasses.replace(row, provenance={"computed_on": "a machine"})], {})
    tree = open_results(url)
    assert tree["runs/computed_on"].values.tolist() == ["a machine"]
    assert set(settings_of(runs_of(tree))) == {"weight_decay", "seed"}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_a_grid_keeps_runs_that_do_not_have_a_hyperparameter_apart(order: tuple[int, ...]) -> None:
    cells = [(0.5, "sgd"), (NAN, "sgd"), (1.0, "adamw"), (NAN, "adamw")]
    runs = [cells[place] for place in order]
    strings = np.dtypes.StringDType()
    data = xr.DataArray(
        [10.0 + place for place in order],
        {
            "run": np.array([f"run{place}" for place in order], strings),
            "clip": ("run", [clip for clip, _ in runs], {"units": "1"}),
            "optimizer": ("run", np.array([name for _, name in runs], strings)),
        },
        ("run",),
    )
    found = grid(data, "clip", "optimizer")
    assert isinstance(found, xr.DataArray)
    assert found["optimizer"].values.tolist() == ["adamw", "sgd"]
    np.testing.assert_array_equal(found["clip"], [0.5, 1.0, NAN])
    np.testing.assert_array_equal(found, [[NAN, 10.0], [12.0, NAN], [13.0, 11.0]])
    assert found["clip"].attrs == {"units": "1"}
    assert found.sel(clip=1.0, optimizer="adamw") == 12.0
    alone = grid(data.isel(run=[i for i, place in enumerate(order) if place < 3]), "clip")
    assert float(alone.sel(clip=0.5)) == 10.0
