"""Converts graphs to records in the store, and back."""

import dataclasses
from collections.abc import Sequence

from specdyn.models.experiments.base import present_specs, read_spec
from specdyn.models.spec.run_spec import RunSpec, to_json
from specdyn.storage.places import Store
from specdyn.storage.studies import PairRecord, StudyKind, StudyRecord, legible, read_study
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.plan.branching.graph import Graph

KINDS: tuple[StudyKind, ...] = ("connectivity", "tickets")


def record_of(graph: Graph) -> StudyRecord:
    """The record of a graph."""
    pairs = [
        PairRecord(
            a=pair.a.run_id,
            b=pair.b.run_id,
            kind=pair.kind,
            layerwise=pair.layerwise,
            curve_steps=pair.curve_steps,
            points=pair.points,
        )
        for pair in graph.pairs
    ]
    trunks, branches, tickets = (
        tuple(spec.run_id for spec in specs) for specs in (graph.trunks, graph.branches, graph.tickets)
    )
    return StudyRecord(
        name=graph.name,
        kind=graph.kind,
        experiment=graph.experiment,
        splits=graph.splits,
        specs=tuple(to_json(spec) for spec in graph.runs.values()),
        trunks=trunks,
        branches=branches,
        tickets=tickets,
        pairs=tuple(pairs),
    )


def graph_of(record: StudyRecord) -> Graph:
    """The graph of a record; ValueError, KeyError or TypeError if its runs are invalid."""
    return _graph(record, [read_spec(text, record.experiment) for text in record.specs])


def present_graph(record: StudyRecord) -> Graph:
    """The graph of a record, without runs of another version of the experiment's source; the same errors."""
    specs = present_specs(record.specs, record.experiment)
    if len(specs) == len(record.specs):
        return _graph(record, specs)
    ids = {spec.run_id for spec in specs}
    trunks, branches, tickets = (
        tuple(one for one in of if one in ids) for of in (record.trunks, record.branches, record.tickets)
    )
    pairs = tuple(pair for pair in record.pairs if {pair.a, pair.b} <= ids)
    present = dataclasses.replace(record, trunks=trunks, branches=branches, tickets=tickets, pairs=pairs)
    return _graph(present, specs)


def _graph(record: StudyRecord, specs: Sequence[RunSpec]) -> Graph:
    """The graph of a record with these runs."""
    runs = {spec.run_id: spec for spec in specs}
    if others := sorted({spec.experiment for spec in specs} - {record.experiment}):
        raise ValueError(f"it is of {record.experiment!r} and has runs of {others[0]!r}")
    pairs = [Pair(**{**dataclasses.asdict(pair), "a": runs[pair.a], "b": runs[pair.b]}) for pair in record.pairs]
    trunks, branches, tickets = (
        tuple(runs[run_id] for run_id in ids) for ids in (record.trunks, record.branches, record.tickets)
    )
    return Graph(
        name=record.name,
        experiment=record.experiment,
        trunks=trunks,
        splits=record.splits,
        branches=branches,
        pairs=tuple(pairs),
        tickets=tickets,
    )


def read_graphs(store: Store, name: str) -> list[Graph]:
    """The graphs of that name, of pairs and of tickets; StoreError if a record cannot be read."""
    records = [record for kind in KINDS if (record := read_study(store, name, kind))]
    graphs = []
    for record in records:
        with legible(store, name, record.kind):
            graph_of(record)
        graphs.append(present_graph(record))  # a missing experiment does not make the record invalid
    return [graph for graph in graphs if graph.runs]
