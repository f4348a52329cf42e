"""Whether the edge of updates comes before grokking: ratios made by hand."""

import math

import numpy as np
import pytest
import xarray as xr

import specdyn as sd
from specdyn.tasks.library.accessor import register
from specdyn.tasks.timing.edges import edge_events

NAN = math.nan
STEPS = np.arange(0, 100, 10)
RISES = [NAN, NAN, 1.0, 2.0, 5.0, 4.0, 3.0, 2.0, 1.0, 1.0]
"""Its peak is at 40; half of the rise above 1 is lost at 60."""
register()


def cube(*runs: tuple[int | None, list[float]]) -> xr.DataTree:
    """Runs that grok at a step, or never, with these ratios of the total update."""
    val = [np.where((1000 if at is None else at) <= STEPS, 0.0, 0.9) for at, _ in runs]
    ratios = np.full((len(runs), 10, 3), NAN)
    ratios[:, :, 0] = [of for _, of in runs]
    data = xr.Dataset(
        {
            "err": (("run", "split", "step"), np.stack([np.zeros((len(runs), 10)), val], axis=1)),
            "network_window_edge_ratio": (("run", "step", "portion"), ratios),
        },
        {
            "run": [f"run{i}" for i in range(len(runs))],
            "step": STEPS,
            "split": ["train", "val"],
            "portion": ["total", "gradient", "decay"],
            "status": ("run", ["done"] * len(runs)),
        },
    )
    return xr.DataTree.from_dict({"/metrics": data})


def test_peak_and_fall_before_and_after_grokking() -> None:
    found = cube((90, RISES), (50, RISES), (30, RISES), (None, RISES)).specdyn.edge_lead()
    assert found["event"].values.tolist() == ["peak", "fall"]
    np.testing.assert_array_equal(found["edge_step"], [[40, 60]] * 4)
    np.testing.assert_array_equal(found["lead"], [[50, 30], [10, -10], [-10, -30], [NAN, NAN]])
    np.testing.assert_array_equal(found["before"], [[1, 1], [1, 0], [0, 0], [NAN, NAN]])
    np.testing.assert_allclose(found["chance"], [7 / 8, 3 / 8, 1 / 8, NAN])
    assert found["grok_censored"].values.tolist() == [0, 0, 0, 1]
    assert found["lead"].attrs["long_name"] == "steps from that of the spectral edge to grokking"


def test_an_edge_that_does_not_fall_is_censored_and_one_that_was_not_measured_is_not_known() -> None:
    rising = [NAN, NAN, *range(1, 9)]
    found = cube((90, list(map(float, rising))), (90, [NAN] * 10)).specdyn.edge_lead()
    np.testing.assert_array_equal(found["edge_step"], [[90, NAN], [NAN, NAN]])
    np.testing.assert_array_equal(found["edge_censored"], [[0, 1], [NAN, NAN]])
    assert cube((90, RISES)).specdyn.edge_lead("decay")["lead"].isnull().all()
    assert edge_events(STEPS, np.full(10, 1.0))[1].step == 10, "without any rise all of it is lost at once"


def test_what_was_not_measured_is_refused() -> None:
    tree = cube((90, RISES))
    with pytest.raises(ValueError, match="unknown portion 'gradiant': known are decay, gradient, total"):
        sd.edge_lead(tree, "gradiant")
    tree["metrics"] = xr.DataTree(tree["metrics"].to_dataset().drop_vars("network_window_edge_ratio"))
    with pytest.raises(ValueError, match="no network_window_edge_ratio in these results"):
        sd.edge_lead(tree)
