"""From what was measured of a graph to its cube and its figures; done by one process."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import Manifest
from specdyn.storage.graphs import read_graph
from specdyn.storage.pairs import Values, read_values, write_dataset
from specdyn.storage.places import Store
from specdyn.tasks.connect import cube as pairs
from specdyn.tasks.connect import tickets
from specdyn.tasks.connect.between import LINE
from specdyn.tasks.connect.declared import variables_of
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.figures import connectivity
from specdyn.tasks.figures import tickets as ticket_figures
from specdyn.tasks.figures.style import to_png
from specdyn.tasks.plan.branching.graph import (
    Graph,
    ended_runs,
    finished_runs,
    measured_pairs,
    measured_tickets,
)
from specdyn.tasks.plan.branching.records import record_of
from specdyn.tasks.plan.contents import note, noted, stored_contents


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCube:
    """The cube that a graph has, or will have, of all that is measured by now."""

    graph: Graph
    store: Store
    measured: Mapping[Pair, str] | Mapping[RunSpec, str]
    """Where the values of each pair or ticket lie."""

    @property
    def url(self) -> str:
        """Where the cube lies."""
        return cube_place(self.graph, self.store)

    @property
    def contents(self) -> str:
        """What decides all that it holds: the graph, what is measured of it by ids that say of what, and the labels."""
        metrics = get_experiment(self.graph.experiment).metrics(self.graph.trunks[0])
        of = tickets.TICKET if self.graph.tickets else LINE
        declared = {name: dataclasses.asdict(variable) for name, variable in variables_of(of, metrics).items()}
        measured = [url.rsplit("/", 1)[-1] for url in self.measured.values()]
        decides = [dataclasses.asdict(record_of(self.graph)), measured, declared]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    @property
    def figures(self) -> list[str]:
        """The URLs of its figures."""
        folder = self.store.report(self.graph.name)
        if self.graph.tickets:
            return [f"{folder}/tickets.png"]
        kinds = {pair.kind for pair in self.measured if isinstance(pair, Pair)}
        drawn = {"connectivity": bool(kinds - {"perturbed"}), "perturbation": "perturbed" in kinds}
        return [f"{folder}/{name}.png" for name, there in drawn.items() if there]

    @property
    def note(self) -> str:
        """Where it is noted of which contents the figures were drawn."""
        return f"{self.store.report(self.graph.name)}/{self.graph.kind}-drawn.json"

    @property
    def drawn(self) -> bool:
        """Whether the figures are there, and were drawn of what the cube holds."""
        there = set(objects.names(self.store.report(self.graph.name)))
        return {url.rsplit("/", 1)[-1] for url in self.figures} <= there and noted(self.note) == self.contents

    def read(self) -> xr.Dataset | None:
        """All that is measured as one data set; None where nothing is."""
        found = [(one, values) for one, url in self.measured.items() if (values := read_values(url)) is not None]
        return _dataset(self.graph, self.store, found) if found else None

    def summary(self, report: bool) -> dict[str, Any]:
        """Where everything is, and how much it is; nothing where nothing is measured."""
        if not self.measured:
            return {}
        what = "tickets" if self.graph.tickets else "pairs"
        return {"cube": self.url, what: len(self.measured), **({"figures": self.figures} if report else {})}


def cube_place(graph: Graph, store: Store) -> str:
    """Where the cube of a graph lies."""
    return store.tickets(graph.name) if graph.tickets else store.connectivity(graph.name)


def graph_cube(graph: Graph, store: Store) -> GraphCube:
    """The cube of a graph as it would be gathered now."""
    return _cube_of(graph, store, finished_runs(graph, store))


def _cube_of(graph: Graph, store: Store, runs: Mapping[str, Manifest]) -> GraphCube:
    look = measured_tickets if graph.tickets else measured_pairs
    return GraphCube(graph=graph, store=store, measured=look(graph, store, runs))


def gather_graph(graph: Graph, store: Store, report: bool, lease: Lease | None = None) -> GraphCube:
    """Write the cube unless it holds what it should already, and draw the figures unless they are of that."""
    cube = graph_cube(graph, store)
    old, undrawn = stored_contents(cube.url) != cube.contents, report and not cube.drawn
    if not (old or undrawn) or (data := cube.read()) is None:
        return cube
    if old:
        data = data.assign_attrs(title=graph.name, experiment=graph.experiment)
        write_dataset(cube.url, data, lease, contents=cube.contents)
    if undrawn:
        metric = next(iter(get_experiment(graph.experiment).metrics(graph.trunks[0])))
        for url in cube.figures:
            objects.write(url, to_png(DRAWN_BY[url.rsplit("/", 1)[-1]](data, metric)))
        note(cube.note, cube.contents)
    return cube


DRAWN_BY = {
    "connectivity.png": connectivity.by_split,
    "perturbation.png": connectivity.by_size,
    "tickets.png": ticket_figures.by_density,
}


def _dataset(graph: Graph, store: Store, found: list[tuple[Any, Values]]) -> xr.Dataset:
    labels, values = [one for one, _ in found], [values for _, values in found]
    if not graph.tickets:
        return pairs.dataset(labels, values, graph.trunks)
    return tickets.dataset(labels, values, finished_runs(graph, store)[labels[0].run_id].steps)


def done_cube(graph: Graph, store: Store, report: bool) -> GraphCube | None:
    """The cube where the store has all that a call asks for, so that it starts and writes nothing, nor waits.

    Only reads. None where a run failed, too.
    """
    try:
        if read_graph(store, graph.name, graph.kind) != record_of(graph):
            return None
    except StoreError:  # one that cannot be read is written again
        return None
    runs, _ = ended_runs(graph, store)
    cube = _cube_of(graph, store, runs)
    if len(runs) < len(graph.runs) or len(cube.measured) < len(graph.pairs) + len(graph.tickets):
        return None
    return cube if stored_contents(cube.url) == cube.contents and (not report or cube.drawn) else None
