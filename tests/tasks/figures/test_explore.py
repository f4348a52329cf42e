"""The pictures of the exploring app, and the app itself as a script: what they show is what the cube has."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import specdyn as sd
from helpers.branched import carry_out, graph_in
from helpers.servers import S3Server
from specdyn.flows.cli.explore import notebook
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.query import measured_runs
from specdyn.tasks.figures.explore import views
from specdyn.tasks.figures.style import to_png

STUDY = "modular_addition-smoke"
needs_marimo = pytest.mark.skipif(
    importlib.util.find_spec("marimo") is None, reason="marimo is not installed: pip install 'specdyn[explore]'"
)


def iter_offered(tree: xr.DataTree) -> Iterator[tuple[str, str]]:
    """Every group and variable that the app offers."""
    return ((group, name) for group, names in views.offered(tree).items() for name in names)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = str(tmp_path_factory.mktemp("explore") / "store")
    sd.run("modular_addition", "smoke", store=store, weight_decay=[0.0, 1.0], seed=[0, 1])
    return store


@pytest.fixture(scope="module")
def tree(store: str) -> xr.DataTree:
    return sd.open(store, STUDY)


def test_what_is_shown_first_and_how_runs_are_called(tree: xr.DataTree) -> None:
    offered = views.offered(tree)
    assert next(iter(offered)) == "layers" and offered["layers"][0] == "effective_rank"
    assert "runs" not in offered and "singular_value" in offered["layers"]
    ids = tree["layers"].to_dataset()["run"].values.tolist()
    for (name, place), run in zip(views.rows(tree).items(), ids, strict=True):
        one = tree["layers"].to_dataset().isel(run=place)
        assert name == f"weight decay {float(one.weight_decay):g}, seed {int(one.seed)} ({run})"


def test_only_what_is_chosen_is_read(tree: xr.DataTree) -> None:
    data = views.lazy(tree, "layers", "singular_value")
    assert data.dims[0] == "run"
    values = views.read(data, [2, 0], {"layer": "decoder.weight"}, ("step", "rank"))
    assert dict(values.sizes) == {"run": 2, "layer": 1, "step": tree["layers"].sizes["step"], "rank": 32}
    expected = tree["layers"].to_dataset()["singular_value"].isel(run=[2, 0]).sel(layer=["decoder.weight"])
    xr.testing.assert_equal(values, expected)
    with pytest.raises(ValueError, match=r"unknown label of layer 'typo': known are"):
        views.read(data, [0], {"layer": "typo"}, ())


def test_too_much_to_hold_is_refused(tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST_BYTES", 1000)
    data = views.lazy(tree, "layers", "singular_value")
    with pytest.raises(ValueError, match="choose fewer runs or a single layer"):
        views.read(data, [0, 1], {}, ("step", "rank"))


def test_a_heat_map_has_the_values_of_the_cube_and_marks_the_step(tree: xr.DataTree) -> None:
    data = views.lazy(tree, "layers", "singular_value")
    names = list(views.rows(tree))
    values = views.read(data, [1, 3], {}, ("step", "layer", "rank"))
    at = {"layer": "decoder.weight", "rank": "2", "step": "20"}
    for upward, fixed in (("rank", {"layer": "decoder.weight"}), ("layer", {"rank": 2})):
        figure = views.heat_map(tree, values, [names[1], names[3]], upward, at)
        *maps, _ = figure.axes
        assert [one.get_title(loc="left") for one in maps] == [names[1], names[3]]
        for axes, run in zip(maps, (1, 3), strict=True):
            expected = data.isel(run=run).sel(fixed).transpose(upward, "step").values
            drawn = axes.collections[0].get_array().reshape(expected.shape)
            np.testing.assert_array_equal(drawn.filled(np.nan), expected)
            assert axes.get_lines()[0].get_xdata() == [20, 20]


def test_curves_are_linked_by_the_step(tree: xr.DataTree) -> None:
    data = views.lazy(tree, "layers", "singular_value")
    values = views.read(data, range(4), {"layer": "decoder.weight", "rank": "1"}, ("step",))
    along_steps = views.curves(tree, "layers", values, "step", {"layer": "decoder.weight", "rank": "1", "step": "20"})
    (axes,) = along_steps.axes
    assert list(axes.get_lines()[-1].get_xdata()) == [20, 20]
    expected = data.isel(run=[0, 1]).sel(layer="decoder.weight", rank=1).mean("run")
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), expected, rtol=1e-6)
    values = views.read(data, range(4), {"layer": "decoder.weight"}, ("rank",))
    at_step = views.curves(tree, "layers", values, "rank", {"layer": "decoder.weight", "step": "20"})
    expected = data.isel(run=[0, 1]).sel(layer="decoder.weight", step=20).mean("run").dropna("rank")
    np.testing.assert_allclose(at_step.axes[0].get_lines()[0].get_ydata(), expected, rtol=1e-6)


def test_every_variable_can_be_shown(tree: xr.DataTree) -> None:
    names = list(views.rows(tree))
    shown = 0
    for group, variables in views.offered(tree).items():
        for name in variables:
            data = views.lazy(tree, group, name)
            along, upward = next(iter(views.axes(data)), ""), views.upwards(data)[0]
            at = {dim: views.first_label(dim, list(of)) for dim, of in views.labels(data).items()}
            values = views.read(data, [0, 3], at, (along, upward))
            views.heat_map(tree, values, [names[0], names[3]], upward, at, log=True)
            views.curves(tree, group, values, along, at, log="y")
            shown += 1
    assert shown > 90


@pytest.mark.parametrize(("group", "name"), [("layers", "effective_rank"), ("metrics", "loss")])
def test_the_code_reads_what_is_shown(tree: xr.DataTree, store: str, group: str, name: str) -> None:
    data = views.lazy(tree, group, name)
    at = {"layer": "decoder.weight", "split": "val"}
    values = views.read(data, [1, 3], at, ("step",))
    code = views.code(store, STUDY, tree, group, values)
    assert len(code.splitlines()) == 3
    names: dict[str, xr.DataArray] = {}
    exec(code, names)
    np.testing.assert_array_equal(names["values"].values, values.squeeze().values)


@needs_marimo
def test_the_app_runs_as_a_script_and_shows_the_cube(store: str, tree: xr.DataTree, tmp_path: Path) -> None:
    app = tmp_path / "mine.py"
    app.write_text(notebook(store, STUDY))
    done = subprocess.run([sys.executable, str(app)], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    spec = importlib.util.spec_from_file_location("mine", app)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, defined = module.app.run()
    xr.testing.assert_equal(defined["values"], tree["layers"].to_dataset()["effective_rank"].isel(run=range(4)).load())
    assert to_png(defined["heat_map"]).startswith(b"\x89PNG") and len(defined["curves"].axes) == 1
    assert len(defined["table"]) == len(sd.table(tree))
    assert repr(store) in defined["code"]


@pytest.mark.parametrize("which", ["connect", "tickets"])
def test_lines_and_tickets_are_shown_too(which: str, tmp_path: Path) -> None:
    graph, place = graph_in(str(tmp_path / "store"), which)
    carry_out(graph, place)
    tree = measured_runs(sd.open(place.url, graph.name))
    names = list(views.rows(tree))
    assert len(set(names)) == len(names) == views.lazy(tree, *next(iter_offered(tree))).shape[0]
    for group, name in iter_offered(tree):
        data = views.lazy(tree, group, name)
        along, upward = next(iter(views.axes(data)), ""), views.upwards(data)[0]
        values = views.read(data, range(len(names)), {}, (along, upward))
        views.heat_map(tree, values, names, upward, {})
        views.curves(tree, group, values, along, {})
        shown: dict[str, xr.DataArray] = {}
        exec(views.code(place.url, graph.name, sd.open(place.url, graph.name), group, values), shown)
        np.testing.assert_array_equal(shown["values"].values.squeeze(), values.values.squeeze())
    if importlib.util.find_spec("marimo") is not None:
        app = tmp_path / "mine.py"
        app.write_text(notebook(place.url, graph.name))
        done = subprocess.run([sys.executable, str(app)], capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@needs_marimo
def test_the_app_reads_a_bucket_with_a_key_that_may_only_read(
    store: str, s3_store: Store, s3_server: S3Server, tmp_path: Path
) -> None:
    for file in Path(store).rglob("*"):
        if file.is_file():
            objects.write(f"{s3_store}/{file.relative_to(store)}", file.read_bytes())
    app = tmp_path / "mine.py"
    app.write_text(notebook(s3_store.url, STUDY))
    done = subprocess.run(
        [sys.executable, str(app)],
        env={**os.environ, **s3_server.reading},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # which has what aiohttp says of clients that are open at the end
