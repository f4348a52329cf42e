"""Figures by name: those of reports and those of plug-ins, from a file and from an installed package."""

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from torch import nn
from typer.testing import CliRunner

import specdyn as sd
from helpers import plugins
from specdyn.flows.cli.app import app
from specdyn.models.plugins import kinds, places
from specdyn.tasks.figures.offered.registry import FIGURES, draw_all, figure_names, get_figure
from specdyn.tasks.figures.report import FIGURES as OF_REPORTS
from specdyn.tasks.figures.report import write_report

OF_RANKS = ("effective_rank", "effective_rank_count", "effective_rank_ratio", "effective_rank_map")
"""The package's figures of what the analysis `effective_rank` measures."""


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of plug-ins with one figure."""
    plugins.figure(tmp_path / "lab")
    monkeypatch.setenv(places.PATHS, str(tmp_path / "lab"))
    places.forget()
    yield tmp_path / "lab"
    monkeypatch.undo()
    places.forget()


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return sd.analyse({"a": nn.Linear(6, 5), "b": nn.Linear(6, 5)}, ["effective_rank"], progress=False)


def test_a_file_adds_a_figure_beside_the_figures_of_reports(lab: Path) -> None:
    assert figure_names() == [*(figure.name for figure in OF_REPORTS), "lines"]
    assert kinds.origin(FIGURES, "lines") == str(lab / "lines.py")
    assert all(get_figure(figure.name) is figure for figure in OF_REPORTS)


def test_it_is_drawn_of_results_that_are_open(tree: xr.DataTree) -> None:
    for figure in (
        sd.figure(tree, "lines"),
        tree.specdyn.plot("lines"),
        sd.figure(tree["layers"].to_dataset(), "lines"),
    ):
        (axes,) = figure.axes
        drawn = np.ravel([line.get_ydata() for line in axes.lines])
        np.testing.assert_array_equal(drawn, tree["layers"]["effective_rank"].values.ravel())
        assert axes.get_title("left") == "series"
    assert sd.figure(tree, "lines", by="run").axes[0].get_title("left") == "run"
    with pytest.raises(
        ValueError, match="no 'singular_value' in these results, which the figure 'singular_values' shows"
    ):
        sd.figure(tree, "singular_values")
    with pytest.raises(ValueError, match=r"unknown figure 'line'.*did you mean 'lines'"):
        sd.figure(tree, "line")


def test_a_report_has_it_and_does_without_one_that_raises(
    tree: xr.DataTree, lab: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugins.figure(lab, "raises", body="raise KeyError(by)")
    plugins.figure(lab, "elsewhere", variable="no_such_variable")
    plugins.write(lab, "nothing", plugins.FIGURE.format(name="nothing", variable="effective_rank", body="return 3"))
    places.forget()
    with caplog.at_level(logging.WARNING, "specdyn.figures"):
        assert [name for name, _ in draw_all(tree, "series")] == [*OF_RANKS, "lines"]
    assert [record.getMessage() for record in caplog.records] == [
        f"skipping the figure nothing of {lab}/nothing.py: TypeError: figure 'nothing' returned int: expected a "
        "matplotlib Figure",
        f"skipping the figure raises of {lab}/raises.py: KeyError: 'series'",
    ]
    with pytest.raises(KeyError, match="series"):
        sd.figure(tree, "raises")
    tree.to_zarr(tmp_path / "cube.zarr", zarr_format=3)
    written = write_report(str(tmp_path / "cube.zarr"), str(tmp_path / "report"), figures=True)
    files = [f"{name}{ending}" for name in (*OF_RANKS, "lines") for ending in (".png", ".svg")]
    assert [Path(url).name for url in written] == ["index.html", *files]


def test_one_of_a_package_and_names_that_are_taken(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.figure(tmp_path / "site" / "drawn_by_lab", "dots")
    plugins.package(tmp_path / "site", "drawn_by_lab", {"specdyn.figures": {"dots": "drawn_by_lab.dots:FIGURE"}})
    monkeypatch.syspath_prepend(tmp_path / "site")
    places.forget()
    assert kinds.origin(FIGURES, "dots") == "drawn_by_lab 1.2, drawn_by_lab.dots:FIGURE"
    assert get_figure("dots").title == "lines"
    plugins.figure(lab, "performance")
    places.forget()
    with pytest.raises(ValueError, match="figure 'performance' is declared twice, by specdyn itself and by"):
        figure_names()
    sys.modules.pop("drawn_by_lab", None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('ReportFigure(name="wrong", title="", needs="layers", draw=print)', "needs='layers' is not allowed"),
        ('ReportFigure(name="wrong", title="", needs=("layers",), draw=print)', "expected a group and its variables"),
        ('ReportFigure(name="wrong", title="", needs=("layers", "norm"), draw=1)', "expected a function of a cube"),
        ("print", "expected ReportFigure of specdyn, got builtin_function_or_method"),
    ],
)
def test_one_that_is_none_is_said(lab: Path, text: str, why: str) -> None:
    imports = "from specdyn.tasks.figures.offered.declared import ReportFigure\n"
    plugins.write(lab, "wrong", f"{imports}FIGURE = {text}\n")
    places.forget()
    (broken,) = kinds.broken(FIGURES)
    assert why in broken.why
    with pytest.raises(kinds.NotUsable, match=re.escape(why)):
        get_figure("wrong")


def test_the_command_draws_variables_and_figures(lab: Path, tmp_path: Path, tree: xr.DataTree) -> None:
    store = str(tmp_path / "store")
    sd.run("modular_addition", "smoke", store=store, weight_decay=[0.0, 1.0], seed=[0], steps=20, progress=False)

    def said(*words: str, code: int = 0) -> str:
        asked = ["plot", "modular_addition-smoke-steps=20", *words, "--store", store]
        result = CliRunner().invoke(app, asked, env={"COLUMNS": "400"})
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    out = str(tmp_path / "drawn.svg")
    said("lines", "--out", out)
    assert ">weight_decay<" in Path(out).read_text()
    said("effective_rank", "--out", out)
    assert ">weight_decay<" not in Path(out).read_text(), "the variable comes first"
    said("performance", "--by", "seed", "--out", out)
    assert "Loss" in Path(out).read_text()
    assert "--log 'y' is not allowed: expected nothing: lines is a figure" in said("lines", "--log", "y", code=2)
    assert "unknown variable or figure 'line'" in said("line", code=2)
    plugins.figure(lab, "stable_rank")
    places.forget()
    assert f"the figure of {lab}/stable_rank.py: rename the figure" in said("stable_rank", code=2)
