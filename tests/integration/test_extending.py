"""Calls that extend a sweep, as those of a schedule do."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.pipelines import NAME, sweep
from specdyn.storage.access.objects import delete
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.plan.sweeps import make_sweep

pytestmark = pytest.mark.integration

NIGHTLY: dict[str, Any] = {"sweep": "nightly", "weight_decays": [0.0, 1.0], "seeds": [3], "more_seeds": 2}
NIGHTLY["analyses"] = ["spectrum"]


def seeds(store: str) -> list[int]:
    return sorted(set(open_results(Store(store).cube("nightly"))["layers"]["seed"].values.tolist()))


def test_each_call_adds_new_seeds_once_all_is_done(prefect_server: None, local_store: Store) -> None:
    first = sweep(local_store.url, **NIGHTLY, executor="inline")
    assert (len(first.ran), seeds(local_store.url)) == (2, [3])
    planned = sweep(local_store.url, **NIGHTLY, dry_run=True)
    assert [label.split(" (")[0] for label in planned.todo] == [
        "wd=0 seed=4",
        "wd=1 seed=4",
        "wd=0 seed=5",
        "wd=1 seed=5",
    ]
    second = sweep(local_store.url, **NIGHTLY, executor="inline")
    assert (len(second.ran), seeds(local_store.url)) == (4, [3, 4, 5])


def test_what_is_not_done_comes_first(prefect_server: None, local_store: Store) -> None:
    sweep(local_store.url, **NIGHTLY, executor="inline")
    chosen = make_sweep(NAME, "smoke", [0.0, 1.0], [3], "nightly", NIGHTLY["analyses"])
    adding = replace(chosen, more_seeds=2)
    assert sorted({spec.seed for spec in adding.checked(local_store, asks=True).specs}) == [3, 4, 5]
    run = chosen.specs[1].run_id
    delete(local_store.run(NAME, run).manifest)
    assert [spec.seed for spec in adding.checked(local_store, asks=True).specs] == [3, 3]
    assert chosen.checked(local_store, asks=True) == chosen


def test_a_new_value_extends_the_sweep_with_its_seeds(prefect_server: None, local_store: Store) -> None:
    sweep(local_store.url, **NIGHTLY, executor="inline")
    wider = make_sweep(NAME, "smoke", [0.5], [3], "nightly", NIGHTLY["analyses"])
    extended = replace(wider, more_seeds=1).checked(local_store, asks=True).specs
    assert [(spec.decay.weight_decay, spec.seed) for spec in extended] == [(0.0, 3), (1.0, 3), (0.5, 3)]
