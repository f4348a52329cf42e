"""Labels of series: what is typed, what files beside the checkpoints say, what is refused."""

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from helpers.trainers import by_hugging_face, by_lightning
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.tasks.foreign.labels import Labels, labels_of, read_labels, require_alike


def series(folder: Path) -> Path:
    """A folder with one checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"up.weight": torch.ones(3, 2)}, folder / "step=10.safetensors")
    return folder


def labels(folder: Path, **given: Any) -> Labels:
    return labels_of(find_checkpoints(str(folder)), given)


def test_labels_are_typed_as_they_are_written() -> None:
    typed = read_labels(["a=1", "b=1.0", "c=1e-4", "d=true", "e=False", "f=adamw", "g=x=y", "h=-3"])
    assert typed == {"a": 1, "b": 1.0, "c": 1e-4, "d": True, "e": False, "f": "adamw", "g": "x=y", "h": -3}
    assert [type(typed[name]) for name in "abde"] == [int, float, bool, bool]
    with pytest.raises(ValueError, match="label='seed' is not allowed: expected NAME=VALUE"):
        read_labels(["seed"])
    with pytest.raises(ValueError, match="expected seed once"):
        read_labels(["seed=0", "seed=1"])


def test_a_file_beside_the_checkpoints_says_what_a_call_does_not(tmp_path: Path) -> None:
    folder = series(tmp_path / "run")
    (folder / "labels.json").write_text(
        '{"weight_decay": 1, "seed": 0, "tied": true, "optimizer": "sgd", "note": null}'
    )
    found = labels(folder, seed=3, weight_decay=1.0)
    assert found.values == {"seed": 3, "weight_decay": 1.0, "tied": True, "optimizer": "sgd"}
    assert found.origins["tied"] == "labels.json" and found.origins["seed"] == "--label"
    assert found.told == ("seed=3 (--label) counts, not 0 (labels.json)",), "1 and 1.0 are no conflict"
    assert found.described[0] == "labels: seed=3, weight_decay=1 (--label); tied=true, optimizer=sgd (labels.json)"
    assert labels(folder / "step=10.safetensors").values["seed"] == 0, "also beside a single file"
    assert "labels.json" not in str(find_checkpoints(str(folder)).skipped)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "one", "a whole number"),
        ("seed", 0.5, "a whole number"),
        ("seed", True, "a whole number"),
        ("weight_decay", "high", "a number"),
        ("a", float("nan"), r"a finite number below 2\*\*63"),
        ("a", 2**63, r"a finite number below 2\*\*63"),
        ("a", [1], "true, false, a number or a word"),
        ("a", "", "true, false, a number or a word"),
        ("rank", 4, "another name, as 'rank' is a part of the results"),
        ("effective_rank", 4, "another name, as 'effective_rank'"),
        ("series", "a", "another name"),
        ("status", "a", "another name"),
        ("grok_step", 4, "another name"),
        ("train/loss", 4, "a name of letters, digits and _"),
    ],
)
def test_what_is_no_label_is_refused_with_its_place(name: str, value: Any, expected: str, tmp_path: Path) -> None:
    folder = series(tmp_path)
    with pytest.raises(ValueError, match=f"^label {name}=.* is not allowed: expected {expected}"):
        labels(folder, **{name: value})
    (folder / "labels.json").write_text(json.dumps({"good": 1, name: value}))
    found = labels(folder)
    assert found.values == {"good": 1}
    (told,) = found.told
    assert re.match(re.escape(f"{name}={value!r} of labels.json is not a label: expected ") + expected, told)


@pytest.mark.parametrize("text", ["", "{", "\x00", "seed: 1"])
def test_a_file_of_labels_that_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    folder = series(tmp_path)
    (folder / "labels.json").write_text(text)
    with pytest.raises(ValueError, match=r"labels.json: not JSON .*expected labels such as"):
        labels(folder)


@pytest.mark.parametrize(
    "other", [["cat", "dog"], "a", {"0": "cat", "1": "dog"}, {f"class{i}": i for i in range(1000)}]
)
def test_the_classes_of_a_data_set_are_no_labels(other: Any, tmp_path: Path) -> None:
    folder = series(tmp_path)
    (folder / "labels.json").write_text(json.dumps(other))
    assert labels(folder) == Labels()


def test_the_arguments_of_the_trainer_of_hugging_face_are_read(tmp_path: Path) -> None:
    folder = by_hugging_face(
        tmp_path, weight_decay=0.3, learning_rate=2e-3, seed=5, max_steps=10, lr_scheduler_type="cosine", warmup_steps=2
    )
    found = labels(folder)
    expected = {"weight_decay": 0.3, "learning_rate": 2e-3, "seed": 5, "max_steps": 10, "lr_scheduler_type": "cosine"}
    assert expected.items() <= found.values.items()
    assert found.values["warmup_steps"] == 2 and found.values["per_device_train_batch_size"] == 4
    assert set(found.origins.values()) == {"training_args.bin"} and found.by_hand == ()
    assert not {"output_dir", "logging_steps", "report_to"} & found.values.keys()
    assert found.described[0].endswith(" more (training_args.bin)"), "not all of them"
    assert labels(folder, seed=1).told == ("seed=1 (--label) counts, not 5 (training_args.bin)",)


def test_settings_that_lightning_keeps_are_read(tmp_path: Path) -> None:
    folder = by_lightning(tmp_path, weight_decay=0.3, seed=2, layers=[1], shape=(1, 2), rank=4, name="x")
    assert "!!python/tuple" in (folder.parent / "hparams.yaml").read_text()
    found = labels(folder)
    assert found.values == {"weight_decay": 0.3, "seed": 2, "name": "x"}
    assert found.told == (
        "rank=4 of hparams.yaml is not a label: expected another name, as 'rank' is a part of the results",
    )


def test_nothing_that_a_file_names_is_run(tmp_path: Path) -> None:
    folder, harm = series(tmp_path), tmp_path / "harm"

    class Arguments:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {harm}",)

    torch.save({"seed": Arguments()}, folder / "training_args.bin")
    (folder / "hparams.yaml").write_text(
        f"seed: 4\nbad: !!python/object/apply:os.system ['touch {harm}']\nworse: !!python/name:os.system\n"
    )
    assert labels(folder).values == {"seed": 4}
    (folder / "training_args.bin").write_bytes(pickle.dumps(Arguments()))
    (folder / "hparams.yaml").write_text("a: [1\n")
    assert labels(folder).values == {} and not harm.exists()


def test_one_kind_of_a_label_for_all_series() -> None:
    def one(**values: Any) -> Labels:
        return Labels(values=values, origins=dict.fromkeys(values, "--label"))

    require_alike({"a": one(width=1, tied=True), "b": one(width=2.5), "c": one(tied=False)})
    for left, right, said in (
        (1, "wide", "a number, 1, of a and a word, wide, of b"),
        (True, 1, "true or false, true, of a and a number, 1, of b"),
    ):
        with pytest.raises(ValueError, match=f"label width is {said}: expected one kind for all"):
            require_alike({"a": one(width=left), "b": one(width=right)})
