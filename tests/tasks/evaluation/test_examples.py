"""How many examples there are to train on, told without making them."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from reference.samples import sample_arrays
from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import experiment_names, get_experiment
from specdyn.models.spec.data import Images
from specdyn.storage.places import Store
from specdyn.tasks.data import prepare
from specdyn.tasks.evaluation.examples import count_train_examples, load_examples

SMOKE = {name: get_experiment(name).preset("smoke").spec for name in experiment_names()}
CHANGES: dict[str, list[dict[str, Any]]] = {
    "modular_addition": [{"mirrored_together": True}],
    "image_classification": [{"train_fraction": 1.0}, {"train_fraction": 0.5, "labels": "random"}],
    "image_generation": [{"train_fraction": 1.0}, {"train_fraction": 0.013}],
}


@pytest.mark.parametrize("name", SMOKE)
def test_as_many_are_counted_as_are_made(name: str, local_store: Store) -> None:
    spec = SMOKE[name]
    if needed := get_experiment(name).dataset(spec):
        prepare.prepare(local_store, get_dataset(*needed))
    for changes in ({}, *CHANGES.get(name, [])):
        other = dataclasses.replace(spec, data=dataclasses.replace(spec.data, **changes))
        count = count_train_examples(other, local_store)
        assert count == len(load_examples(other, local_store)["train"].targets) > 0


def test_a_set_without_a_split_of_its_own_has_nine_of_ten_and_no_array_is_read() -> None:
    def read(name: str) -> Any:
        pytest.fail(f"{name} was read")

    assert Images(dataset="cifar10").train_examples({"label": (50_000,), "image": (50_000, 3, 32, 32)}, read) == 45_000
    assert Images(dataset="mnist", train_fraction=0.1).train_examples({"label": (60_000,)}, read) == 5_400
    with pytest.raises(ValueError, match=r"train_fraction=0\.1 is not allowed: expected 0\.111 or more"):
        Images(train_fraction=0.1).train_examples({"label": (10,)}, read)


def test_of_a_set_with_a_split_of_its_own_that_array_alone_is_read(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SMOKE["image_classification"]
    prepare.prepare(local_store, get_dataset("photos", "sample"))
    read: list[str] = []
    real = prepare.datasets._read_array
    monkeypatch.setattr(
        prepare.datasets, "_read_array", lambda url, name, *more: read.append(name) or real(url, name, *more)
    )
    expected = int(np.sum(~sample_arrays("photos")["validation"]) * spec.data.train_fraction)
    assert count_train_examples(spec, local_store) == expected
    assert read == ["validation"]


def test_a_data_set_that_is_not_there_is_named(local_store: Store) -> None:
    with pytest.raises(prepare.NotPrepared, match="data set photos/sample"):
        count_train_examples(SMOKE["image_classification"], local_store)
