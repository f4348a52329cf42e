"""Records of graphs: which runs, pairs and tickets the last call of that name asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

from specdyn.storage.access import objects
from specdyn.storage.access.codec import decode, encode
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import change_record, newest_place, read_record
from specdyn.storage.places import Store

KINDS = ("connectivity", "tickets")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRecord:
    """Two runs by their ids, and how the line between them is measured."""

    a: str
    b: str
    kind: str
    layerwise: bool
    curve_steps: int
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRecord:
    """All that a graph is made of, runs by their ids in the order they were asked for."""

    name: str
    kind: str
    experiment: str
    splits: tuple[int, ...]
    runs: Mapping[str, str]
    """Canonical JSON of the specs of all runs."""
    trunks: tuple[str, ...]
    branches: tuple[str, ...]
    tickets: tuple[str, ...]
    pairs: tuple[PairRecord, ...]


def write_graph(store: Store, record: GraphRecord) -> None:
    """Put the record as the newest version.

    It replaces the one before it, where a sweep's is extended, and the cube with it: lines of other lengths or
    networks of other shapes do not fit in one. What was measured stays, and a call that asks for all of it gathers
    it again.
    """
    text = encode(record)
    change_record(store.graph(record.name, record.kind), lambda _: text)


def read_graph(store: Store, name: str, kind: str) -> GraphRecord | None:
    """The record of that name and kind, or None; StoreError where something else lies in its place."""
    url = store.graph(name, kind)
    text = read_record(url)
    if text is None:
        return None
    try:
        record = decode(GraphRecord, url, text)
        if (record.name, record.kind) != (name, kind):
            raise ValueError(f"it says {record.name!r}, {record.kind!r}")
    except ValueError as error:
        raise not_a_record(url, error) from None
    return record


def not_a_record(url: str, error: Exception) -> StoreError:
    """What to say and to do where a record cannot be read."""
    return StoreError(
        f"{newest_place(url)} is not the record of a graph ({error}); delete it, and call "
        "`specdyn connect` or `specdyn tickets` as before to have it written again"
    )


def graph_names(store: Store) -> list[tuple[str, str]]:
    """Name and kind of every graph of a store; one listing."""
    found = objects.names(store.graphs)
    ends = {f"-{kind}.json": kind for kind in KINDS}
    return [
        (name.removesuffix(end), kind)
        for name in found
        for end, kind in ends.items()
        if name.endswith(end) and name != end
    ]
