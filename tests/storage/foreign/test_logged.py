"""Metrics that training programs log: forms of files, what counts of several values, what is refused and where."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from helpers.trainers import by_hugging_face, by_lightning
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.found import Found
from specdyn.storage.foreign.logged import Log, find_log, given_log, read_log


def written(folder: Path, text: str, name: str = "log.jsonl") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(folder: Path, text: str, name: str = "log.jsonl", unit: str = "steps") -> Log:
    return read_log([written(folder, text, name)], unit)


def series(folder: Path, *names: str) -> Found:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("step=10", "step=20"):
        save_file({"up.weight": torch.ones(3, 2)}, folder / f"{name}.safetensors")
    return find_checkpoints(str(folder))


def test_json_lines_by_step_with_whatever_each_line_has(tmp_path: Path) -> None:
    log = read(
        tmp_path,
        lines({"step": 0, "loss": 3.5}, {"step": 10, "loss": 2, "lr": 1e-3}, {"step": 10, "val_loss": 2.5}) + "\n",
    )
    assert log.values == {"loss": {0: 3.5, 10: 2}, "lr": {10: 1e-3}, "val_loss": {10: 2.5}}
    assert log.told == ()


def test_numbers_in_quotes_nan_and_infinity_are_values(tmp_path: Path) -> None:
    text = '{"step": 1, "a": NaN, "b": "0.5", "c": "inf"}\n{"step": 2, "a": 1, "b": 1, "c": null}\n'
    log = read(tmp_path, text)
    assert math.isnan(log.values["a"][1]) and log.values["a"][2] == 1
    assert log.values["b"] == {1: 0.5, 2: 1} and log.values["c"] == {1: math.inf}


def test_what_is_not_a_number_is_skipped_and_reported(tmp_path: Path) -> None:
    log = read(tmp_path, lines({"step": 1, "phase": "train", "ok": True, "more": {"x": 1}, "loss": 1, "_runtime": 3}))
    assert log.values == {"loss": {1: 1}}
    assert log.told == ("skipped, because they are not numbers: more, ok, phase",)


def test_the_later_of_two_values_counts_and_a_resumed_run_replaces_what_it_trains_again(tmp_path: Path) -> None:
    again = read(tmp_path, lines(*({"step": s, "loss": v, "err": v} for s, v in ((1, 5.0), (2, 4.0), (2, 3.0)))))
    assert again.values == {"loss": {1: 5, 2: 3}, "err": {1: 5, 2: 3}}
    assert again.told == (
        f"loss, err: two values at 1 of 2 places, the last in {tmp_path}/log.jsonl, line 3: the later one counts",
    )
    same = read(tmp_path, lines({"step": 1, "loss": 5.0}, {"step": 1, "loss": 5.0}))
    assert same.told == ()
    steps = ((10, 5.0), (20, 4.0), (30, 3.0), (40, 2.0), (25, 9.0), (35, 8.0))
    resumed = read(tmp_path, lines(*({"step": s, "loss": v} for s, v in steps)))
    assert resumed.values == {"loss": {10: 5, 20: 4, 25: 9, 35: 8}}, "30 and 40 were trained again, or left"
    assert resumed.told == (f"loss: resumed in {tmp_path}/log.jsonl, line 5; earlier values dropped: 2",)


def test_another_metric_that_is_logged_late_is_no_resumption(tmp_path: Path) -> None:
    log = read(tmp_path, lines({"step": 10, "loss": 1}, {"step": 20, "loss": 2}, {"step": 10, "val_loss": 3}))
    assert log.values == {"loss": {10: 1, 20: 2}, "val_loss": {10: 3}} and log.told == ()


def test_tables_of_csv_with_empty_cells(tmp_path: Path) -> None:
    log = read(tmp_path, "epoch,step,train_loss,val_loss\n0,0,0.8,\n0,1,,0.9\n\n1,2,nan,0.5\n", "metrics.csv")
    assert log.values["val_loss"] == {1: 0.9, 2: 0.5} and log.values["train_loss"][0] == 0.8
    assert math.isnan(log.values["train_loss"][2]) and log.values["epoch"] == {0: 0, 1: 0, 2: 1}


def test_exports_of_weights_and_biases_and_of_tensorboard(tmp_path: Path) -> None:
    columns = ("Step", "run-a - train/loss", "run-a - train/loss__MIN", "run-a - train/loss__MAX")
    rows = (columns, ("0", "3", "3", "3"), ("5", "2", "2", "2"))
    text = "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)
    assert read(tmp_path, text, "wandb_export.csv").values == {"train/loss": {0: 3, 5: 2}}
    history = lines({"_step": 0, "_timestamp": 1.0, "_runtime": 2, "train/global_step": 50, "loss": 1.0})
    assert read(tmp_path, history).values == {"loss": {50: 1}}, "W&B counts its calls by _step"
    assert read(tmp_path, lines({"_step": 7, "loss": 1.0})).values == {"loss": {7: 1}}
    text = "Wall time,Step,Value\n1700000000.5,100,0.25\n1700000001.5,200,0.125\n"
    assert read(tmp_path, text, "run-1-tag-Loss_val.csv").values == {"Loss_val": {100: 0.25, 200: 0.125}}
    folder = tmp_path / "board"
    written(folder, text, "a-tag-loss.csv"), written(folder, text, "a-tag-err.csv")
    assert given_log(str(folder), series(tmp_path / "run")).values.keys() == {"loss", "err"}


def test_epochs_and_tokens_where_the_series_counts_them(tmp_path: Path) -> None:
    text = lines({"epoch": 0.5, "step": 5, "loss": 2}, {"epoch": 1, "step": 10, "loss": 1})
    assert read(tmp_path, text, unit="epochs").values["loss"] == {0.5: 2, 1: 1}
    assert read(tmp_path, lines({"tokens": 4000, "loss": 1}), unit="tokens").values == {"loss": {4000: 1}}
    assert read(tmp_path, text, unit="checkpoints").told == (
        "metrics are not read: the checkpoints count checkpoints, not steps",
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.jsonl",
            '{"step": 1}\n{"loss"}\n',
            r"a.jsonl, line 2: not JSON: expected an object a line, found '{\"loss\"}'",
        ),
        ("a.jsonl", '{"step": 1}\n[1]\n', r"a.jsonl, line 2: expected a JSON object"),
        (
            "a.jsonl",
            '{"step": 1, "a": 1}\n{"a": 2}\n',
            "a.jsonl, line 2: no step: expected a whole number of 0 or more",
        ),
        (
            "a.jsonl",
            '{"loss": 1, "lr": 2}\n',
            "a.jsonl, line 1: no count of steps .*expected one of step, .*loss, lr",
        ),
        ("a.jsonl", '{"step": -1, "a": 1}\n', "a.jsonl, line 1: step=-1 is not allowed"),
        ("a.jsonl", '{"step": 1.5, "a": 1}\n', "a.jsonl, line 1: step=1.5 is not allowed: expected a whole number"),
        ("a.jsonl", '{"step": NaN, "a": 1}\n', "a.jsonl, line 1: step=nan is not allowed"),
        ("a.jsonl", '{"step": "ten", "a": 1}\n', "a.jsonl, line 1: step='ten' is not allowed"),
        (
            "a.jsonl",
            '{"step": 1, "a": 1}\n{"step": 2, "a": "x"}\n',
            "a.jsonl, line 2: a is not a number here, but is one in .*a.jsonl, line 1",
        ),
        ("a.csv", "step,loss\n1,2\n2\n", "a.csv, line 3: expected 2 columns as in line 1, found 1"),
        ("a.csv", "step,loss\n1,2\n,3\n", "a.csv, line 3: step='' is not allowed"),
        ("a.csv", "loss,err\n1,2\n", "a.csv, line 2: no count of steps"),
        ("a.csv", "step,a,a\n1,2,3\n", "a.csv, line 1: two columns are called 'a'"),
        ("a.csv", "", "a.csv, line 1: the file is empty"),
        ("a.csv", "step,loss\n", "a.csv: no metrics: expected numbers by one of step"),
        ("a.json", "{}", "a.json: no list of records called log_history"),
        ("a.json", "[", "a.json: expected a JSON object"),
        ("a.txt", "step,loss\n1,2\n", r"a.txt' is not allowed: expected a file of JSON lines \(.jsonl, .ndjson\)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_file_and_line(name: str, text: str, said: str, tmp_path: Path) -> None:
    found, url = series(tmp_path / "run"), written(tmp_path, text, name)
    with pytest.raises(ValueError, match=said):
        given_log(url, found)


def test_files_that_are_not_there_or_not_text_are_refused(tmp_path: Path) -> None:
    found = series(tmp_path / "run")
    with pytest.raises(ValueError, match=r"nosuch\.csv: no such file of metrics"):
        given_log(str(tmp_path / "nosuch.csv"), found)
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"a\.csv: not a text file of metrics"):
        given_log(str(tmp_path / "a.csv"), found)


def test_a_line_that_is_being_written_is_passed_over(tmp_path: Path) -> None:
    log = read(tmp_path, '{"step": 1, "loss": 2}\n{"step": 2, "lo')
    assert log.values == {"loss": {1: 2}} and log.told == (f"{tmp_path}/log.jsonl, line 2 is incomplete and skipped",)


def test_what_lies_beside_is_found_in_this_order(tmp_path: Path) -> None:
    found = series(tmp_path)
    assert find_log(found) == Log()
    written(tmp_path, "step,loss\n10,4\n", "metrics.csv")
    assert find_log(found).values == {"loss": {10: 4}}
    written(tmp_path / "metrics", lines({"step": 10, "loss": 3}), "0.jsonl")
    written(tmp_path / "metrics", lines({"step": 20, "loss": 2}), "1.jsonl")
    log = find_log(found)
    assert log.values == {"loss": {10: 3, 20: 2}} and len(log.files) == 2
    written(tmp_path, lines({"step": 10, "loss": 1}), "metrics.jsonl")
    log = find_log(found)
    assert log.values == {"loss": {10: 1}}
    assert log.told == tuple(
        f"metrics in {tmp_path}/{name} are ignored, as {tmp_path}/metrics.jsonl exists"
        for name in ("metrics/0.jsonl", "metrics.csv")
    )


def test_an_unreadable_checkpoint_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    found = series(tmp_path)
    url = written(tmp_path, lines({"name": "a"}), "metrics.jsonl")
    log = find_log(found)
    assert (log.files, log.values) == ((url,), {})
    assert log.told[0].startswith(f"metrics are not read: {url}, line 1: no count of steps")
    with pytest.raises(ValueError, match="no count of steps"):
        given_log(url, found)


def test_the_history_of_the_trainer_without_times_and_means_over_the_whole(tmp_path: Path) -> None:
    found = find_checkpoints(str(by_hugging_face(tmp_path)))
    log = find_log(found)
    assert log.files == (f"{tmp_path}/checkpoint-30/trainer_state.json",)
    assert set(log.values) == {"loss", "eval_loss", "learning_rate", "grad_norm", "epoch"}
    history = json.loads((tmp_path / "checkpoint-30/trainer_state.json").read_text())["log_history"]
    assert log.values["loss"] == {r["step"]: r["loss"] for r in history if "loss" in r}
    assert list(log.values["loss"]) == [5, 10, 15, 20, 25, 30] and list(log.values["eval_loss"]) == [10, 20, 30]


def test_the_log_of_lightning_above_its_folder_of_checkpoints(tmp_path: Path) -> None:
    folder = by_lightning(tmp_path)
    log = find_log(find_checkpoints(str(folder)))
    assert log.files == (f"{folder.parent}/metrics.csv",)
    assert list(log.values["train_loss"]) == list(range(12)) and list(log.values["val_loss"]) == [3, 7, 11]
