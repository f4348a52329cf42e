"""Figures of pairs and tickets, made by hand: points are means over seeds of one setting, against values by hand."""

import itertools
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from helpers.drawings import pairs, tickets
from specdyn.tasks.figures.connectivity import by_size, by_split
from specdyn.tasks.figures.tickets import by_density


def line(axes: Axes, label: str) -> Line2D:
    (found,) = [drawn for drawn in axes.lines if drawn.get_label() == label]
    return found


def mean(data: xr.Dataset, values: xr.DataArray, **chosen: Any) -> float:
    there = np.logical_and.reduce([data[name].values == value for name, value in chosen.items()])
    return float(values.values[there].mean())


def test_points_by_split_are_means_over_the_pairs_of_a_kind() -> None:
    data = pairs()
    figure = by_split(xr.DataTree(data))
    val = data["barrier_loss"].sel(split="val", kept="all")
    within = line(figure.axes[1], "one trunk, n = 6")
    expected = [mean(data, val, kind="within", split_step=step) for step in (0, 50, 1000)]
    np.testing.assert_allclose(within.get_ydata(), expected)
    # Pairs of two trunks that begin at the second step lie over the second step.
    across = line(figure.axes[1], "two trunks, n = 3")
    assert (list(within.get_xdata()), list(across.get_xdata())) == ([0, 1, 2], [1, 2])  # type: ignore[arg-type]
    np.testing.assert_allclose(
        across.get_ydata(), [mean(data, val, kind="across", split_step=step) for step in (50, 1000)]
    )
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["0", "50", "1000"]


def test_pairs_of_two_weight_decays_are_two_lines() -> None:
    data = pairs(decays=(0.0, 2.0))
    train = data["barrier_loss"].sel(split="train", kept="all")
    axes = by_split(xr.DataTree(data)).axes[0]
    for decay in (0, 2):
        expected = [mean(data, train, kind="within", split_step=step, weight_decay=decay) for step in (0, 50, 1000)]
        drawn = line(axes, f"one trunk, weight decay {decay}, n = 6")
        np.testing.assert_allclose(drawn.get_ydata(), expected)
    markers = [line(axes, f"one trunk, weight decay {decay}, n = 6").get_marker() for decay in (0, 2)]
    assert markers == ["o", "s"]
    noisy = by_size(xr.DataTree(data)).axes[0]
    val = data["barrier_loss"].sel(split="val", kept="all")
    chosen: dict[str, Any] = {"kind": "perturbed", "direction": "top", "weight_decay": 2.0}
    drawn = line(noisy, "top directions, weight decay 2, n = 2")
    np.testing.assert_allclose(drawn.get_ydata(), [mean(data, val, size=size, **chosen) for size in (0.0, 0.5)])


def test_points_by_density_are_means_over_the_tickets_of_a_mask() -> None:
    data = tickets()
    figure = by_density(xr.DataTree(data))
    last = data["loss"].isel(step=-1).sel(split="val")
    for mask, rewind in itertools.product(("magnitude", "random"), (10, 20)):
        drawn = line(figure.axes[1], f"{mask}, rewind step {rewind}, n = 6")
        expected = [mean(data, last, mask=mask, rewind_step=rewind, density=density) for density in (0.1, 0.5)]
        np.testing.assert_allclose(drawn.get_ydata(), expected)
        assert list(drawn.get_xdata()) == [0.1, 0.5]  # type: ignore[arg-type]
