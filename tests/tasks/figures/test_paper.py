"""The further figures of the paper: what they draw are means over seeds, worked out here without the figures' code."""

import itertools

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure

from helpers.drawings import MATRICES, cube, pairs, tickets
from helpers.golden import RESULTS, difference, golden, picture
from specdyn.tasks.figures.paper import lines, masks
from specdyn.tasks.figures.paper.sizes import effective_ranks_by_size, singular_values_by_size
from specdyn.tasks.figures.performance import errors
from specdyn.tasks.figures.report import FIGURES, ReportFigure


def mesh_values(figure: Figure) -> list[np.ndarray]:
    """The values of each heat map, NaN where there is none."""
    found = [one for axes in figure.axes[:-1] for one in axes.collections if isinstance(one, QuadMesh)]
    return [np.ma.filled(one.get_array(), np.nan) for one in found]


def chosen(data: xr.Dataset, dim: str, **settings: object) -> dict[str, np.ndarray]:
    """Positions along a dimension at which the coordinates have these values."""
    there = np.logical_and.reduce([data[name].values == value for name, value in settings.items()])
    return {dim: np.flatnonzero(there)}


def test_singular_values_by_size_are_means_over_layers_and_seeds() -> None:
    tree = cube(decays=(0.0, 2.0))
    figure = singular_values_by_size(tree)
    values = tree["layers"]["singular_value"].values  # the runs of weight decay 2 first; layers of rank 4, 8, 8
    assert [axes.get_ylabel() for axes in figure.axes[:4:2]] == [
        "2 layers of rank 8\nsingular value",
        "1 layer of rank 4\nsingular value",
    ]
    for axes, layers, runs, size in zip(
        figure.axes, ([1, 2], [1, 2], [0], [0]), ([2, 3], [0, 1], [2, 3], [0, 1]), (8, 8, 4, 4), strict=False
    ):
        (drawn,) = (one for one in axes.collections if isinstance(one, LineCollection))
        expected = values[np.ix_(runs, layers)][..., :size].mean(axis=(0, 1))
        found = np.array([path.vertices[:, 1] for path in reversed(drawn.get_paths())]).T
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_effective_ranks_by_size_are_means_over_layers() -> None:
    tree = cube(decays=(0.0,))
    figure = effective_ranks_by_size(tree)
    ranks = tree["layers"]["effective_rank"].values
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["3 layers", "2 of rank 8", "1 of rank 4"]
    for axes, layers in zip(figure.axes, ([0, 1, 2], [1, 2], [0]), strict=True):
        np.testing.assert_allclose(axes.lines[0].get_ydata(), ranks[:, layers].mean(axis=(0, 1)), rtol=1e-5)


def test_errors_have_a_panel_for_each_split() -> None:
    tree = cube(decays=(0.0, 2.0))
    figure = errors(tree)
    err = tree["metrics"]["err"].values
    for split, axes in enumerate(figure.axes):
        for line, runs in zip(axes.lines, ([2, 3], [0, 1]), strict=True):
            np.testing.assert_allclose(line.get_ydata(), err[runs, split].mean(axis=0), rtol=1e-5)


def test_barriers_of_pruned_networks_by_split_and_by_size() -> None:
    data = pairs()
    figure = lines.barriers_by_split(xr.DataTree(data))
    places = {"within": (0, 50, 1000), "across": (50, 1000)}
    grid = np.array(figure.axes).reshape(2, 2)
    for (row, split), (column, kind) in itertools.product(enumerate(("train", "val")), enumerate(places)):
        for line, kept in zip(grid[row, column].lines, ("all", "top", "bottom"), strict=False):
            barrier = data["barrier_loss"].sel(split=split, kept=kept)
            expected = [float(barrier[chosen(data, "pair", kind=kind, split_step=at)].mean()) for at in places[kind]]
            np.testing.assert_allclose(line.get_ydata(), expected)
    figure = lines.barriers_by_size(xr.DataTree(data))
    top = data["barrier_loss"].sel(split="train", kept="top")
    expected = [float(top[chosen(data, "pair", direction="top", size=size)].mean()) for size in (0.0, 0.5)]
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata(), expected)


def test_agreement_of_ends_by_rank_and_by_layer() -> None:
    data = pairs()
    found = mesh_values(lines.ends_by_split(xr.DataTree(data)))
    assert [one.shape for one in found] == [(4, 3), (6, 3), (6, 3), (4, 2), (6, 2), (6, 2)]
    expected = data["agreement"].values[chosen(data, "pair", kind="across", split_step=1000)["pair"], 1].mean(axis=0)
    np.testing.assert_allclose(found[4][:, 1], expected)
    (by_size, other) = mesh_values(lines.end_scores_by_size(xr.DataTree(data)))
    expected = data["agreement_score"].values[chosen(data, "pair", direction="random", size=0.5)["pair"]].mean(axis=0)
    np.testing.assert_allclose(by_size[:, 1], expected)
    assert other.shape == (len(MATRICES), 2)


def test_tickets_of_the_smallest_density_beside_the_dense_run() -> None:
    data = tickets()
    found = mesh_values(masks.dense_agreement(xr.DataTree(data)))
    of_random = data["agreement_dense"].values[chosen(data, "ticket", density=0.1, mask="random")["ticket"]]
    np.testing.assert_allclose(found[4], of_random[:, :, 1].mean(axis=0).T)
    (scores, _) = mesh_values(masks.dense_agreement_scores(xr.DataTree(data)))
    of_magnitude = data["agreement_dense"].values[chosen(data, "ticket", density=0.1, mask="magnitude")["ticket"]]
    np.testing.assert_allclose(scores, of_magnitude.mean(axis=(0, -1)).T)
    (ends, _) = mesh_values(masks.mask_agreement(xr.DataTree(data)))
    of_masks = data["agreement_mask"].values[chosen(data, "ticket", density=0.1, mask="magnitude")["ticket"]]
    np.testing.assert_allclose(ends, of_masks.mean(axis=0))
    bars = masks.mask_agreement_scores(xr.DataTree(data)).axes[0].patches
    np.testing.assert_allclose([bar.get_height() for bar in bars[: len(MATRICES)]], of_masks.mean(axis=(0, 2)))


@pytest.mark.parametrize("name", [figure.name for figure in FIGURES])
def test_every_figure_fits_the_page_and_is_of_one_kind_of_results(name: str) -> None:
    (figure,) = [one for one in FIGURES if one.name == name]
    drawn = figure.draw(RESULTS[figure.rows](), "weight_decay")
    width, height = drawn.get_size_inches()
    assert 3.2 < width <= 5.5 and height < 9, "a page of text is 5.5 inches wide and 9 high"
    assert all(figure.missing(make()) for rows, make in RESULTS.items() if rows != figure.rows)
    assert not figure.missing(RESULTS[figure.rows]())


ROUNDING = 6.0
"""Of the 256 steps of a colour: lines are smoothed, and the pictures that are kept have 256 colours."""


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_looks_as_it_did(figure: ReportFigure) -> None:
    drawn = picture(figure)
    assert difference(drawn, golden(figure.name)) < ROUNDING, "`python -m helpers.golden` keeps the new pictures"


def test_another_figure_looks_different() -> None:
    pictures = {figure.name: golden(figure.name) for figure in FIGURES}
    for one, other in itertools.combinations(pictures, 2):
        assert difference(pictures[one], pictures[other]) > 2 * ROUNDING, f"{one} and {other}"
