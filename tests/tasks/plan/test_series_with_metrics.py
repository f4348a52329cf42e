"""What a training program logged is in the cube of its checkpoints, as the metrics of our own runs are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import specdyn
from helpers.trainers import by_hugging_face
from specdyn.flows.cli.app import app
from specdyn.flows.parameters import AnalyseParameters
from specdyn.flows.studies import series_from
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.query import open_results
from specdyn.tasks.figures.summary import sweep_table
from specdyn.tasks.plan.gathering import finished_results, gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import SeriesStudy, analyse_series

STEPS = (0, 100, 200)


def save(folder: Path, number: int = 0) -> Path:
    """As the project's recorder puts checkpoints, labels and metrics."""
    (folder / "metrics").mkdir(parents=True)
    for step in STEPS:
        draw = torch.Generator().manual_seed(100 * number + step)
        save_file({"up.weight": torch.randn(6, 4, generator=draw)}, folder / f"step={step:08d}.safetensors")
    (folder / "labels.json").write_text(json.dumps({"weight_decay": 1, "seed": number}))
    log(folder, {"step": 0, "train_loss": 3.0, "val_loss": 4.0}, {"step": 100, "train_loss": 2.0})
    return folder


def log(folder: Path, *records: dict[str, Any]) -> None:
    with (folder / "metrics/0.jsonl").open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def asked(*folders: Path, store: Store, **more: Any) -> SeriesStudy:
    given: dict[str, Any] = {"analyses": ["spectrum"], "name": "theirs", "audited": False, **more}
    return series_from(AnalyseParameters(sources=list(map(str, folders)), store=store.url, **given))


def analysed(study: SeriesStudy, store: Store) -> int:
    """Analyse and gather as a call does; the decompositions that it took."""
    made = 0
    for item, source in zip(study.items(store), study.sources, strict=True):
        if item.unit:
            made += analyse_series(ThisProcess(), lambda _: None, source, study.analyses, store).decompositions
    study.record(store)
    gather(study, store, report=False)
    return made


def metrics(store: Store) -> Any:
    return open_results(store.cube("theirs"))["metrics"].to_dataset().load()


def run(*arguments: str, store: Store, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--store", store.url], env={"COLUMNS": "400"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_losses_of_recorded_runs_are_in_the_cube_in_its_report_and_its_table(
    tmp_path: Path, local_store: Store
) -> None:
    folders = [save(tmp_path / "a", 0), save(tmp_path / "b", 1)]
    log(folders[0], {"step": 190, "train_loss": 1.0, "val_loss": 1.5, "learning_rate": 0.25})
    study = asked(*folders, store=local_store)
    assert analysed(study, local_store) == 6
    found = metrics(local_store)
    assert found.loss.dims == ("run", "split", "step") and found.loss.dtype == "float64"
    nan = np.nan
    np.testing.assert_array_equal(found.loss.sel(split="train"), [[3, 2, 1], [3, 2, nan]])
    np.testing.assert_array_equal(found.loss.sel(split="val"), [[4, nan, 1.5], [4, nan, nan]])
    np.testing.assert_array_equal(found.learning_rate_at, [[nan, nan, 0.25], [nan, nan, nan]])
    np.testing.assert_array_equal(found.final_loss, [[1, 1.5], [nan, nan]])
    first, _ = sweep_table(open_results(local_store.cube("theirs")))
    assert (first.metric, first.train, first.val) == ("loss", 1.0, 1.5)
    told = json.loads(open_results(local_store.cube("theirs")).attrs["metrics"])["a"]
    assert told[0] == f"{folders[0]}/metrics/0.jsonl"
    assert "loss: at 3 of 3 checkpoints" not in told
    assert "train_loss: at 3 of 3 checkpoints, 1 of these logged up to 10 steps before" in told
    run("report", "theirs", "--figures", "--out", str(tmp_path / "report"), store=local_store)
    assert (tmp_path / "report/performance.png").is_file()
    assert '"name": "loss"' in (tmp_path / "report/index.html").read_text()


def test_further_lines_cost_no_decomposition_and_the_same_ones_nothing(tmp_path: Path, local_store: Store) -> None:
    folder = save(tmp_path / "a")
    require_store(local_store.url)
    analysed(asked(folder, store=local_store), local_store)
    assert finished_results(asked(folder, store=local_store), local_store, report=False)
    log(folder, {"step": 10, "phase": "warm-up"})
    log(folder, {"step": 200, "train_loss": 1.0})
    study = asked(folder, store=local_store)
    assert not finished_results(study, local_store, report=False)
    (item,) = study.items(local_store)
    assert (item.state, item.there, item.parts) == ("partial", 3, 4)
    assert analysed(study, local_store) == 0
    assert metrics(local_store).loss.sel(split="train").values.tolist() == [[3, 2, 1]]
    assert finished_results(asked(folder, store=local_store), local_store, report=False)
    assert "all as written" in run("verify", store=local_store)
    assert "0 objects" in run("gc", store=local_store) or "nothing" in run("gc", store=local_store)


