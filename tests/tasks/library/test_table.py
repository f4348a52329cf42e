"""The table of layers: closed forms, what is not there, and that it is the same from memory, store and command."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import specdyn as sd
from specdyn.flows.cli.app import app
from specdyn.tasks.library.table import COLUMNS, tables_of_cube


def diagonal(*values: float) -> nn.Linear:
    layer = nn.Linear(len(values), len(values), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor(values)))
    return layer


def test_numbers_of_diagonal_matrices() -> None:
    frame = sd.table(nn.Sequential(diagonal(4.0, 2.0, 2.0), diagonal(1e-7, 1e-8)))
    assert list(frame.columns) == list(COLUMNS)
    first = frame.loc["0.weight"]
    assert first["stable_rank"] == pytest.approx((16 + 4 + 4) / 16)
    assert first["spectral_norm"] == pytest.approx(4.0)
    p = np.array([0.5, 0.25, 0.25])
    assert first["effective_rank"] == pytest.approx(math.exp(-(p * np.log(p)).sum()) / 3, rel=1e-6)
    assert (first["rows"], first["columns"]) == (3, 3) and not first["collapsed"]
    assert math.isnan(first["power_law_alpha"])
    assert frame.loc["1.weight", "collapsed"]


def test_a_power_law_and_spikes_are_seen() -> None:
    rank = 400
    singular = np.arange(1, rank + 1.0) ** -0.5  # eigenvalues 1 / k, so the exponent of their density is 2
    frame = sd.table(diagonal(*singular))
    assert frame["power_law_alpha"].iloc[0] == pytest.approx(2.0, abs=0.25)
    torch.manual_seed(0)
    noise = torch.randn(200, 200)
    noise += 100 * torch.outer(torch.ones(200), torch.ones(200)) / 200
    spiked = nn.Linear(200, 200, bias=False)
    spiked.weight = nn.Parameter(noise)
    assert sd.table(spiked)["mp_spikes"].iloc[0] == 1


def test_a_cube_has_the_layers_of_each_run_and_no_others() -> None:
    tree = sd.analyse({"a": nn.Sequential(diagonal(2.0, 1.0), nn.Linear(2, 3)), "b": diagonal(3.0, 1.0)})
    frame = sd.table(tree)
    assert frame.index.tolist() == [("a", "0.weight"), ("a", "1.weight"), ("b", "weight")]
    assert frame.loc[("b", "weight"), "spectral_norm"] == pytest.approx(3.0)
    assert tables_of_cube(tree)[1].summary().startswith("b at 0: 1 layer, mean effective rank")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    for step in (5, 7):
        (tmp_path / "series").mkdir(exist_ok=True)
        save_file(
            {"up.weight": torch.diag(torch.tensor([float(step), 1.0]))},
            tmp_path / "series" / f"step={step}.safetensors",
        )
    return tmp_path / "series"


def analysed(series: Path, store: Path, *more: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["analyse", str(series), "--store", str(store), "--no-report", *more])
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_the_command_ends_with_the_table_or_prints_it_alone(series: Path, tmp_path: Path) -> None:
    shown, _ = analysed(series, tmp_path / "store")
    assert "Layers of series at 7" in shown and "up.weight" in shown and "series at 7: 1 layer" in shown
    for again in (False, True):  # when it is computed, and from the store
        store = tmp_path / ("store" if again else "fresh")
        (one,) = json.loads(analysed(series, store, "--json")[0])
        assert (one["run"], one["step"]) == ("series", 7)
        (layer,) = one["layers"]
        assert layer["spectral_norm"] == pytest.approx(7.0) and layer["power_law_alpha"] is None
        printed, said = analysed(series, store, "--csv")
        (row,) = csv.DictReader(io.StringIO(printed))
        assert float(row["stable_rank"]) == pytest.approx(50 / 49) and row["power_law_alpha"] == ""
        assert "results" in said


def test_a_series_with_a_label_keeps_its_name(series: Path, tmp_path: Path) -> None:
    (series / "labels.json").write_text(json.dumps({"weight_decay": 1}))
    shown, _ = analysed(series, tmp_path / "store")
    assert "Layers of series at 7" in shown and "series at 7: 1 layer" in shown


def test_both_forms_at_once_are_refused(series: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["analyse", str(series), "--store", str(tmp_path / "s"), "--json", "--csv"])
    assert result.exit_code == 2 and "choose one of them" in result.output


def test_analyses_without_any_of_its_numbers_show_no_table(series: Path, tmp_path: Path) -> None:
    shown, _ = analysed(series, tmp_path / "store", "--analyses", "spectrum")
    assert "Layers of" not in shown and "results" in shown
    shown, _ = analysed(series, tmp_path / "other", "--analyses", "effective_rank")
    assert "eff. rank" in shown and "stable rank" not in shown and "power law" not in shown
