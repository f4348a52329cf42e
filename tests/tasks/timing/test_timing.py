"""Times of memorising, grokking and compression of cubes made by hand, every answer in closed form."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

import specdyn as sd
from specdyn.tasks.library.accessor import register
from specdyn.tasks.timing.compression import compression
from specdyn.tasks.timing.crossings import NEVER, UNKNOWN, Crossing, first_below, relative_lag

NAN = math.nan
T = np.arange(101.0)
FALLING = np.maximum(1 - T / 160, 0.6)
"""Falls by .4 in 64 steps: half is done at 32, and 1.05 of the floor, .63, is passed between 59 and 60."""
VAL = np.select([T < 50, T < 60], [0.9, 0.4], 0.01)
TRAIN = np.where(T < 10, 0.5, 0.0)
register()


def cube(
    val: Sequence[np.ndarray], ranks: Sequence[np.ndarray], train: np.ndarray = TRAIN, steps: np.ndarray = T
) -> xr.DataTree:
    """Runs that are done, of validation errors (T,) and ranks (layers, T)."""
    runs = {
        "run": [f"run{i}" for i in range(len(val))],
        "step": steps.astype(int),
        "status": ("run", ["done"] * len(val)),
    }
    errors = np.stack([[np.where(np.isnan(of), NAN, train), of] for of in val])
    err = xr.Dataset({"err": (("run", "split", "step"), errors)}, {**runs, "split": ["train", "val"]})
    shape = np.stack([np.atleast_2d(of) for of in ranks])
    names = [f"layer{i}" for i in range(shape.shape[1])]
    flags = np.ones(shape.shape, np.int8)
    layers = xr.Dataset(
        {
            "effective_rank": (("run", "layer", "step"), shape),
            "collapse": (("run", "layer", "step"), flags, {"flag_values": [0, 1, 2]}),
        },
        {**runs, "layer": names},
    )
    return xr.DataTree.from_dict({"/metrics": err, "/layers": layers})


def test_both_definitions_of_a_run_that_groks_and_settles() -> None:
    found = cube([VAL], [FALLING]).specdyn.timing().isel(run=0)
    assert [float(found[name]) for name in ("mem_step", "mem_after", "mem_censored")] == [10, 9, 0]
    np.testing.assert_allclose([found["fall"], found["floor"], found["plateau"]], [0.4, 0.6, 1])
    half, settled = found.sel(definition="half"), found.sel(definition="settled")
    assert [float(half[name]) for name in ("grok_step", "grok_after", "compress_step", "compress_after")] == [
        *(50, 49),
        *(32, 31),
    ]
    assert [float(settled[name]) for name in ("grok_step", "grok_after", "compress_step", "compress_after")] == [
        *(60, 59),
        *(60, 59),
    ]
    np.testing.assert_allclose(
        [half["lag"], half["lag_least"], half["lag_most"]], [32 / 50 - 1, 31 / 50 - 1, 32 / 49 - 1]
    )
    np.testing.assert_allclose(
        [settled["lag"], settled["lag_least"], settled["lag_most"]], [0, 59 / 60 - 1, 60 / 59 - 1]
    )
    np.testing.assert_allclose([half["fall_share"], settled["fall_share"]], [50 / 64, 60 / 64])
    np.testing.assert_allclose([half["excess"], settled["excess"]], [0.6875 / 0.6, 0.625 / 0.6])
    assert not found["compress_censored"].any() and not found["grok_censored"].any()


def test_what_does_not_happen_is_censored_and_what_was_not_measured_is_not_known() -> None:
    never, gap = np.full(101, 0.9), np.where(T == 5, NAN, VAL)
    found = cube([never, gap], [1 - T / 200, np.where(T == 5, NAN, FALLING)]).specdyn
    # A finished run of other steps has a gap there; one that still runs may be measured there later.
    times = found.timing()
    first = times.isel(run=0)
    assert first["grok_censored"].values.tolist() == [1, 1] and first["grok_step"].isnull().all()
    assert float(first["plateau"]) == 0, "it still falls at the end"
    assert first["compress_censored"].values.tolist() == [0, 1] and float(first["compress_step"][0]) == 50
    assert first["lag"].isnull().all()
    assert times.isel(run=1)["grok_step"].values.tolist() == [50, 60]
    running = cube([gap], [np.where(T == 5, NAN, FALLING)])
    for group in ("metrics", "layers"):
        running[group] = xr.DataTree(running[group].to_dataset().assign_coords(status=("run", ["partial"])))
    unknown = running.specdyn.timing().isel(run=0)
    assert unknown[["grok_step", "grok_censored", "compress_censored", "lag", "plateau"]].to_array().isnull().all()


def test_layers_alone_and_without_collapsed_ones() -> None:
    tree = cube([VAL], [np.stack([FALLING, np.ones(101)])])
    by_layer = tree.specdyn.timing(by_layer=True).isel(run=0)
    assert by_layer["compress_step"].sel(layer="layer0").values.tolist() == [32, 60]
    assert by_layer["compress_censored"].sel(layer="layer1").values.tolist() == [1, 1], "it does not fall"
    assert by_layer["grok_step"].sel(layer="layer1").values.tolist() == [50, 60]
    np.testing.assert_allclose(tree.specdyn.timing()["fall"], [0.2], atol=1e-12)
    tree["layers"]["collapse"].values[0, 1, 100] = 2
    np.testing.assert_allclose(tree.specdyn.timing()["fall"], [0.4])
    assert tree.specdyn.timing(by_layer=True)["fall"].sel(layer="layer1").isnull().all()


@pytest.mark.parametrize(
    ("ranks", "plateau", "settled"),
    [
        (FALLING, 1, Crossing(60, 59, 0)),
        (np.where(T < 90, FALLING, 0.6 + 0.03 * (T % 2)), 1, Crossing(57, 56, 0)),  # spans .03, 5 % of .614 is more
        (np.where(T < 90, FALLING, 0.6 + 0.04 * (T % 2)), 0, NEVER),
        (np.where(T == 85, 0.5, FALLING), 0, NEVER),  # it was lower before: it has not settled
        (np.ones(101), 1, NEVER),
    ],
)
def test_a_plateau_is_flat_and_lowest(ranks: np.ndarray, plateau: float, settled: Crossing) -> None:
    found = compression(T, ranks)
    assert (found.plateau, found.settled) == (plateau, settled)


def test_few_checkpoints_do_not_say_whether_a_run_has_settled() -> None:
    steps = np.arange(0.0, 101, 10)
    found = compression(steps, FALLING[::10])
    assert math.isnan(found.plateau) and found.settled == UNKNOWN and found.half == Crossing(40, 30, 0)
    assert compression(np.empty(0), np.empty(0)).half == UNKNOWN


def test_an_interval_has_what_the_grid_allows() -> None:
    assert first_below(T, FALLING, 0.8) == Crossing(33, 32, 0)
    assert math.isnan(first_below(T, FALLING, 2).after), "below from the start: nothing says since when"
    lag = relative_lag(Crossing(40, 30, 0), Crossing(50, 0, 0))
    assert lag == pytest.approx((-0.2, -0.4, math.inf))
    for event, reference in (
        (NEVER, Crossing(50, 40, 0)),
        (Crossing(50, 40, 0), UNKNOWN),
        (NEVER, Crossing(0, NAN, 0)),
    ):
        assert all(map(math.isnan, relative_lag(event, reference)))


def test_what_has_no_times_is_refused() -> None:
    tree = cube([VAL], [FALLING])
    with pytest.raises(ValueError, match="no effective_rank in these results: expected a whole cube"):
        sd.timing(xr.DataTree.from_dict({"/metrics": tree["metrics"].to_dataset()}))
    with pytest.raises(ValueError, match="expected a whole cube"):
        tree["metrics"].to_dataset().specdyn.timing()
    with pytest.raises(ValueError, match="memorised=0 is not allowed"):
        sd.timing(tree, memorised=0)
