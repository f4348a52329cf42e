"""Series with labels are grouped as the runs of a sweep are, and labels decide no value."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import specdyn
from specdyn.flows.cli.app import app
from specdyn.flows.parameters import AnalyseParameters
from specdyn.flows.studies import series_from
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.query import open_results
from specdyn.storage.studies import read_study
from specdyn.tasks.figures.levels import Level, levels_of
from specdyn.tasks.figures.summary import sweep_table
from specdyn.tasks.figures.sweep_axis import axis_of
from specdyn.tasks.plan.gathering import finished_results, gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import SeriesStudy, analyse_series

ANALYSES = ["spectrum", "effective_rank"]
STEPS = (0, 10)


def save(folder: Path, number: int, rows: int = 6, **labels: Any) -> Path:
    """A series of its own matrices, with labels beside it."""
    folder.mkdir(parents=True)
    for step in STEPS:
        draw = torch.Generator().manual_seed(100 * number + step)
        w = torch.randn(rows, 4, generator=draw) * torch.tensor([1.0, 1.0, 1.0, 1.0 + number])
        save_file({"up.weight": w}, folder / f"step={step}.safetensors")
    if labels:
        (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def asked(*folders: Path, store: Store, **more: Any) -> AnalyseParameters:
    given: dict[str, Any] = {"analyses": ANALYSES, "name": "theirs", "audited": False, **more}
    return AnalyseParameters(sources=list(map(str, folders)), store=store.url, **given)


def analysed(*folders: Path, store: Store, **more: Any) -> tuple[SeriesStudy, int]:
    """Analyse, record and gather as a call does; how many decompositions it took."""
    study = series_from(asked(*folders, store=store, **more))
    made = sum(
        analyse_series(ThisProcess(), lambda _: None, source, study.analyses, store).decompositions
        for source in study.sources
    )
    study.record(store)
    gather(study, store, report=False)
    return study, made


def groups(store: Store) -> tuple[str, dict[tuple[str, ...], list[int]]]:
    """The first axis, and the rows of each level by its values."""
    tree = open_results(store.cube("theirs"))
    levels: list[Level] = levels_of(tree, axis_of(tree))
    return axis_of(tree), {tuple(level.values.values()): list(level.runs) for level in levels}


def said(*arguments: str, store: Store, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--store", store.url], env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_series_of_one_setting_are_averaged_over_their_seeds_and_no_others(tmp_path: Path, local_store: Store) -> None:
    grid = list(itertools.product((0.0, 1.0), (0, 1)))
    folders = [
        save(tmp_path / f"wd{decay:g}-{seed}", i, weight_decay=decay, seed=seed) for i, (decay, seed) in enumerate(grid)
    ]
    analysed(*folders, store=local_store)
    assert groups(local_store) == ("weight_decay", {("0",): [0, 1], ("1",): [2, 3]})
    tree = open_results(local_store.cube("theirs"))
    ranks = tree["layers"].to_dataset().effective_rank.load()
    assert ranks.weight_decay.values.tolist() == [0, 0, 1, 1] and ranks.seed.values.tolist() == [0, 1, 0, 1]
    assert ranks.series.values.tolist() == [folder.name for folder in folders]

    def effective_rank(folder: Path) -> float:
        from safetensors.torch import load_file

        s = np.linalg.svd(load_file(folder / "step=10.safetensors")["up.weight"].double().numpy(), compute_uv=False)
        p = s / s.sum()
        return float(np.exp(-(p * np.log(p)).sum()) / 4)

    expected = [np.mean([effective_rank(folder) for folder in folders[i : i + 2]]) for i in (0, 2)]
    found = ranks.sel(step=10).mean("layer").groupby("weight_decay").mean().values
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    rows = sweep_table(tree)
    assert [(row.weight_decay, row.seed) for row in rows] == grid
    assert said("report", "theirs", "--out", str(tmp_path / "report"), store=local_store)
    page = (tmp_path / "report/index.html").read_text()
    (report,) = re.findall(r'<script type="application/json" id="report">(.*?)</script>', page)
    assert [row["level"] for row in json.loads(report)["rows"]["labels"]] == [0, 0, 1, 1], "two seeds of each"
    assert said("compare", "theirs", "--out", str(tmp_path / "out.png"), store=local_store)
    status = said("status", "theirs", store=local_store)
    assert "weight_decay=1, seed=0" in status and "4 series analysed at 2 steps" in status
    assert "theirs series - - 4" in said("list", "studies", store=local_store)


def test_other_labels_are_axes_and_a_constant_one_is_none(tmp_path: Path, local_store: Store) -> None:
    grid = list(itertools.product((0.1, 0.2), ("sgd", "adamw"), (0, 1)))
    folders = [save(tmp_path / f"run{i}", i, lr=lr, optimizer=o, seed=s) for i, (lr, o, s) in enumerate(grid)]
    analysed(*folders, store=local_store, labels={"width": 64})
    axis, found = groups(local_store)
    assert axis == "lr"
    assert found == {("0.1", "adamw"): [2, 3], ("0.1", "sgd"): [0, 1], ("0.2", "adamw"): [6, 7], ("0.2", "sgd"): [4, 5]}
    runs = open_results(local_store.cube("theirs"))["runs"].to_dataset()
    assert runs.width.values.tolist() == [64] * 8


def test_seeds_alone_are_one_configuration(tmp_path: Path, local_store: Store) -> None:
    analysed(*(save(tmp_path / f"run{i}", i, seed=i) for i in range(3)), store=local_store)
    assert groups(local_store) == ("family", {("unknown",): [0, 1, 2]})


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ({"weight_decay": 1, "seed": 0}, {"weight_decay": 1, "seed": 0}, "have the same labels, and no seed that"),
        ({"weight_decay": 1, "seed": 0}, {"weight_decay": 1}, "have the same labels, and no seed that differs"),
        ({"weight_decay": 1}, {"weight_decay": 1}, "have the same labels, and no seed that differs"),
        ({"seed": 0}, {"seed": 1, "rows": 8}, "differ in their seeds, and in their layers"),
        ({}, {}, "no series has labels"),
    ],
)
def test_series_that_labels_do_not_tell_apart_stand_for_themselves(
    first: dict[str, Any], second: dict[str, Any], why: str, tmp_path: Path, local_store: Store
) -> None:
    folders = [save(tmp_path / "a", 0, **first), save(tmp_path / "b", 1, **second)]
    study, _ = analysed(*folders, store=local_store)
    _, found = groups(local_store)
    assert list(found.values()) == [[0], [1]], "nothing is averaged"
    assert any(why in line for line in study.told) == bool(first)
    assert said("report", "theirs", "--out", str(tmp_path / "report"), store=local_store)


def test_a_series_without_a_label_is_no_seed_of_one_that_has_it(tmp_path: Path, local_store: Store) -> None:
    folders = [save(tmp_path / "a", 0, weight_decay=1, seed=0), save(tmp_path / "b", 1, seed=1)]
    analysed(*folders, store=local_store)
    assert groups(local_store) == ("weight_decay", {("1",): [0], ("not set",): [1]})


def test_labels_change_without_any_decomposition_and_the_record_has_them(tmp_path: Path, local_store: Store) -> None:
    folders = [save(tmp_path / "a", 0), save(tmp_path / "b", 1)]
    require_store(local_store.url)
    _, made = analysed(*folders, store=local_store)
    assert made == 4
    before = open_results(local_store.cube("theirs"))["layers"].to_dataset().load()
    assert "series" in before.coords and "family" not in before.coords
    assert finished_results(series_from(asked(*folders, store=local_store)), local_store, report=False)
    for i, folder in enumerate(folders):
        (folder / "labels.json").write_text(json.dumps({"seed": i}))
    for labels in ({"weight_decay": 0.3}, {"weight_decay": 3, "tied": True}, {"weight_decay": 3, "tied": True}):
        study = series_from(asked(*folders, store=local_store, labels=labels))
        done = finished_results(study, local_store, report=False)
        record = read_study(local_store, "theirs", "series")
        assert record and (done is not None) == (record.labels == study._record.labels)
        assert [item.state for item in study.items(local_store)] == ["done", "done"]
        _, made = analysed(*folders, store=local_store, labels=labels)
        assert made == 0
        after = open_results(local_store.cube("theirs"))["layers"].to_dataset().load()
        np.testing.assert_array_equal(after.singular_value, before.singular_value)
        assert after.weight_decay.values.tolist() == [labels["weight_decay"]] * 2
        assert after.seed.values.tolist() == [0, 1]
        record = read_study(local_store, "theirs", "series")
        assert record and [json.loads(text) for text in record.labels] == [{**labels, "seed": 0}, {**labels, "seed": 1}]
    assert after.tied.values.tolist() == [True, True]
    assert "all as written" in said("verify", store=local_store)


def test_the_cube_says_where_a_label_comes_from(tmp_path: Path, local_store: Store) -> None:
    folder = save(tmp_path / "a", 0, weight_decay=1, seed=0)
    analysed(folder, store=local_store, labels={"seed": 2})
    said_there = json.loads(open_results(local_store.cube("theirs")).attrs["labels"])
    assert said_there == {"a": {"seed": [2, "--label"], "weight_decay": [1, "labels.json"]}}


def test_the_command_takes_labels_and_says_what_counts(tmp_path: Path, local_store: Store) -> None:
    folder = save(tmp_path / "a", 0, weight_decay=1, seed=0)
    analysed(folder, store=local_store, labels={"weight_decay": 0.5, "optimizer": "sgd"})
    given = ["--analyses", ",".join(ANALYSES), "--name", "theirs", "--no-audit", "--no-report"]
    typed = ["--label", "weight_decay=0.5", "--label", "optimizer=sgd"]
    output = said("analyse", str(folder), *given, *typed, store=local_store)
    assert "labels: weight_decay=0.5, optimizer=sgd (--label); seed=0 (labels.json)" in output
    assert "weight_decay=0.5 (--label) counts, not 1 (labels.json)" in output
    assert "already done: nothing to do" in output
    output = said("analyse", str(folder), *given, "--label", "rank=1", store=local_store, code=2)
    assert "label rank=1 is not allowed: expected another name" in output


def test_a_program_compares_labelled_series_with_others(tmp_path: Path, local_store: Store) -> None:
    labelled = [save(tmp_path / f"a{i}", i, weight_decay=1, seed=i, optimizer="sgd") for i in range(2)]
    plain = [save(tmp_path / f"b{i}", 10 + i) for i in range(2)]
    analysed(*labelled, store=local_store)
    analysed(*plain, store=local_store, name="others")
    both = specdyn.compare(*(specdyn.open(local_store.cube(name)) for name in ("theirs", "others")))
    layers = both["layers"].to_dataset()
    assert layers.optimizer.values.tolist() == ["sgd", "sgd", "", ""]
    of_labelled = specdyn.open(local_store.cube("theirs"))["layers"].to_dataset()
    np.testing.assert_array_equal(
        layers.effective_rank.isel(run=slice(0, 2)), of_labelled.effective_rank.transpose(*layers.effective_rank.dims)
    )
