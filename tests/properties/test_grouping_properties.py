"""Whatever grid a sweep is: what stands under one line, in one cell or in one row differs in its seed alone."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, QuadMesh
from matplotlib.figure import Figure

from helpers.grids import STEPS, Settings, by_configuration, configuration, cube_of
from specdyn.tasks.figures.configurations import configurations_of, runs_of
from specdyn.tasks.figures.levels import levels_of
from specdyn.tasks.figures.overview import overview
from specdyn.tasks.figures.report import FIGURES
from specdyn.tasks.figures.summary import headings, sweep_table

AXES: dict[str, tuple[Any, ...]] = {
    "weight_decay": (0.0, 0.1, 0.1000000001, 1.0),
    "optimizer": ("adamw", "", "sgd"),
    "nesterov": (False, True),
    "width": (16, 1234567, 1234568),
    "clip_norm": (1e-8, float("nan"), 1.0),
}
"""Values that are near, texts, booleans, and what is not set."""


@st.composite
def grids(draw: st.DrawFn) -> list[Settings]:
    """Runs of some cells of a grid in any order, no two alike; an axis may be missing, or be one value."""
    axes = {
        name: draw(st.lists(st.sampled_from(values), min_size=1, unique_by=repr))
        for name, values in AXES.items()
        if name == "weight_decay" or draw(st.booleans())
    }
    cells = st.fixed_dictionaries(
        {**{name: st.sampled_from(values) for name, values in axes.items()}, "seed": st.integers(0, 3)}
    )
    return draw(st.lists(cells, min_size=1, max_size=14, unique_by=lambda run: (configuration(run), run["seed"])))


@given(grids())
def test_runs_of_one_configuration_differ_in_their_seed_alone(runs: list[Settings]) -> None:
    tree = cube_of(runs, by_configuration(runs))
    grid = configurations_of(runs_of(tree), "weight_decay")
    assert sorted(run for one in grid.configurations for run in one.runs) == list(range(len(runs)))
    settings_of_groups = [{configuration(runs[run]) for run in one.runs} for one in grid.configurations]
    assert all(len(of_group) == 1 for of_group in settings_of_groups)
    assert len(set.union(*settings_of_groups)) == len(grid.configurations)
    seeds = [[runs[run]["seed"] for run in one.runs] for one in grid.configurations]
    assert seeds == [sorted(set(of_group)) for of_group in seeds]
    # What varies is named, nothing else is, and the names tell all configurations apart.
    varied = [name for name in runs[0] if name != "seed" and len({repr(run[name]) for run in runs}) > 1]
    assert set(grid.axes) == set(varied or ["weight_decay"])
    assert len({one.values for one in grid.configurations}) == len(grid.configurations)


@given(grids(), st.booleans())
def test_a_colour_a_dash_and_a_panel_are_one_configuration(runs: list[Settings], dashes: bool) -> None:
    levels = levels_of(cube_of(runs, by_configuration(runs)), "weight_decay", dashes)
    seen = [(level.color, str(level.dash), level.panel) for level in levels]
    said = [(level.line, level.panel) for level in levels]
    assert len(set(seen)) == len(set(said)) == len(levels)
    assert [level.n for level in levels] == [f"n = {len(level.runs)}" for level in levels]


@given(grids())
def test_rows_of_a_table_say_everything_in_which_they_differ(runs: list[Settings]) -> None:
    rows = sweep_table(cube_of(runs, by_configuration(runs)))
    run_id = headings(rows).index("run")
    assert len({row.cells[:run_id] for row in rows}) == len(rows) == len(runs)
    assert len(set(headings(rows))) == len(rows[0].cells)


def compared(tree: xr.DataTree, axis: str) -> Figure:
    return overview([tree], axis)


def drawn() -> dict[str, Callable[[xr.DataTree, str], Figure]]:
    """A figure of each function that draws runs: those that differ in a variable's name alone are drawn alike."""
    runs: list[Settings] = [{"weight_decay": 0.0, "seed": 0}]
    tree = cube_of(runs, by_configuration(runs))
    able = [figure for figure in FIGURES if not figure.missing(tree)]
    by_function = {getattr(figure.draw, "func", figure.draw): figure for figure in able}
    return {**{figure.name: figure.draw for figure in by_function.values()}, "overview": compared}


DRAWN = drawn()


def values_drawn(figure: Figure) -> Iterator[np.ndarray]:
    """The values of every line, band and cell that a figure shows of a cube."""
    for axes in (axes for axes in figure.axes if axes.get_label() != "<colorbar>"):
        for line in axes.lines:
            if list(np.asarray(line.get_xdata())) == list(STEPS):
                yield np.asarray(line.get_ydata())
        for drawn in axes.collections:
            if isinstance(drawn, FillBetweenPolyCollection):
                yield from (path.vertices[:, 1] for path in drawn.get_paths())
            elif isinstance(drawn, QuadMesh):
                yield np.asarray(drawn.get_array())
            elif isinstance(drawn, LineCollection):
                yield from (segment[:, 1] for segment in drawn.get_segments() if len(segment) == len(STEPS))


@pytest.mark.parametrize("name", DRAWN)
def test_no_line_band_or_cell_mixes_configurations(name: str) -> None:
    """All runs of a configuration have one value, and no two configurations the same: a mixture would show."""

    @settings(max_examples=5)
    @given(grids())
    def check(runs: list[Settings]) -> None:
        values = by_configuration(runs)
        figure = DRAWN[name](cube_of(runs, values), "weight_decay")
        shown = list(values_drawn(figure))
        assert shown
        for of_artist in shown:
            assert np.ptp(of_artist) < 1e-12
            assert np.abs(np.array(values) - of_artist.flat[0]).min() < 1e-12

    check()
