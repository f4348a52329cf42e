"""Studies side by side: runs, settings and labels of all, each under its own study."""

import numpy as np
import pytest
from torch import nn

import specdyn as sd

CHEAP = ("effective_rank",)


def test_runs_of_both_stand_with_the_labels_of_all() -> None:
    a = sd.analyse({"one": nn.Linear(4, 4), "two": nn.Linear(4, 4)}, CHEAP)
    b = sd.analyse({"one": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))}, CHEAP)
    both = sd.compare(a, b, names=["small", "deep"])["layers"].to_dataset()
    assert both["run"].values.tolist() == ["small/one", "small/two", "deep/one"]
    assert both["study"].values.tolist() == ["small", "small", "deep"]
    ranks = both["effective_rank"]
    assert np.isfinite(ranks.sel(run="deep/one", layer="1.weight")).all()
    assert np.isnan(ranks.sel(run="small/one", layer="1.weight")).all()
    np.testing.assert_array_equal(
        ranks.sel(run="small/two", layer="weight"),
        a["layers"].to_dataset()["effective_rank"].sel(run="two", layer="weight"),
    )
    assert sd.table(sd.compare(a, b)).shape[0] == 4


def test_layers_of_one_name_and_another_shape_keep_both_shapes() -> None:
    a, b = (sd.analyse(nn.Linear(width, 4), CHEAP) for width in (3, 5))
    both = sd.compare(a, b)["layers"].to_dataset()
    assert both["columns"].dims == ("run", "layer") and both["columns"].values.ravel().tolist() == [3, 5]
    assert sd.table(sd.compare(a, b))["columns"].tolist() == [3, 5]


def test_what_cannot_be_compared_is_refused() -> None:
    a = sd.analyse(nn.Linear(4, 4), CHEAP)
    with pytest.raises(ValueError, match="two or more"):
        sd.compare(a)
    with pytest.raises(ValueError, match="one for each of the 2 studies"):
        sd.compare(a, a, names=["a"])
    other = a.copy()
    other.attrs["unit"] = "epochs"
    with pytest.raises(ValueError, match="whose steps count the same"):
        sd.compare(a, other)
