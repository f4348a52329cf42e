"""Figures of pairs and tickets, made by hand: points are means over seeds of one setting, against values by hand."""

import itertools
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from specdyn.tasks.figures.connectivity import by_size, by_split
from specdyn.tasks.figures.tickets import by_density

STRING = np.dtypes.StringDType()


def columns(dim: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The coordinates of a dimension from what each of its items is."""
    found = {name: [row[name] for row in rows] for name in rows[0]}
    return {n: (dim, np.array(v, STRING if isinstance(v[0], str) else None)) for n, v in found.items()}


def pairs(decays: tuple[float, ...] = (1.0,), across_at: tuple[int, ...] = (50, 1000)) -> xr.Dataset:
    """Pairs of three orders of two trunks at three steps, pairs of the trunks at two of them, and pairs after noise."""
    same: dict[str, Any] = {"size": 0.0, "direction": "none"}
    rows: list[dict[str, Any]] = []
    for decay, step in itertools.product(decays, (0, 50, 1000)):
        for trunk, (a, b) in itertools.product((0, 1), itertools.combinations((3, 4, 5), 2)):
            ends = {"trunk_a": trunk, "trunk_b": trunk, "order_a": a, "order_b": b}
            rows.append({"kind": "within", **ends, "split_step": step, "weight_decay": decay, **same})
        for order in (3, 4, 5) if step in across_at else ():
            ends = {"trunk_a": 0, "trunk_b": 1, "order_a": order, "order_b": order}
            rows.append({"kind": "across", **ends, "split_step": step, "weight_decay": decay, **same})
    for decay, trunk, size, direction in itertools.product(decays, (0, 1), (0.0, 0.5), ("random", "top")):
        ends = {"trunk_a": trunk, "trunk_b": trunk, "order_a": 3, "order_b": 4}
        noise = {"size": size, "direction": direction}
        rows.append({"kind": "perturbed", **ends, "split_step": 1000, "weight_decay": decay, **noise})
    for number, row in enumerate(rows):
        row |= {"run_a": f"a{number}", "run_b": f"b{number}"}
    draw = np.random.default_rng(0)
    barrier = draw.uniform(size=(len(rows), 2, 1))
    data = {
        "barrier_loss": (("pair", "split", "kept"), barrier),
        "barrier_matched_loss": (("pair", "split"), barrier[..., 0] / 2),
        "agreement_score": (("pair", "layer"), draw.uniform(size=(len(rows), 2))),
        "agreement_null": (("pair", "layer"), np.full((len(rows), 2), 0.1)),
        "loss": (("pair", "split"), barrier[..., 0], {"long_name": "loss"}),
    }
    labels = {"split": np.array(["train", "val"], STRING), "kept": np.array(["all"], STRING)}
    return xr.Dataset(data, {"pair": [f"p{number}" for number in range(len(rows))], **columns("pair", rows), **labels})


def line(axes: Axes, label: str) -> Line2D:
    (found,) = [drawn for drawn in axes.lines if drawn.get_label() == label]
    return found


def mean(data: xr.Dataset, values: xr.DataArray, **chosen: Any) -> float:
    there = np.logical_and.reduce([data[name].values == value for name, value in chosen.items()])
    return float(values.values[there].mean())


def test_points_by_split_are_means_over_the_pairs_of_a_kind() -> None:
    data = pairs()
    figure = by_split(data, "loss")
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
    axes = by_split(data, "loss").axes[0]
    for decay in (0, 2):
        expected = [mean(data, train, kind="within", split_step=step, weight_decay=decay) for step in (0, 50, 1000)]
        drawn = line(axes, f"one trunk, weight decay {decay}, n = 6")
        np.testing.assert_allclose(drawn.get_ydata(), expected)
    markers = [line(axes, f"one trunk, weight decay {decay}, n = 6").get_marker() for decay in (0, 2)]
    assert markers == ["o", "s"]
    noisy = by_size(data, "loss").axes[0]
    val = data["barrier_loss"].sel(split="val", kept="all")
    chosen: dict[str, Any] = {"kind": "perturbed", "direction": "top", "weight_decay": 2.0}
    drawn = line(noisy, "top directions, weight decay 2, n = 2")
    np.testing.assert_allclose(drawn.get_ydata(), [mean(data, val, size=size, **chosen) for size in (0.0, 0.5)])


def test_points_by_density_are_means_over_the_tickets_of_a_mask() -> None:
    rows = [
        {"trunk": trunk, "order": order, "rewind_step": rewind, "density": density, "mask": mask}
        for trunk, order, rewind, density, mask in itertools.product(
            (0, 1, 2), (5, 6), (10, 20), (0.1, 0.5), ("magnitude", "random")
        )
    ]
    draw, count = np.random.default_rng(0), len(rows)
    data = xr.Dataset(
        {
            "loss": (("ticket", "step", "split"), draw.uniform(0.1, 1, (count, 2, 2)), {"long_name": "loss"}),
            "agreement_dense_score": (("ticket", "step", "layer"), draw.uniform(size=(count, 2, 2))),
            "agreement_mask_score": (("ticket", "layer"), draw.uniform(size=(count, 2))),
            "agreement_null": (("ticket", "layer"), np.full((count, 2), 0.1)),
        },
        {"ticket": range(count), **columns("ticket", rows), "split": np.array(["train", "val"], STRING)},
    )
    figure = by_density(data, "loss")
    last = data["loss"].isel(step=-1).sel(split="val")
    for mask, rewind in itertools.product(("magnitude", "random"), (10, 20)):
        drawn = line(figure.axes[1], f"{mask}, rewind step {rewind}, n = 6")
        expected = [mean(data, last, mask=mask, rewind_step=rewind, density=density) for density in (0.1, 0.5)]
        np.testing.assert_allclose(drawn.get_ydata(), expected)
        assert list(drawn.get_xdata()) == [0.1, 0.5]  # type: ignore[arg-type]
