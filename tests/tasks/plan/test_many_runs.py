"""What looking at many runs asks of a store."""

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from helpers.analysed import analyse
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access import objects, records
from specdyn.storage.access.codec import decode
from specdyn.storage.checkpoints import (
    LISTED_ALONE,
    DamagedCheckpoint,
    Manifest,
    mark_damaged,
    read_manifest,
    write_manifest,
)
from specdyn.storage.places import Store
from specdyn.tasks.identity import results_id
from specdyn.tasks.plan import cells
from specdyn.tasks.plan.cells import Cell, listed, look_at
from specdyn.tasks.plan.sweeps import Sweep, label

SPEC = with_settings(get_experiment("modular_addition").preset("smoke").spec, steps=20, checkpoint_every=10)
SPECS = [dataclasses.replace(SPEC, seed=seed) for seed in range(LISTED_ALONE + 4)]
ANALYSES = ("spectrum",)


SWEEP = Sweep(name="x", experiment=SPEC.experiment, preset="smoke", specs=tuple(SPECS), analyses=ANALYSES)


@pytest.fixture
def store(local_store: Store) -> Store:
    """A store in which two of many runs are done."""
    analyse(dataclasses.replace(SWEEP, specs=SWEEP.specs[:2]), local_store.url)
    return local_store


def read_manifest_of(text: str, sha256: str) -> Manifest:
    """The manifest with another digest of its first checkpoint."""
    manifest = decode(Manifest, "", text.encode())
    first = dataclasses.replace(manifest.checkpoints[0], sha256=sha256)
    return dataclasses.replace(manifest, checkpoints=(first, *manifest.checkpoints[1:]))


def forget() -> None:
    """As in another process, which has read no manifest."""
    cells._READ.clear()


def looked_at(store: Store) -> list[Cell]:
    """All runs, as a sweep looks at them."""
    return SWEEP.cells(store)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests by kind, as object storage would be sent them."""
    counts: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        usual = getattr(module, name)

        def counted(*arguments: Any) -> Any:
            counts[name] += 1
            return usual(*arguments)

        monkeypatch.setattr(module, name, counted)

    for name in ("read", "read_range", "names", "names_below", "find", "exists"):
        count(objects, name)
    count(records, "listing_below")
    return counts


def test_many_runs_take_three_listings_and_a_read_for_each_that_is_trained(store: Store, asked: Counter[str]) -> None:
    looked = looked_at(store)
    assert [cell.state for cell in looked] == ["done"] * 2 + ["new"] * (len(SPECS) - 2)
    assert asked == {"listing_below": 1, "names_below": 1, "names": 1, "read": 2}


def test_manifests_that_the_cube_remembers_are_not_read(store: Store, asked: Counter[str]) -> None:
    SWEEP.record(store)
    SWEEP.results(store).write(None)
    before = looked_at(store)
    forget()
    asked.clear()
    assert looked_at(store) == before
    assert asked == {"listing_below": 1, "names_below": 1, "names": 1}


def test_a_manifest_that_changed_since_is_read_whatever_the_cube_remembers(store: Store) -> None:
    SWEEP.record(store)
    SWEEP.results(store).write(None)
    run, other = (store.run_of(spec) for spec in SPECS[:2])
    manifest = read_manifest(run)
    assert manifest
    mark_damaged(store, manifest, "a checkpoint does not verify")
    # The other one is written anew by hand, of the same length, as another machine would train it.
    text = Path(other.manifest).read_text()
    entry = json.loads(text)["checkpoints"][0]["sha256"]
    Path(other.manifest).unlink()
    changed = read_manifest_of(text, entry[::-1])
    write_manifest(store, changed)
    looked = looked_at(store)
    assert [cell.state for cell in looked[:2]] == ["damaged", "trained"]
    assert looked[1].results == results_id(changed)


def test_a_cube_that_remembers_nonsense_is_not_believed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = looked_at(store)
    tag = listed(store, SPEC.experiment).tag(store.run_of(SPECS[0]))
    for remembered in ("", "[]", "{", "[1, 2", json.dumps(["other", "x", "y", [0]]), json.dumps([tag, "x", "y"])):
        monkeypatch.setattr("specdyn.storage.cube.trained_runs", lambda _, told=remembered: {SPECS[0].run_id: told})
        forget()
        assert looked_at(store) == before


def test_a_run_looked_at_by_itself_is_seen_alike(store: Store) -> None:
    alone = [look_at(spec, label(spec, SWEEP.varied), ANALYSES, store) for spec in SPECS]
    assert alone == [dataclasses.replace(cell, remembered="") for cell in looked_at(store)]


def test_a_process_reads_each_manifest_once(store: Store, asked: Counter[str]) -> None:
    before = looked_at(store)
    asked.clear()
    assert looked_at(store) == before
    assert asked == {"listing_below": 1, "names_below": 1, "names": 1}


def test_few_runs_are_listed_together_unless_their_store_has_many_others(
    store: Store, asked: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dataclasses.replace(SWEEP, specs=SWEEP.specs[:3])
    together = few.cells(store)
    assert (asked["read"], asked["listing_below"]) == (2, 1)
    monkeypatch.setattr(cells, "PAGE", 1)
    asked.clear()
    alone = few.cells(store)
    assert alone == [dataclasses.replace(cell, remembered="") for cell in together]
    assert asked["read"] == 3, "one for each"


def test_a_damaged_manifest_among_many_is_named(store: Store) -> None:
    place = store.run_of(SPECS[1]).manifest
    Path(place).write_text(Path(place).read_text().replace("complete", "compleat"))
    with pytest.raises(DamagedCheckpoint, match=rf"{SPECS[1].run_id}: {re.escape(place)} is not a manifest"):
        looked_at(store)
