"""Grids of more than weight decay and seed: how runs are grouped, drawn and tabled, against means taken by hand."""

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from helpers.grids import cube_of
from specdyn.storage.schema import PROVENANCE
from specdyn.tasks.figures.configurations import configurations_of, runs_of
from specdyn.tasks.figures.heatmaps import agreement
from specdyn.tasks.figures.levels import levels_of
from specdyn.tasks.figures.overview import overview
from specdyn.tasks.figures.performance import performance
from specdyn.tasks.figures.ranks import effective_ranks
from specdyn.tasks.figures.spectra import singular_values
from specdyn.tasks.figures.summary import markdown_table, sweep_table

NAN = float("nan")
OPTIMIZERS = ("adamw", "sgd")
TWO: list[dict[str, Any]] = [
    {"weight_decay": decay, "optimizer": optimizer, "seed": seed}
    for seed, decay, optimizer in itertools.product((2, 0, 1), (0.0, 1.0), OPTIMIZERS)
]
THREE = [{**run, "learning_rate": rate} for run in TWO for rate in (1e-3, 1e-2)]
FIVE_RATES = [{**run, "learning_rate": rate} for run in TWO for rate in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)]


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.9, shape)


def mean_of(values: np.ndarray, runs: list[dict[str, Any]], **chosen: Any) -> np.ndarray:
    """The mean over the runs with these settings, of values that begin with the runs."""
    there = [place for place, run in enumerate(runs) if chosen.items() <= run.items()]
    assert len(there) == 3
    return np.asarray(values[there].mean(axis=0))


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_performance_has_a_row_for_each_optimizer_and_never_averages_over_them() -> None:
    tree = cube_of(TWO, noise)
    figure = performance(tree)
    assert [axes.get_title("left") for axes in figure.axes] == [
        f"optimizer {one}" for one in ("adamw",) * 2 + ("sgd",) * 2
    ]
    err = tree["metrics"]["err"].values
    for axes, optimizer in zip(figure.axes[1::2], OPTIMIZERS, strict=True):
        for place, (decay, split) in enumerate(itertools.product((0.0, 1.0), (0, 1))):
            expected = mean_of(err, TWO, weight_decay=decay, optimizer=optimizer)[split]
            np.testing.assert_allclose(axes.lines[place].get_ydata(), expected)
    assert legend(figure)[:2] == ["weight decay 0, n = 3", "weight decay 1, n = 3"]
    assert figure.get_suptitle() == "Loss and error by weight decay and optimizer"


def test_effective_ranks_have_a_colour_for_the_first_axis_and_a_dash_for_the_second() -> None:
    tree = cube_of(TWO, noise)
    figure = effective_ranks(tree)
    ranks = tree["layers"]["effective_rank"].values
    lines = figure.axes[1].lines
    for line, (decay, optimizer) in zip(lines, itertools.product((0.0, 1.0), OPTIMIZERS), strict=True):
        np.testing.assert_allclose(line.get_ydata(), mean_of(ranks, TWO, weight_decay=decay, optimizer=optimizer)[0])
    assert [lines[place].get_color() for place in (0, 2)] == [lines[place].get_color() for place in (1, 3)]
    assert lines[0].get_color() != lines[2].get_color()
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "--"]
    assert legend(figure)[1] == "weight decay 0, optimizer sgd, n = 3"


def test_a_third_axis_is_a_row_with_the_mean_over_all_layers_first() -> None:
    tree = cube_of(THREE, noise)
    figure = effective_ranks(tree)
    assert [axes.get_title("left") for axes in figure.axes[::3]] == [
        "optimizer adamw\nmean over 2 layers",
        "optimizer sgd\nmean over 2 layers",
    ]
    ranks = tree["layers"]["effective_rank"].values.mean(axis=1)
    chosen = itertools.product(OPTIMIZERS, (0.0, 1.0), (1e-3, 1e-2))
    lines = [line for axes in figure.axes[::3] for line in axes.lines]
    for line, (optimizer, decay, rate) in zip(lines, chosen, strict=True):
        expected = mean_of(ranks, THREE, optimizer=optimizer, weight_decay=decay, learning_rate=rate)
        np.testing.assert_allclose(line.get_ydata(), expected)


def test_an_axis_of_more_values_than_there_are_dashes_becomes_panels() -> None:
    levels = levels_of(cube_of(FIVE_RATES, noise), "weight_decay", dashes=True)
    assert levels[0].line == "weight decay 0, optimizer adamw"
    assert [level.panel for level in levels[::2]][:5] == [
        f"learning rate {r}" for r in ("0.001", "0.003", "0.01", "0.03", "0.1")
    ]


