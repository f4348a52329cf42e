"""The figure of any variable: its lines are the values of the cube."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from matplotlib.text import Text
from torch import nn

import specdyn as sd
from helpers.drawings import cube, pairs, tickets
from specdyn.tasks.figures.overview import overview
from specdyn.tasks.figures.report import drawn
from specdyn.tasks.figures.style import to_png, to_svg
from specdyn.tasks.figures.variable import plot_variable


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    store = str(tmp_path_factory.mktemp("variable") / "store")
    return sd.run("modular_addition", "smoke", store=store, weight_decay=[0.0, 1.0], seed=[0, 1])


def test_lines_are_means_over_the_seeds_of_each_configuration(tree: xr.DataTree) -> None:
    figure = plot_variable(tree, "stable_rank")
    ranks = tree["layers"].to_dataset()["stable_rank"]
    assert len(figure.axes) == ranks.sizes["layer"]
    for axes, layer in zip(figure.axes, ranks["layer"].values, strict=True):
        for line, decay in zip(axes.get_lines(), (0.0, 1.0), strict=True):
            expected = ranks.sel(layer=layer)[(ranks["weight_decay"] == decay).values].mean("run")
            np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)


def test_another_axis_and_chosen_labels(tree: xr.DataTree) -> None:
    figure = plot_variable(tree, "singular_value", along="rank", at={"layer": "decoder.weight", "step": "0"}, log="y")
    (axes,) = figure.axes
    values = tree["layers"].to_dataset()["singular_value"].sel(layer="decoder.weight", step=0)
    first = values[(values["weight_decay"] == 0).values]
    expected = np.exp(np.log(first).mean("run").dropna("rank"))
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), expected, rtol=1e-5)
    assert axes.get_yscale() == "log" and "step 0" in figure.get_suptitle()


def test_a_dollar_sign_in_a_name_begins_no_formula(tree: xr.DataTree) -> None:
    r"""Two of them around a wrong formula; ticks of the logarithmic axis stay powers."""
    name = r"a$\frac{x$b"
    layers = tree["layers"].to_dataset()[["stable_rank"]].isel(layer=[0])
    renamed = xr.DataTree.from_dict({"/layers": layers.assign_coords(layer=[name])})
    figure = plot_variable(renamed, "stable_rank", log="y")
    assert len(to_png(figure)) > 1000
    shown = {text.get_text(): text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text()}
    assert not shown[name]
    assert all(powers for text, powers in shown.items() if text != name)


def test_every_variable_can_be_drawn(tree: xr.DataTree) -> None:
    few = xr.DataTree.from_dict(
        {
            node.path: node.to_dataset(inherit=False).isel(
                run=[0, 2],
                layer=[0, -1],
                missing_dims="ignore",  # of two settings, and panels beside one another
            )
            for node in tree.subtree
        }
    )
    count = 0
    for node in few.subtree:
        for name, array in node.to_dataset(inherit=False).data_vars.items():
            if "run" in array.dims and array.dtype.kind in "fiub" and node.path != "/runs":
                assert plot_variable(few, str(name)).axes
                count += 1
    assert count > 90


@pytest.mark.parametrize("made", [pairs, tickets])
def test_every_variable_of_lines_and_tickets_can_be_drawn(made: Callable[[], xr.Dataset]) -> None:
    data = made()
    for name in data.data_vars:
        figure = plot_variable(xr.DataTree(data), str(name))
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert len(labels) == len(set(labels)) and not any("trunk" in one or "order" in one for one in labels)


def test_where_nothing_has_values_yet_that_is_said() -> None:
    tree = cube().map_over_datasets(lambda data: data.isel(run=[]) if "run" in data.dims else data)
    for draw in (lambda: plot_variable(tree, "gini"), lambda: overview([tree])):
        with pytest.raises(ValueError, match=r"no run of .* has values yet"):
            draw()
    assert list(drawn(tree)) == []


def test_models_in_memory_are_drawn_and_files_are_the_same_each_time() -> None:
    tree = sd.analyse({"a": nn.Linear(6, 5), "b": nn.Linear(6, 5)}, ["spectrum", "effective_rank"])
    for form in (to_png, to_svg):
        assert form(plot_variable(tree, "singular_value", along="rank")) == form(
            plot_variable(tree, "singular_value", along="rank")
        )


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"name": "stable_rnk"}, "unknown variable 'stable_rnk': did you mean 'stable_rank'"),
        ({"name": "stable_rank", "along": "rank"}, "unknown dimension of stable_rank 'rank'"),
        ({"name": "stable_rank", "at": {"layer": "none"}}, "unknown label of layer 'none'"),
        ({"name": "stable_rank", "log": "z"}, "log"),
        ({"name": "stable_rank", "axis": "width"}, "axis='width'"),
    ],
)
def test_what_is_not_known_is_named(wanted: dict[str, object], says: str, tree: xr.DataTree) -> None:
    with pytest.raises(ValueError, match=says):
        plot_variable(tree, **wanted)  # type: ignore[arg-type]