def test_a_damaged_object_of_metrics_is_named_and_put_again(tmp_path: Path, local_store: Store) -> None:
    folder = save(tmp_path / "a")
    require_store(local_store.url)
    analysed(asked(folder, store=local_store), local_store)
    (part,) = Path(local_store.url).rglob("metrics-*.safetensors")
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"{part.parent.name}/{part.name}" in run("verify", store=local_store, code=1).replace(" ", "")
    run("repair", store=local_store)
    assert not part.exists()
    analysed(asked(folder, store=local_store), local_store)
    assert part.read_bytes() == whole


def test_a_file_is_given_for_one_series_and_counts_instead_of_others(tmp_path: Path, local_store: Store) -> None:
    folders = [save(tmp_path / "a", 0), save(tmp_path / "b", 1)]
    given = tmp_path / "log.csv"
    given.write_text("step,loss,err\n0,1,0.5\n100,0.5,0.25\n")
    study = asked(folders[0], store=local_store, metrics=str(given))
    analysed(study, local_store)
    assert metrics(local_store).err.values[0, :2].tolist() == [0.5, 0.25]
    assert any("metrics: err, loss" in line and str(given) in line for line in study.sources[0].described)
    arguments = ["analyse", *map(str, folders), "--metrics", str(given), "--no-report"]
    said = run(*arguments, store=local_store, code=2)
    assert "has no columns that say which run they belong to, so it is unclear which belong to a: expected" in said
    given.write_text("Step,a - loss,a - loss__MIN,b - loss\n0,1,0.5,2\n100,3,0.25,4\n")
    analysed(asked(*folders, store=local_store, metrics=str(given)), local_store)
    found = metrics(local_store).loss.sel(split="train").values
    np.testing.assert_array_equal(found, [[1, 3, np.nan], [2, 4, np.nan]])
    analysed(asked(folders[1], store=local_store, metrics=str(given)), local_store)
    np.testing.assert_array_equal(metrics(local_store).loss.sel(split="train").values, [[2, 4, np.nan]])
    given.write_text("Step,x - loss,y - loss\n0,1,2\n")
    said = run("analyse", str(folders[0]), "--metrics", str(given), "--no-report", store=local_store, code=2)
    assert "has columns of x, y, so it is unclear which belong to a" in said


def test_a_checkpoint_that_is_left_out_takes_its_value_with_it(tmp_path: Path, local_store: Store) -> None:
    folder = save(tmp_path / "a")
    (folder / "step=00000100.safetensors").write_bytes(b"")
    study = asked(folder, store=local_store, audited=True, skip_damaged=True).checked(local_store)
    assert study.sources[0].metrics.steps == (0, 200)
    analysed(study, local_store)
    np.testing.assert_array_equal(metrics(local_store).loss.sel(split="train"), [[3, np.nan]])


def test_a_series_of_the_trainer_of_hugging_face_has_its_losses(tmp_path: Path, local_store: Store) -> None:
    folder = by_hugging_face(tmp_path / "hf")
    study = asked(folder, store=local_store)
    analysed(study, local_store)
    found = metrics(local_store)
    history = json.loads((folder / "checkpoint-30/trainer_state.json").read_text())["log_history"]
    for split, name in (("train", "loss"), ("val", "eval_loss")):
        noted = {record["step"]: record[name] for record in history if name in record}
        np.testing.assert_array_equal(found.loss.sel(split=split)[0], [noted[step] for step in (10, 20, 30)])
    rates = {record["step"]: record["learning_rate"] for record in history if "learning_rate" in record}
    np.testing.assert_array_equal(found.learning_rate_at[0], [rates[step] for step in (10, 20, 30)])
    assert float(found.learning_rate_at.max()) > 0 and "grad_norm" in found


def test_recordings_are_grouped_by_their_settings_and_have_their_metrics(tmp_path: Path, local_store: Store) -> None:
    require_store(local_store.url)
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = nn.Linear(6, 4)
        settings = {"weight_decay": 1.0, "seed": seed, "rank": 4, "layers": [1, 2]}
        with specdyn.Recorder(local_store.url, f"run{seed}", every=2, settings=settings) as recorder:
            for step in range(5):
                recorder.step(step, net, train_loss=10.0 * seed + step, val_loss=1.0)
                with torch.no_grad():
                    net.weight.mul_(0.5)
    folders = [Path(local_store.url) / f"recorded/run{seed}" for seed in (0, 1)]
    study = asked(*folders, store=local_store)
    assert [source.series.steps for source in study.sources] == [(0, 2, 4)] * 2 and study.told == ()
    assert study.sources[0].labels.values == {"weight_decay": 1.0, "seed": 0}
    assert any(line.startswith("rank=4 of labels.json is not a label") for line in study.sources[0].described)
    assert analysed(study, local_store) == 6
    found = metrics(local_store)
    np.testing.assert_array_equal(found.loss.sel(split="train"), [[0, 2, 4], [10, 12, 14]])
    assert found.seed.values.tolist() == [0, 1] and found.weight_decay.values.tolist() == [1, 1]
    rows = sweep_table(open_results(local_store.cube("theirs")))
    assert [(row.seed, row.train, row.val) for row in rows] == [(0, 4.0, 1.0), (1, 14.0, 1.0)]


