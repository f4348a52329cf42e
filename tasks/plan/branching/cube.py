"""The cube of a graph: what decides what it holds, its lines or tickets, its figures."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.checkpoints import Manifest
from specdyn.storage.places import Store
from specdyn.storage.results import DamagedResult, Measured, read_values
from specdyn.tasks.connect.declared import variables_of
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.variables import LINE, TICKET
from specdyn.tasks.plan.branching.graph import Graph, ended_runs, measured_pairs, measured_tickets
from specdyn.tasks.plan.branching.records import record_of
from specdyn.tasks.plan.gathering import measured_again


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCube:
    """The cube of all that is measured of a graph."""

    graph: Graph
    store: Store
    finished: Mapping[str, Manifest]
    """The runs that are trained, by run_id."""
    values: Mapping[Pair, str] | Mapping[RunSpec, str]
    """Where what is measured of each pair or ticket lies."""

    @property
    def url(self) -> str:
        """Where the cube lies."""
        return self.graph.cube(self.store)

    @property
    def measured(self) -> int:
        """Pairs or tickets in the cube."""
        return len(self.values)

    @property
    def complete(self) -> bool:
        """Whether every run is trained, and every pair and ticket measured; never where a run failed."""
        graph = self.graph
        return len(self.finished) == len(graph.runs) and len(self.values) == len(graph.pairs) + len(graph.tickets)

    @property
    def contents(self) -> str:
        """The graph, what is measured of it by ids that say of what, and the labels."""
        metrics = get_experiment(self.graph.experiment).metrics(self.graph.trunks[0])
        of = TICKET if self.graph.tickets else LINE
        declared = {name: dataclasses.asdict(variable) for name, variable in variables_of(of, metrics).items()}
        ids = [url.rsplit("/", 1)[-1] for url in self.values.values()]
        decides = [dataclasses.asdict(record_of(self.graph)), ids, declared]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    @property
    def note(self) -> str:
        """Where it is noted of which contents the figures were drawn."""
        return f"{self.store.report(self.graph.name)}/{self.graph.kind}-drawn.json"

    @property
    def report(self) -> list[str]:
        """The URLs of its figures."""
        kinds = {pair.kind for pair in self.values if isinstance(pair, Pair)}
        drawn = {
            "tickets": bool(self.graph.tickets),
            "connectivity": bool(kinds - {"perturbed"}),
            "perturbation": "perturbed" in kinds,
        }
        return [f"{self.store.report(self.graph.name)}/{name}.png" for name, there in drawn.items() if there]

    def write(self, lease: Lease | None) -> None:
        """Write the cube."""
        from specdyn.storage.xarray_cube import write_dataset
        from specdyn.tasks.connect import cube as pairs
        from specdyn.tasks.connect import tickets

        found = {one: _sound(url) for one, url in self.values.items()}
        read = [(one, values.values) for one, values in found.items() if values is not None]
        measured = [values for _, values in read]
        if self.graph.tickets:
            specs = [spec for spec, _ in read if isinstance(spec, RunSpec)]
            data = tickets.dataset(specs, measured, self.finished[specs[0].run_id].steps)
        else:
            lines = [pair for pair, _ in read if isinstance(pair, Pair)]
            data = pairs.dataset(lines, measured, self.graph.trunks)
        data = data.assign_attrs(title=self.graph.name, experiment=self.graph.experiment)
        write_dataset(self.url, data, lease, contents=self.contents)

    def following(self, lease: Lease | None) -> None:
        """Nothing: the cube is written at the end."""

    def draw(self) -> None:
        """Draw the figures of the cube that is there."""
        from specdyn.storage.query import open_results
        from specdyn.tasks.figures import connectivity
        from specdyn.tasks.figures import tickets as ticket_figures
        from specdyn.tasks.figures.style import to_png

        by = {
            "connectivity.png": connectivity.by_split,
            "perturbation.png": connectivity.by_size,
            "tickets.png": ticket_figures.by_density,
        }
        data = open_results(self.url).to_dataset()
        metric = next(iter(get_experiment(self.graph.experiment).metrics(self.graph.trunks[0])))
        for url in self.report:
            objects.write(url, to_png(by[url.rsplit("/", 1)[-1]](data, metric)))


def _sound(url: str) -> Measured | None:
    """What was measured; StoreError where it was damaged, after it is removed so that the next call measures it."""
    try:
        return read_values(url)
    except DamagedResult as error:
        objects.delete(url)
        raise measured_again([error]) from None


def graph_cube(graph: Graph, store: Store) -> GraphCube:
    """The cube of a graph as it would be gathered now."""
    finished, _ = ended_runs(graph, store)
    look = measured_tickets if graph.tickets else measured_pairs
    return GraphCube(graph=graph, store=store, finished=finished, values=look(graph, store, finished))
