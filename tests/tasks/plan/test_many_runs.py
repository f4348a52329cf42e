"""What looking at many runs asks of a store."""

import dataclasses
from collections import Counter
from typing import Any

import pytest

from helpers.analysed import analyse
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.tasks.plan.cells import LISTED_ALONE, look_at, look_at_all
from specdyn.tasks.plan.sweeps import Sweep, label

SPEC = with_settings(get_experiment("modular_addition").preset("smoke").spec, steps=20, checkpoint_every=10)
SPECS = [dataclasses.replace(SPEC, seed=seed) for seed in range(LISTED_ALONE + 4)]
ANALYSES = ("spectrum",)


@pytest.fixture
def store(local_store: Store) -> Store:
    """A store in which two of many runs are done."""
    done = tuple(SPECS[:2])
    analyse(Sweep(name="x", experiment=SPEC.experiment, preset="smoke", specs=done, analyses=ANALYSES), local_store.url)
    return local_store


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests by kind, as object storage would be sent them."""
    counts: Counter[str] = Counter()

    def count(name: str) -> None:
        usual = getattr(objects, name)

        def counted(*arguments: Any) -> Any:
            counts[name] += 1
            return usual(*arguments)

        monkeypatch.setattr(objects, name, counted)

    for name in ("read", "read_range", "names", "names_below", "find", "exists"):
        count(name)
    return counts


def test_many_runs_take_three_listings_and_a_read_for_each_that_is_trained(store: Store, asked: Counter[str]) -> None:
    cells = look_at_all(SPECS, list(map(label, SPECS)), ANALYSES, store)
    assert [cell.state for cell in cells] == ["done"] * 2 + ["new"] * (len(SPECS) - 2)
    assert asked == {"names_below": 2, "names": 1, "read": 2}


def test_a_run_looked_at_by_itself_is_seen_alike(store: Store) -> None:
    together = look_at_all(SPECS, list(map(label, SPECS)), ANALYSES, store)
    assert together == [look_at(spec, label(spec), ANALYSES, store) for spec in SPECS]