def test_labels_and_metrics_on_object_storage_are_read_like_files(tmp_path: Path, s3_store: Store) -> None:
    by_hugging_face(tmp_path / "hf", max_steps=10, weight_decay=0.5, seed=7)
    save(tmp_path / "own", 3)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            objects.write(f"{s3_store}/theirs/{path.relative_to(tmp_path)}", path.read_bytes())
    given = AnalyseParameters(sources=[f"{s3_store}/theirs/hf", f"{s3_store}/theirs/own"], store=s3_store.url)
    theirs, own = series_from(given).sources
    assert theirs.labels.values["weight_decay"] == 0.5 and theirs.labels.values["seed"] == 7
    assert own.labels.values == {"weight_decay": 1, "seed": 3}
    assert theirs.logged.files == (f"{s3_store}/theirs/hf/checkpoint-10/trainer_state.json",)
    np.testing.assert_array_equal(own.metrics.values["loss"][0], [3, 2, np.nan])
    assert np.isfinite(theirs.metrics.values["loss"]).all()


def same_told(held: xr.DataTree, stored: xr.DataTree) -> None:
    """What a cube in memory says of training is what the command stores."""
    for path in ("layers", "metrics", "runs"):
        ours, theirs = held[path].to_dataset(inherit=False), stored[path].to_dataset(inherit=False).load()
        names = {*theirs.variables} - {
            "run",
            "results",
            "parts",
            "contents",
            "trained",
            "objects",
            "singular_value",
            "collapse",
        }
        assert names <= {*ours.variables}
        for name in names:
            np.testing.assert_array_equal(ours.variables[name].values, theirs.variables[name].values)
            assert ours.variables[name].attrs == theirs.variables[name].attrs
    assert {name: held.attrs.get(name) for name in ("labels", "metrics")} == {
        name: stored.attrs.get(name) for name in ("labels", "metrics")
    }


def test_a_program_takes_labels_and_metrics_as_the_command_does(tmp_path: Path, local_store: Store) -> None:
    folders = [save(tmp_path / "a", 0), save(tmp_path / "b", 1)]
    given: dict[str, Any] = {"labels": {"width": 64, "optimizer": "sgd"}}
    require_store(local_store.url)
    analysed(asked(*folders, store=local_store, **given), local_store)
    stored = open_results(local_store.cube("theirs"))
    held = specdyn.analyse(folders, ["spectrum"], **given)
    same_told(held, stored)
    assert held["metrics"].to_dataset()["optimizer"].values.tolist() == ["sgd", "sgd"]
    means = specdyn.mean_over(held["metrics"].to_dataset(), "seed")
    assert means["runs"].values.tolist() == [2]
    elsewhere = tmp_path / "other.jsonl"
    elsewhere.write_text(json.dumps({"step": 200, "val_err": 0.5}))
    analysed(asked(folders[0], store=local_store, metrics=str(elsewhere)), local_store)
    held = specdyn.analyse(folders[0], ["spectrum"], metrics=str(elsewhere))
    same_told(held, open_results(local_store.cube("theirs")))
    assert held["metrics"]["err"].sel(split="val", step=200).values.tolist() == [0.5]


def test_models_in_memory_have_the_labels_of_the_call() -> None:
    models = {"a": nn.Linear(6, 5), "b": nn.Linear(6, 5)}
    labels: dict[str, Any] = {"a": {"weight_decay": 0.0}, "b": {"weight_decay": 1.0}}
    tree = specdyn.analyse(models, ["spectrum"], labels=labels)
    assert tree["layers"].to_dataset()["weight_decay"].values.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"unknown run in labels 'c': known are a, b"):
        specdyn.analyse(models, ["spectrum"], labels={"c": {"weight_decay": 1.0}})
    with pytest.raises(ValueError, match="label step=1 is not allowed"):
        specdyn.analyse(models, ["spectrum"], labels={"step": 1})
    with pytest.raises(ValueError, match=r"metrics='m\.jsonl' is not allowed: expected none"):
        specdyn.analyse(models, ["spectrum"], metrics="m.jsonl")