def test_heat_maps_have_a_row_for_each_configuration() -> None:
    tree = cube_of(TWO, noise)
    figure = agreement(tree)
    meshes = [c for axes in figure.axes[:-1] for c in axes.collections if isinstance(c, QuadMesh)]
    values = tree["layers"]["agreement"].values
    for mesh, (decay, optimizer) in zip(meshes[::2], itertools.product((0.0, 1.0), OPTIMIZERS), strict=True):
        expected = mean_of(values, TWO, weight_decay=decay, optimizer=optimizer)[0].T
        np.testing.assert_allclose(np.ma.getdata(mesh.get_array()), expected)
    assert figure.axes[2].get_ylabel() == "weight decay 0\noptimizer sgd,\nn = 3\nrank (1 = largest)"


def test_spectra_show_the_first_seed_of_each_configuration() -> None:
    tree = cube_of(TWO, noise)
    figure = singular_values(tree)
    first = [TWO.index({"weight_decay": 0.0, "optimizer": one, "seed": 0}) for one in OPTIMIZERS]
    for axes, run in zip(figure.axes, first, strict=False):
        (drawn,) = axes.collections
        largest = drawn.get_segments()[-1][:, 1]  # type: ignore[attr-defined]
        np.testing.assert_allclose(largest, tree["layers"]["singular_value"].values[run, 0, :, 0])
    assert [axes.get_title("left") for axes in figure.axes[:2]] == [
        "weight decay 0\noptimizer adamw",
        "weight decay 0\noptimizer sgd",
    ]


def test_sweeps_side_by_side_have_panels_for_what_lines_cannot_say() -> None:
    figure = overview([cube_of(TWO, noise), cube_of(FIVE_RATES, noise)])
    assert len(figure.axes) == 1 + 5
    assert [axes.get_title("left") for axes in figure.axes[:2]] == ["a sweep", "a sweep\nlearning rate 0.001"]
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert texts[1] == "weight decay 0, optimizer sgd, n = 3"


def test_one_run_is_named_by_the_axis_that_was_asked_for() -> None:
    (level,) = levels_of(cube_of(TWO[:1], noise), "weight_decay", dashes=True)
    assert (level.line, level.panel, level.n) == ("weight decay 0", "", "n = 1")
    figure = effective_ranks(cube_of(TWO[:1], noise))
    assert len(figure.axes) == 3
    assert legend(figure) == ["weight decay 0, n = 1"]


def test_an_axis_that_does_not_vary_is_not_named() -> None:
    runs = [{**run, "weight_decay": 0.5} for run in TWO[:2]]
    assert [level.line for level in levels_of(cube_of(runs, noise), "weight_decay")] == [
        "optimizer adamw",
        "optimizer sgd",
    ]


def test_the_table_has_a_column_for_every_setting_that_varies() -> None:
    heading, _, *rows = markdown_table(sweep_table(cube_of(THREE, noise))).splitlines()
    assert heading.startswith("| weight decay | learning rate | optimizer | seed | run | train error (%) |")
    assert [row.split("|")[1:5] for row in rows[2:5]] == [
        [" 0 ", " 0.001 ", " adamw ", " 2 "],
        [" 0 ", " 0.001 ", " sgd ", " 0 "],
        [" 0 ", " 0.001 ", " sgd ", " 1 "],
    ]
    assert markdown_table(sweep_table(cube_of(TWO[:1], noise))).startswith("| weight decay | seed | run |")


@pytest.mark.parametrize("seed", [{"seed": 0}, {"seed": NAN}, {}], ids=["seed", "not set", "no seeds"])
def test_two_runs_that_do_not_differ_are_refused_and_not_averaged(seed: dict[str, Any]) -> None:
    tree = cube_of(
        [{"weight_decay": 1.0, **seed}, {"weight_decay": 0.0, "seed": 5}, {"weight_decay": 1.0, **seed}], noise
    )
    if not seed:
        tree = tree.map_over_datasets(lambda data: data.drop_vars("seed", errors="ignore"))
    for draw in (performance, effective_ranks, agreement, sweep_table):
        with pytest.raises(
            ValueError, match=r"runs run0 and run2 have the same settings.*: nothing distinguishes them"
        ):
            draw(tree)


def test_what_a_run_was_trained_on_is_no_axis() -> None:
    runs = runs_of(cube_of(TWO, noise))
    places = [f"machine {place}" for place in range(len(TWO))]
    marked = runs.assign_coords(computed_on=("run", places, {"role": PROVENANCE}))
    assert configurations_of(marked, "weight_decay") == configurations_of(runs, "weight_decay")
