"""Records of graphs: what is written is read back, what is not a record is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.schema import SCHEMA_VERSION
from specdyn.storage.studies import read_study, record_study, study_names
from specdyn.tasks.plan.branching.graph import Graph, Lines, Noise, connectivity_graph, ticket_graph, trunk_specs
from specdyn.tasks.plan.branching.records import read_graphs, record_of

NAME = "modular_addition"
TRUNKS = trunk_specs(NAME, "smoke", (0, 1), {"steps": 40, "weight_decay": 1.0})
PAIRS = connectivity_graph(
    "g",
    TRUNKS,
    (0, 20),
    (3, 4),
    Noise(sizes=(0.0, 0.25), directions=("random", "top")),
    Lines(layerwise=True, curve_steps=3, points=5),
)
TICKETS = ticket_graph("g", TRUNKS, 20, (0.5, 0.3), ("iterative", "random"), (7,))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a graph of pairs and one of tickets under one name."""
    store = Store(str(tmp_path))
    for graph in (PAIRS, TICKETS):
        record_study(store, record_of(graph))
    return store


def test_graphs_come_back_as_they_were(store: Store) -> None:
    assert read_graphs(store, "g") == [PAIRS, TICKETS]
    back = read_graphs(store, "g")[0]
    assert {pair.pair_id: pair.kind for pair in back.pairs} == {pair.pair_id: pair.kind for pair in PAIRS.pairs}
    assert read_graphs(store, "other") == []
    assert study_names(store) == [("g", "connectivity"), ("g", "tickets")]


@pytest.mark.parametrize("name", ["paper", "smoke"])
def test_settings_of_every_kind_come_back(name: str, tmp_path: Path) -> None:
    # Milestones are a tuple, the network and the data are classes of their own.
    trunks = trunk_specs("image_classification", name, (0,), {})
    graph = connectivity_graph("images", trunks, (0,), (3, 4))
    record_study(Store(str(tmp_path)), record_of(graph))
    assert read_graphs(Store(str(tmp_path)), "images") == [graph]


def test_a_call_of_another_grid_adds_to_the_record(store: Store) -> None:
    other = connectivity_graph("g", TRUNKS[:1], (30,), (3, 5))
    record_study(store, record_of(other))
    record_study(store, record_of(other))
    pairs, tickets = read_graphs(store, "g")
    assert tickets == TICKETS
    assert (pairs.trunks, pairs.splits) == (PAIRS.trunks, (0, 20, 30))
    assert pairs.branches == (*PAIRS.branches, *other.branches)
    assert pairs.pairs == (*PAIRS.pairs, *other.pairs)


def test_names_that_look_like_another_kind_stay_apart(tmp_path: Path) -> None:
    graph = dataclasses.replace(PAIRS, name="a-tickets")
    record_study(Store(str(tmp_path)), record_of(graph))
    assert study_names(Store(str(tmp_path))) == [("a-tickets", "connectivity")]
    assert read_graphs(Store(str(tmp_path)), "a") == []
    assert read_graphs(Store(str(tmp_path)), "a-tickets") == [graph]


def changed(field: str, value: Any) -> bytes:
    plain = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(record_of(PAIRS))}
    return json.dumps({**plain, field: value}).encode()


RUN = PAIRS.trunks[0].run_id
DAMAGED = {
    "cut": changed("name", "g")[:-100],
    "foreign": b'{"schema_version": 2, "name": "g", "experiment": "modular_addition", "preset": "demo", "specs": []}',
    "list": b"[1, 2]",
    "bytes": b"\x93NUMPY\xff\x00",
    "other name": changed("name", "h"),
    "other kind": changed("kind", "tickets"),
    "run missing": changed("specs", []),
    "spec of another run": changed("specs", [*record_of(PAIRS).specs[1:], record_of(PAIRS).specs[1]]),
    "unknown experiment": changed("experiment", "knitting"),
    "pair without points": changed("pairs", [{"a": RUN, "b": RUN, "kind": "within"}]),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_not_a_record_is_refused(case: str, store: Store) -> None:
    url = store.study("g", "connectivity")
    Path(url).write_bytes(DAMAGED[case])
    with pytest.raises(StoreError, match=r"g/connectivity\.json is not the record of a study .*delete it, and call"):
        read_graphs(store, "g")


def test_a_record_of_a_newer_layout_is_refused_as_such(store: Store) -> None:
    Path(store.study("g", "connectivity")).write_bytes(changed("schema_version", 99))
    with pytest.raises(StoreError, match="schema version 99"):
        read_study(store, "g", "connectivity")


def test_the_undamaged_record_of_these_cases_is_read(store: Store) -> None:
    Path(store.study("g", "connectivity")).write_bytes(changed("name", "g"))
    graphs: list[Graph] = read_graphs(store, "g")
    assert graphs[0] == PAIRS
