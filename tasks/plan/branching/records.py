"""Graphs as records in the store, and back."""

import dataclasses

from specdyn.models.experiments.base import read_spec
from specdyn.models.spec.run_spec import to_json
from specdyn.storage.graphs import KINDS, GraphRecord, PairRecord, not_a_record, read_graph
from specdyn.storage.places import Store
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.plan.branching.graph import Graph


def record_of(graph: Graph) -> GraphRecord:
    """What the store keeps of a graph."""
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
    return GraphRecord(
        name=graph.name,
        kind=graph.kind,
        experiment=graph.experiment,
        splits=graph.splits,
        runs={run_id: to_json(spec) for run_id, spec in graph.runs.items()},
        trunks=trunks,
        branches=branches,
        tickets=tickets,
        pairs=tuple(pairs),
    )


def graph_of(record: GraphRecord) -> Graph:
    """The graph of a record; ValueError, KeyError or TypeError where its runs are not what it says."""
    runs = {run_id: read_spec(text, record.experiment) for run_id, text in record.runs.items()}
    for run_id, spec in runs.items():
        if spec.run_id != run_id:
            raise ValueError(f"run {run_id} has the spec of {spec.run_id}")
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
    """The graphs of that name, of pairs and of tickets; StoreError where a record cannot be read."""
    records = [record for kind in KINDS if (record := read_graph(store, name, kind))]
    graphs = []
    for record in records:
        try:
            graphs.append(graph_of(record))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise not_a_record(store.graph(name, record.kind), error) from None
    return graphs
