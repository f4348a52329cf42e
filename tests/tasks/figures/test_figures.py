"""The figures of a small cube made by hand: what they show, and what they do where data is missing."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure

from helpers.drawings import LAYERS, NAN, STEPS, STRING, WIDTHS, cube, smallest
from specdyn.models.spec.run_spec import as_text
from specdyn.tasks.figures.heatmaps import (
    agreement,
    agreement_scores,
    alignment,
    alignment_scores,
    chance,
)
from specdyn.tasks.figures.levels import levels_of
from specdyn.tasks.figures.overview import overview
from specdyn.tasks.figures.performance import performance, pruned_metrics
from specdyn.tasks.figures.ranks import effective_ranks
from specdyn.tasks.figures.report import FIGURES, ReportFigure, write_report
from specdyn.tasks.figures.spectra import singular_values
from specdyn.tasks.figures.style import to_png
from specdyn.tasks.figures.summary import SUMMARY, sweep_table
from specdyn.tasks.figures.sweep_axis import band, of_all, spread


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def lines(figure: Figure) -> list[int]:
    return [len(axes.lines) for axes in figure.axes]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_performance_has_a_line_for_each_split_and_level() -> None:
    tree = cube()
    tree["metrics"] = tree["metrics"].to_dataset()[["loss", "err"]]
    figure = performance(tree)
    assert lines(figure) == [6, 6]
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss (nat)", "err"]
    assert legend(figure)[:3] == [f"weight decay {decay}, n = 2" for decay in ("0", "0.5", "2")]
    assert legend(figure)[3:] == ["train", "val", "± 1 std over seeds"]


def test_one_seed_has_no_band() -> None:
    figure = performance(cube(seeds=1))
    assert not any(axes.collections for axes in figure.axes)
    assert "± 1 std over seeds" not in legend(figure)


def test_effective_rank_has_a_panel_for_the_mean_and_each_layer() -> None:
    figure = effective_ranks(cube())
    assert titles(figure) == ["mean over 3 layers", "embed  4 × 8", "in_proj  24 × 8", "out_proj  8 × 8"]
    tree = cube()
    seeds_of_largest = tree["layers"]["effective_rank"].values[:2, 0]
    largest = figure.axes[1].lines[-1]
    assert np.asarray(largest.get_ydata()) == pytest.approx(seeds_of_largest.mean(axis=0))
    assert {axes.get_ylim() for axes in figure.axes} == {(0.0, 1.0)}


def test_effective_rank_marks_grokking_and_collapse() -> None:
    tree = cube(decays=(0.0, 1.0), seeds=1)
    tree["metrics"] = xr.DataTree(tree["metrics"].to_dataset().assign(grok_step=("run", [5, NAN])))
    tree["layers"]["collapse"].values[0, 2, 2:] = 2
    figure = effective_ranks(tree)
    (ticks,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection) and c.get_segments()]
    assert [segment[0][0] for segment in ticks.get_segments()] == [5]
    crosses = [[line.get_xdata() for line in axes.lines if line.get_marker() == "x"] for axes in figure.axes]
    marked = [sorted(step for of_level in of_axes for step in of_level) for of_axes in crosses]
    assert marked == [[5, 10], [], [], [5, 10]]
    assert legend(figure)[-2:] == ["a run groks", "layer collapsed in a run"]


@pytest.mark.parametrize(("count", "panels"), [(1, 2), (4, 5), (6, 7), (40, 24)])
def test_effective_rank_takes_any_number_of_layers(count: int, panels: int) -> None:
    ranks = np.linspace(0.9, 0.1, count * 4, dtype=np.float32).reshape(1, count, 4)
    names = np.array([f"layers.{i}.linear.weight" for i in range(count)], STRING)
    runs = {"run": np.array(["a"], STRING), "weight_decay": ("run", [0.0]), "seed": ("run", [0])}
    data = xr.Dataset({"effective_rank": (("run", "layer", "step"), ranks)}, {**runs, "layer": names, "step": STEPS})
    figure = effective_ranks(xr.DataTree.from_dict({"/layers": data}))
    assert len(figure.axes) == panels
    assert figure.get_suptitle().endswith(" (23 of 40 layers)") == (count == 40)


def test_titles_of_layers_with_long_names_do_not_overlap() -> None:
    data = xr.concat(4 * [cube()["layers"].to_dataset().isel(layer=[0])], "layer")
    data["layer"] = [f"model.layers.1.attention.query_key_value[{part}]" for part in ("query", "key", "value", "mean")]
    data = data.assign_coords(rows=("layer", 4 * [2304]), columns=("layer", 4 * [768]))
    figure = effective_ranks(xr.DataTree.from_dict({"/layers": data}))
    FigureCanvasAgg(figure).draw()
    boxes = [axes._left_title.get_window_extent() for axes in figure.axes]  # type: ignore[attr-defined]
    for number, box in enumerate(boxes):
        assert box.x1 <= figure.bbox.x1, titles(figure)[number]
        assert not [other for other in boxes[number + 1 :] if box.overlaps(other)], titles(figure)[number]


def test_singular_values_draws_every_value_of_the_first_seed() -> None:
    tree = cube()
    figure = singular_values(tree)
    *grid, _bar = figure.axes
    drawn = [[segment for c in axes.collections for segment in c.get_segments()] for axes in grid]  # type: ignore[attr-defined]
    assert [len(of_panel) for of_panel in drawn] == [4] * 3 + [8] * 6
    first_seed_of_smallest = tree["layers"]["singular_value"].values[5, 0, :, 0]
    assert drawn[0][-1][:, 0].tolist() == STEPS
    assert drawn[0][-1][:, 1] == pytest.approx(first_seed_of_smallest)
    assert grid[0].get_yscale() == "log"
    assert singular_values(tree, log=False).axes[0].get_ylim()[0] == 0


def meshes(figure: Figure) -> list[np.ndarray]:
    found = [[c for c in axes.collections if isinstance(c, QuadMesh)] for axes in figure.axes]
    return [np.ma.getdata(of_axes[0].get_array()) for of_axes in found[:-1] if of_axes]


def test_agreement_has_a_row_for_each_level_and_a_column_for_each_layer() -> None:
    tree = cube()
    figure = agreement(tree)
    values = meshes(figure)
    assert len(values) == 9
    assert values[1] == pytest.approx(tree["layers"]["agreement"].values[4:, 1].mean(axis=0).T)
    assert titles(figure)[:3] == ["embed\nchance 0.11", "in_proj\nchance 0.046", "out_proj\nchance 0.08"]
    assert figure.axes[0].get_ylabel() == "weight decay 0,\nn = 2\nrank (1 = largest)"


def test_alignment_names_its_pairs_and_shows_only_the_ranks_they_have() -> None:
    figure = alignment(cube())
    assert titles(figure)[:3] == [
        "embed\n→ in_proj\nchance 0.28",
        "in_proj[key]\n→ in_proj[query]\nchance 0.56",
        "in_proj[value]\n→ out_proj\nchance 0.56",
    ]
    assert [axes.get_ylim() for axes in figure.axes[:3]] == [(8.5, 0.5), (2.5, 0.5), (8.5, 0.5)]


@pytest.mark.parametrize(("draw", "group"), [(agreement_scores, "layers"), (alignment_scores, "pairs")])
def test_scores_have_a_panel_for_each_level_and_a_named_row_for_each_label(
    draw: Callable[[xr.DataTree], Figure], group: str
) -> None:
    tree = cube()
    figure = draw(tree)
    said = [title.replace("\n", " ") for title in titles(figure)[:3]]
    assert said == [f"weight decay {decay}, n = 2" for decay in ("0", "0.5", "2")]
    (name,) = [name for name in tree[group].data_vars if str(name).endswith("_score")]
    assert meshes(figure)[2] == pytest.approx(tree[group][name].values[:2].mean(axis=0))
    assert figure.axes[0].get_yticklabels()[0].get_text().startswith("embed")


def test_chance_levels_match_the_cube_where_its_runs_agree() -> None:
    tree = cube()
    by_width = [np.sqrt(2 / (np.pi * width)) for width in WIDTHS]
    assert list(chance(tree, "pairs", "alignment").values()) == pytest.approx(by_width)
    assert chance(tree, "layers", "agreement")[LAYERS[2]] == pytest.approx(2 / np.pi / 8)
    tree["layers"]["agreement_null"].values[1, 2] = 0.5
    tree["layers"]["agreement_null"].values[:, 0] = NAN
    tree["layers"]["agreement_null"].values[0, 1] = NAN
    assert list(chance(tree, "layers", "agreement")) == [LAYERS[1]]


def test_chance_is_left_out_where_the_cube_has_none() -> None:
    tree = cube()
    tree["layers"] = tree["layers"].to_dataset().drop_vars("agreement_null")
    assert titles(agreement(tree))[:3] == ["embed", "in_proj", "out_proj"]
    assert chance(tree, "layers", "agreement") == {}


def test_pruned_metrics_have_three_lines_a_panel_for_each_split_and_level() -> None:
    figure = pruned_metrics(cube())
    assert lines(figure) == [3] * 6
    assert legend(figure)[:3] == ["all singular values", "top half kept", "bottom half kept"]


def test_pruned_metrics_do_without_the_whole_networks_loss() -> None:
    tree = cube()
    tree["metrics"] = tree["metrics"].to_dataset().drop_vars("loss")
    assert lines(pruned_metrics(tree)) == [2] * 6


def gappy(seeds: int) -> xr.DataTree:
    """A cube whose first run ends after two steps and whose second has nothing."""
    tree = cube(decays=(0.0, 1.0), seeds=seeds)
    for group in ("layers", "pairs", "metrics"):
        data = tree[group].to_dataset()
        run, step = xr.DataArray(range(2 * seeds), dims="run"), xr.DataArray(range(4), dims="step")
        known = (run > 1) | ((run == 0) & (step < 2))
        measured = [name for name in data if "step" in data[name].dims and data[name].dtype.kind == "f"]
        tree[group] = data.assign(data[measured].where(known))
    return tree


@pytest.mark.parametrize("figure", [one for one in FIGURES if one.rows == "run"], ids=lambda figure: figure.name)
def test_steps_without_values_are_left_out(figure: ReportFigure) -> None:
    for seeds in (1, 2):
        assert not figure.missing(gappy(seeds))
        assert isinstance(figure.draw(gappy(seeds), "weight_decay"), Figure)


def test_a_line_ends_where_its_run_ends() -> None:
    figure = performance(gappy(seeds=1))
    ends = [np.asarray(line.get_xdata()).tolist() for line in figure.axes[0].lines]
    assert ends == [[], [], [0, 1], [0, 1]]


def test_a_band_is_one_deviation_cut_to_the_range_of_the_seeds() -> None:
    values = xr.DataArray([[0.0, 1.0, NAN], [0.0, 3.0, NAN], [1.0, NAN, NAN]], {"step": [0, 5, 9]}, ("run", "step"))
    found = band(values)
    assert found.steps.tolist() == [0, 5]
    assert found.mean == pytest.approx([1 / 3, 2])
    assert found.low == pytest.approx([0, 1])  # 1/3 - .471 would be an error below 0
    assert found.high == pytest.approx([1 / 3 + np.sqrt(2) / 3, 3])


def test_a_band_on_a_logarithmic_axis_is_of_the_logarithms() -> None:
    values = xr.DataArray([[1.0, 0.0], [100.0, 10.0]], {"step": [0, 5]}, ("run", "step"))
    found = band(values, log=True)
    assert found.mean == pytest.approx([10, np.sqrt(10)])  # 0 counts as 1, the smallest above it
    assert found.low == pytest.approx([1, 1])
    assert found.high == pytest.approx([100, 10])


def test_levels_are_sorted_and_their_runs_by_seed() -> None:
    levels = levels_of(cube(), "weight_decay")
    assert [(level.values, level.runs) for level in levels] == [
        ({"weight decay": "0"}, (5, 4)),
        ({"weight decay": "0.5"}, (3, 2)),
        ({"weight decay": "2"}, (1, 0)),
    ]
    assert len({level.color for level in levels}) == 3


def test_runs_without_the_hyperparameter_are_a_level_of_their_own() -> None:
    tree = cube(decays=(0.0, 1.0), seeds=1)
    for name in ("layers", "pairs", "metrics"):
        tree[name] = tree[name].to_dataset().assign_coords(weight_decay=("run", [NAN, 0.5]))
    assert [level.line for level in levels_of(tree, "weight_decay")] == ["weight decay 0.5", "weight decay not set"]


@pytest.mark.parametrize(
    ("axis", "lines", "seeds"),
    [("seed", ["seed 0", "seed 1"], 1), ("optimizer", [f"weight decay {decay}" for decay in ("0", "0.5", "2")], 2)],
)
def test_any_setting_can_be_the_axis_and_nothing_is_pooled_for_it(axis: str, lines: list[str], seeds: int) -> None:
    levels = levels_of(cube(), axis)
    assert list(dict.fromkeys(level.line for level in levels)) == lines
    assert {level.n for level in levels} == {f"n = {seeds}"}
    assert titles(agreement_scores(cube(), axis))[0].startswith(lines[0])


def test_an_unknown_axis_and_the_store_of_one_run_are_refused() -> None:
    with pytest.raises(ValueError, match=r"axis='colour' is not known, expected one of: .*weight_decay"):
        levels_of(cube(), "colour")
    one_run = xr.DataTree.from_dict({"/layers": cube()["layers"].to_dataset().isel(run=0)})
    with pytest.raises(ValueError, match="expected a sweep cube"):
        levels_of(one_run, "weight_decay")
    with pytest.raises(ValueError, match="no runs, pairs or tickets in any group"):
        FIGURES[0].missing(one_run)


def test_what_is_left_out_is_said() -> None:
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert of_all([1, 2], range(5), "weight_decay") == " (2 of 5 weight decays)"
    assert of_all([1, 2], [1, 2], "layer") == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-8, "1e-08"),
        (0.3, "0.3"),
        (2, "2"),
        (NAN, "not set"),
        ("", "not set"),
        (True, "true"),
        (1234567.0, "1234567"),
        (0.1000000001, "0.1000000001"),
        (None, "none"),
        ((82, 0.5), "82/0.5"),
    ],
)
def test_hyperparameters_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


def stored(tree: xr.DataTree, folder: Path) -> str:
    url = str(folder / "sweep.zarr")
    tree.to_zarr(url, zarr_format=3)
    return url


def test_the_report_is_a_page_and_on_request_all_figures(tmp_path: Path) -> None:
    folder, url = str(tmp_path / "report"), stored(smallest(), tmp_path)
    told: list[str] = []
    assert write_report(url, folder) == [f"{folder}/index.html"]
    assert sorted(path.name for path in Path(folder).iterdir()) == ["index.html", SUMMARY]
    index, *figures = write_report(url, folder, figures=True, told=told.append)
    assert index == f"{folder}/index.html"
    names = [figure.name for figure in FIGURES if figure.rows == "run"]
    assert figures == [f"{folder}/{name}{ending}" for name in names for ending in (".png", ".svg")]
    assert told == [
        "reading the results",
        "writing the page",
        *(f"drawing figure {i} of {len(names)}: {name}" for i, name in enumerate(names, 1)),
    ]
    there = [SUMMARY, *(Path(url).name for url in (index, *figures))]
    assert sorted(path.name for path in Path(folder).iterdir()) == sorted(there)
    rows = json.loads((Path(folder) / SUMMARY).read_text())["rows"]
    assert [row["run_id"] for row in rows] == [row.run_id for row in sweep_table(smallest())]
    page = Path(index).read_text()
    assert not re.findall(r'src="|href="(?!data:,|#run-)', page), "the page stands by itself"
    assert "<h1>A &lt;sweep&gt;</h1>" in page
    assert '<th scope="row">optimizer</th><td>adamw</td>' in page
    (runs,) = re.findall(r"<table>.*?</table>", page, re.DOTALL)
    assert runs.count("<tr>") == 1 + len(rows)


def test_the_report_skips_what_the_cube_lacks(tmp_path: Path) -> None:
    tree = cube(seeds=1)
    del tree["pairs"]
    tree["metrics"] = tree["metrics"].to_dataset()[["loss"]]
    tree["layers"] = tree["layers"].to_dataset()[["effective_rank", "agreement", "agreement_null"]]
    _, *figures = write_report(stored(tree, tmp_path), str(tmp_path / "report"), figures=True)
    names = [Path(url).stem for url in figures if url.endswith(".png")]
    assert names == ["performance", "effective_rank", "effective_rank_map", "agreement"]


def test_a_png_is_narrow_and_the_same_each_time() -> None:
    one, other = (to_png(agreement(cube())) for _ in range(2))
    assert one == other
    assert int.from_bytes(one[16:20], "big") <= 1800


def test_the_overview_has_a_panel_for_each_sweep_with_the_mean_over_layers() -> None:
    trees = [cube() for _ in range(4)]
    for number, tree in enumerate(trees):
        tree.attrs["title"], tree.attrs["data"] = f"sweep {number}", "two photos (sample data)"
    figure = overview(trees)
    assert len(figure.axes) == 4
    assert figure.axes[3].get_title("left") == "sweep 3 on two photos (sample\ndata)"
    assert [axes.get_xlabel() for axes in figure.axes] == 4 * ["optimizer steps"]
    ranks = trees[0]["layers"]["effective_rank"]
    lines = figure.axes[0].get_lines()
    assert len(lines) == len(set(ranks["weight_decay"].values))
    first = ranks.isel(run=np.flatnonzero(ranks["weight_decay"].values == ranks["weight_decay"].values.min()))
    np.testing.assert_allclose(lines[0].get_ydata(), first.mean(["run", "layer"]).values, rtol=1e-6)


def test_titles_and_legends_of_the_overview_cover_nothing() -> None:
    trees = [cube() for _ in range(5)]
    for tree in trees:
        tree.attrs["title"] = "Image generation by diffusion: image_generation-sample"
        tree.attrs["data"] = "3,000 digits of MNIST, not the whole set (sample data)"
    figure = overview(trees)
    FigureCanvasAgg(figure).draw()
    boxes = [figure._suptitle.get_window_extent(), figure._supylabel.get_window_extent()]  # type: ignore[attr-defined]
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        titles = [text for text in [*axes.texts, axes.title, axes._left_title] if text.get_text()]  # type: ignore[attr-defined]
        parts = (*titles, axes.patch, axes.xaxis.label, legend)
        boxes += [part.get_window_extent() for part in parts]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1, box
        assert not [other for other in boxes[number + 1 :] if box.overlaps(other)], box


def test_the_overview_of_a_sweep_without_effective_ranks_is_refused() -> None:
    with pytest.raises(ValueError, match="sweep: no effective ranks"):
        overview([xr.DataTree.from_dict({"/layers": xr.Dataset({"norm": ("run", [1.0])}, {"run": ["a"]})})])
