"""Shapes by depth and kind, and their rank correlation with what pruning costs: cubes made by hand."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

import specdyn as sd
from reference.views import decomposed
from specdyn.models.nets.matrices import Matrix
from specdyn.tasks.library.accessor import register
from specdyn.tasks.spectra.analysis import LayerView, get_analysis

NAN = math.nan
NAMES = ["embed.weight", "h.0.q.weight", "h.0.in_proj_weight", "h.1.q.weight", "head.weight"]
register()


def cube(alpha: list[float], cost: list[float], rank: list[float] | None = None, **coordinates: object) -> xr.DataTree:
    """One run with one checkpoint at step 10, five layers, and a loss of 2 before pruning; none at step 0."""
    pruned = np.full((1, 5, 2, 2), NAN)
    pruned[0, :, 1, 1] = 2 + np.array(cost)
    shapes = {"power_law_alpha": alpha, "stable_rank": rank or [1.0] * 5}
    layers = xr.Dataset(
        {
            **{
                name: (("run", "layer", "step"), np.array([[NAN, of] for of in values])[None])
                for name, values in shapes.items()
            },
            "layer_pruned_loss": (("run", "layer", "split", "step"), pruned),
        },
        {
            "run": ["a"],
            "layer": NAMES,
            "step": [0, 10],
            "split": ["train", "val"],
            **{name: ("layer", values) for name, values in coordinates.items()},  # type: ignore[dict-item]
        },
    )
    loss = xr.Dataset({"loss": (("run", "split", "step"), np.full((1, 2, 2), 2.0))}, {"run": ["a"], "step": [0, 10]})
    loss = loss.assign_coords(split=["train", "val"])
    return xr.DataTree.from_dict({"/layers": layers, "/metrics": loss})


def test_the_order_of_alphas_is_that_of_costs_or_the_opposite() -> None:
    alpha, cost = [2.0, 3.0, 5.0, 4.0, 6.0], [0.1, 0.2, 0.9, 0.4, 3.0]
    found = sd.predicts_pruning(cube(alpha, cost, [5.0, 4.0, 2.0, 3.0, 1.0]))
    assert found["rho"].sel(run="a", step=10).values[:2].tolist() == pytest.approx([1, -1])
    assert found["layers"].sel(run="a", step=10).values.tolist() == [5, 5, 0]
    assert found["rho"].sel(step=0).isnull().all() and found["rho"].sel(predictor="effective_rank").isnull().all()
    # Ranks 1 2 4 3 5 against 1 2 3 4 5 differ by 0 0 1 -1 0: 1 - 6 * 2 / (5 * 24).
    swapped = sd.predicts_pruning(cube(alpha, [0.1, 0.2, 0.4, 0.9, 3.0]))
    np.testing.assert_allclose(swapped["rho"].sel(run="a", step=10)[0], 0.9)
    assert np.isnan(swapped["rho"].sel(run="a", step=10)[1]), "all stable ranks are equal"


def test_few_layers_are_not_correlated_and_without_pruning_there_is_nothing() -> None:
    few = sd.predicts_pruning(cube([2.0, 3.0, NAN, NAN, 4.0], [0.1, 0.2, 0.3, 0.4, 0.5]))
    assert few["layers"].sel(run="a", step=10)[0] == 3 and few["rho"].sel(run="a", step=10)[0].isnull()
    with pytest.raises(ValueError, match="layer_pruned_loss, which pruning_by_layer measures"):
        sd.predicts_pruning(cube([1.0] * 5, [NAN] * 5))
    with pytest.raises(ValueError, match="no layers in these results"):
        sd.by_depth(xr.DataTree())


def test_rows_say_what_a_layer_is_by_role_kind_or_name() -> None:
    plain = cube([2.0, 3.0, 5.0, 4.0, NAN], [0.1, 0.2, 0.9, 0.4, 3.0]).specdyn.by_depth()
    assert plain["layer"].tolist() == NAMES and plain["step"].tolist() == [10] * 5
    assert plain["kind"].tolist() == [""] * 5 and plain["depth"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(plain["block"], [NAN, 0, 0, 1, NAN])
    np.testing.assert_allclose(plain["importance"], [0.1, 0.2, 0.9, 0.4, 3.0])
    told = cube(
        [1.0] * 5,
        [0.0] * 5,
        role=["", "query", "", "query", ""],
        kind=["embedding", "attention", "attention", "attention", "output"],
        depth=[0, 1, 1, 3, 5],
    )
    frame = told.specdyn.by_depth()
    assert frame["kind"].tolist() == ["embedding", "query", "attention", "query", "output"]
    assert frame["depth"].tolist() == [0, 1, 1, 3, 5]
    assert frame.groupby("kind")["stable_rank"].mean()["query"] == 1.0


def test_joint_projections_have_rows_of_their_own() -> None:
    tree = cube([2.0] * 5, [0.0] * 5)
    ranks = np.full((1, 5, 2, 3), NAN)
    ranks[0, 2, 1] = [3.0, 2.0, 1.0]
    layers = tree["layers"].to_dataset().assign_coords(projection=["query", "key", "value"])
    layers["projection_stable_rank"] = ("run", "layer", "step", "projection"), ranks
    tree["layers"] = xr.DataTree(layers)
    frame = tree.specdyn.by_depth().set_index("layer")
    assert frame.loc["h.0.in_proj_weight[key]", "kind"] == "key" and len(frame) == 8
    assert frame.loc["h.0.in_proj_weight[key]", "stable_rank"] == 2
    assert math.isnan(frame.loc["h.0.in_proj_weight[key]", "importance"])


def test_projections_are_cut_in_three_and_other_layers_are_left_alone() -> None:
    blocks = [torch.diag(torch.tensor(of)) for of in ([2.0, 1.0], [1.0, 1.0], [0.0, 0.0])]
    weights = {"a.in_proj_weight": torch.cat(blocks), "a.out_proj.weight": blocks[0]}
    now = decomposed(weights)
    view = {
        name: LayerView(layer=Matrix(parameter=name), now=now, initial=now, previous=None, final=now)
        for name in weights
    }
    found = get_analysis("projections").compute(view["a.in_proj_weight"])
    np.testing.assert_allclose(found["projection_stable_rank"], [1.25, 2, NAN])
    p = np.array([2 / 3, 1 / 3])
    np.testing.assert_allclose(found["projection_effective_rank"], [np.exp(-(p * np.log(p)).sum()) / 2, 1, NAN])
    assert np.isnan(found["projection_power_law_alpha"]).all(), "fewer than 50 values"
    assert get_analysis("projections").compute(view["a.out_proj.weight"]) == {}
    assert not get_analysis("projections").default


def test_the_depth_of_layers_is_not_the_setting_of_that_name() -> None:
    depths = [0, 1, 2, 3, 4]
    tree = cube([2.0, 3.0, 5.0, 4.0, 6.0], [0.1, 0.2, 0.9, 0.4, 3.0], layer_depth=depths)
    tree["layers"] = tree["layers"].to_dataset().assign_coords(depth=("run", [2]))
    assert sd.by_depth(tree)["depth"].tolist() == depths
