"""Facts of runs against values derived by hand, and what a user's query makes of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr

from helpers.cubes import layout_of, write_cube, write_row
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.facts import FACTS, GROKKED_BELOW, RUN_FACTS, grokking

NAN = float("nan")
MEASURED = {
    "err": Variable(dims=("split", "step"), long_name="error rate"),
    "loss": Variable(dims=("split", "step"), long_name="loss", units="nat"),
    "effective_rank": Variable(dims=("layer", "step"), long_name="effective rank / rank"),
    "collapse": Variable(
        dims=("layer", "step"), long_name="collapse", dtype="int8", flags=("missing", "alive", "collapsed")
    ),
}


def series(values: Sequence[float]) -> xr.DataArray:
    return xr.DataArray(np.array(values, np.float32), {"step": [0, 10, 20, 30][: len(values)]}, "step")


@pytest.mark.parametrize(
    ("values", "step", "censored"),
    [
        ([0.9, 0.5, 0.04, 0.0], 20, 0),
        ([0.01, 0.5, 0.5, 0.5], 0, 0),  # it rose again, and has grokked all the same
        ([0.9, 0.049, 0.9, 0.9], 10, 0),
        ([0.9, 0.05, 0.06, 0.5], NAN, 1),  # .05 is not below .05
        ([0.9, 0.9, 0.9, 0.9], NAN, 1),
        ([0.9], NAN, 1),
        ([NAN, 0.9, 0.01, 0.0], NAN, NAN),  # the first may have been the one that was not measured
        ([0.9, NAN, 0.01, 0.0], NAN, NAN),
        ([0.9, 0.01, NAN, 0.0], 10, 0),
        ([0.9, 0.9, 0.9, NAN], NAN, NAN),
        ([NAN, NAN, NAN, NAN], NAN, NAN),
    ],
)
def test_a_run_groks_at_its_first_small_error_or_is_censored(values: list[float], step: float, censored: float) -> None:
    found = grokking(series(values))
    np.testing.assert_array_equal([found["grok_step"], found["grok_censored"]], [step, censored])


def member(store: Store, run: str, steps: Sequence[int], decay: float, **values: Any) -> Any:
    variables = {name: MEASURED[name] for name in values}
    layout = layout_of(run_id=run, steps=steps, variables=variables)
    arrays = {name: np.array(value, MEASURED[name].dtype) for name, value in values.items()}
    return write_row(store, layout, arrays, weight_decay=decay)


@pytest.fixture
def metrics(local_store: Store) -> xr.Dataset:
    """`groks` at its second step; `never`, which is shorter; `ranks`, whose error was not measured."""
    train, flat = [0.1, 0.0, 0.0], [0.9, 0.8, 0.7]
    alive, dying = [1, 1, 1], [1, 2, 2]
    members = [
        member(
            local_store,
            "groks",
            (0, 10, 20),
            1.0,
            err=[train, [0.9, 0.02, 0.01]],
            loss=[[3, 2, 1], [4, 3, 2]],
            effective_rank=[[0.8, 0.5, 0.2], [1.0, 0.7, 0.6]],
            collapse=[alive, dying],
        ),
        member(
            local_store,
            "never",
            (0, 10),
            0.0,
            err=[train[:2], flat[:2]],
            effective_rank=[[0.8, 0.8], [1.0, NAN]],
            collapse=[alive[:2], alive[:2]],
        ),
        member(local_store, "ranks", (0, 10), 0.0, effective_rank=[[0.5, 0.5], [0.7, 0.7]]),
    ]
    url = local_store.cube("facts")
    write_cube(url, members, {}, facts=RUN_FACTS)
    plain = xr.open_datatree(url, engine="zarr")["metrics"].to_dataset().load()
    xr.testing.assert_identical(plain, open_results(url)["metrics"].to_dataset().load())
    return plain


def test_facts_are_stored_along_the_runs(metrics: xr.Dataset) -> None:
    np.testing.assert_array_equal(metrics["grok_step"], [10, NAN, NAN])
    np.testing.assert_array_equal(metrics["grok_censored"], [0, 1, NAN])
    np.testing.assert_allclose(metrics["final_err"], [[0.0, 0.01], [0.0, 0.8], [NAN, NAN]], rtol=1e-6)
    np.testing.assert_allclose(metrics["final_loss"], [[1, 2], [NAN, NAN], [NAN, NAN]])
    np.testing.assert_allclose(metrics["initial_effective_rank"], [0.9, 0.9, 0.6], rtol=1e-6)
    np.testing.assert_allclose(metrics["final_effective_rank"], [0.4, 0.8, 0.6], rtol=1e-6)
    np.testing.assert_array_equal(metrics["final_collapsed_layers"], [1, 0, NAN])
    assert metrics["final_loss"].attrs["long_name"] == "loss at the last checkpoint"
    assert metrics["final_loss"].attrs["units"] == "nat"


def test_a_query_of_runs_that_never_grok_finds_no_step(metrics: xr.Dataset) -> None:
    assert bool(metrics["grok_step"].sel(run="never").isnull())
    steps = metrics["grok_step"].groupby("weight_decay").mean()
    assert steps.sel(weight_decay=1.0) == 10
    assert bool(steps.sel(weight_decay=0.0).isnull())
    assert metrics.sel(run=metrics["grok_censored"] == 1)["run"].values.tolist() == ["never"]
    # What was asked of the errors before: it takes the first step for a run that never groks.
    below = metrics["err"].sel(split="val", run=["groks", "never"]) < GROKKED_BELOW
    assert below.idxmax("step").values.tolist() == [10, 0]


def test_the_threshold_and_the_meaning_of_the_flag_are_attributes(metrics: xr.Dataset) -> None:
    for name in ("grok_step", "grok_censored"):
        attributes = metrics[name].attrs
        assert (attributes["threshold"], attributes["threshold_of"]) == (GROKKED_BELOW, "err") == (0.05, "err")
        assert attributes["threshold_split"] == "val"
    assert metrics["grok_censored"].attrs["flag_meanings"] == "grokked censored"
    assert metrics["grok_censored"].attrs["flag_values"] == [0, 1]
    assert metrics["grok_step"].encoding["dtype"] == np.int32


def test_a_sweep_without_an_error_rate_has_no_step(local_store: Store) -> None:
    only_loss = member(local_store, "a", (0, 10), 0.0, loss=[[3, 2], [4, 3]])
    write_cube(local_store.cube("loss"), [only_loss], {}, facts=RUN_FACTS)
    found = open_results(local_store.cube("loss"))["metrics"].to_dataset()
    assert set(found.data_vars) == {"loss", "final_loss"}


def test_every_fact_is_declared_with_a_formula() -> None:
    assert all(variable.about and variable.long_name for variable in FACTS.values())
