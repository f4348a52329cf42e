"""The cube of a graph, with lines or tickets as rows, and its page."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.places import Store
from specdyn.storage.results import SUFFIX, RunLayout
from specdyn.storage.rows import PAIRS, TICKETS, Facts, Row, RowKind
from specdyn.tasks.connect.declared import variables_of
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.variables import LINE, TICKET
from specdyn.tasks.identity import computed_on
from specdyn.tasks.later import Later
from specdyn.tasks.plan.branching.graph import EndedRuns, Graph, ended_runs, measured_pairs, measured_tickets, needs_of
from specdyn.tasks.plan.cost import schedule, train_examples
from specdyn.tasks.plan.gathering import StudyCube
from specdyn.tasks.spectra.labels import COORDINATES_VERSION

ROWS = "specdyn.tasks.connect.rows"
"""Module that builds the labels of rows, which needs the network."""
STEP_COORDINATES_VERSION = 1
"""Version of the coordinates along tickets' steps; a new one makes their cubes be gathered again."""
MEANINGS = {
    "kind": {
        "comment": "within (two forks of one base run), across (forks of two base runs, the control) or perturbed "
        "(two forks of one base run, perturbed at the fork)"
    },
    "trunk_a": {"comment": "seed of the base run of the first end"},
    "trunk_b": {"comment": "seed of the base run of the second end"},
    "split_step": {"comment": "step at which the two were forked", "units": "steps"},
    "order_a": {"comment": "seed of the data order of the first end"},
    "order_b": {"comment": "seed of the data order of the second end"},
    "size": {"comment": "of a perturbation, relative to the weights; 0 is none"},
    "direction": {"comment": "of a perturbation: random, top or bottom singular vectors; none where there is none"},
    "trunk": {"comment": "seed of the base run"},
    "order": {"comment": "seed of the data order"},
    "rewind_step": {"comment": "step whose weights the ticket begins from", "units": "steps"},
    "density": {"comment": "fraction of the weights that is kept"},
    "mask": {"comment": "how the weights that are kept were chosen"},
}
"""Meanings of the coordinates of pairs and tickets."""


@dataclass(frozen=True, kw_only=True)
class GraphCube(StudyCube):
    """The cube of all lines or tickets of a graph, with their results."""

    graph: Graph
    """The graph, including everything in the store's record."""
    ended: EndedRuns
    """The runs that are trained or failed."""
    values: Mapping[str, str]
    """URL of the result of each pair or ticket, by pair_id or run_id."""

    @property
    def url(self) -> str:
        """URL of the cube."""
        return self.graph.cube(self.store)

    @property
    def kind(self) -> RowKind:
        """Pairs or tickets."""
        return TICKETS if self.graph.tickets else PAIRS

    @property
    def facts(self) -> Facts | None:
        """Barriers, for lines."""
        from specdyn.tasks.connect.rows import BARRIERS

        return None if self.graph.tickets else BARRIERS

    @property
    def versions(self) -> dict[str, Any]:
        """Digest of all declarations."""
        declared = {name: dataclasses.asdict(variable) for name, variable in self._variables.items()}
        digest = hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()
        steps = {"step_coordinates": STEP_COORDINATES_VERSION} if self.graph.tickets else {}
        return {"declared": digest, "coordinates_version": COORDINATES_VERSION, **steps}

    @functools.cached_property
    def _variables(self) -> Mapping[str, Any]:
        metrics = get_experiment(self.graph.experiment).metrics(self.graph.trunks[0])
        return variables_of(TICKET if self.graph.tickets else LINE, metrics)

    @functools.cached_property
    def rows(self) -> list[Row]:
        """All pairs or tickets, measured or not."""
        graph = self.graph
        return [*map(self._row_of_pair, graph.pairs), *map(self._row_of_ticket, graph.tickets)]

    @property
    def meanings(self) -> dict[str, dict[str, str]]:
        """Meaning and unit of each coordinate of pairs or tickets."""
        return MEANINGS

    def _row_of_pair(self, pair: Pair) -> Row:
        assert pair.a.start is not None and pair.b.start is not None
        noise, seeds = pair.a.start.perturbation, {trunk.run_id: trunk.seed for trunk in self.graph.trunks}
        coordinates = {
            "kind": pair.kind,
            "run_a": pair.a.run_id,
            "run_b": pair.b.run_id,
            "trunk_a": seeds[pair.a.start.run_id],
            "trunk_b": seeds[pair.b.start.run_id],
            "split_step": pair.a.start.step,
            "order_a": pair.a.start.order,
            "order_b": pair.b.start.order,
            "weight_decay": pair.a.decay.weight_decay,
            "size": noise.size if noise else 0.0,
            "direction": noise.direction if noise else "none",
        }
        layout = functools.partial(Later(ROWS, "line_layout"), pair)
        return self._row(pair.pair_id, (pair.a.run_id, pair.b.run_id), layout, coordinates)

    def _row_of_ticket(self, spec: RunSpec) -> Row:
        assert spec.start is not None and spec.start.ticket is not None
        coordinates = {
            "trunk": spec.seed,
            "order": spec.start.order,
            "rewind_step": spec.start.step,
            "density": spec.start.ticket.density,
            "mask": spec.start.ticket.mask,
        }
        own = self.ended.finished.get(spec.run_id)
        steps = own.steps if own else tuple(s for s in schedule(spec, self.store) if s >= spec.first_step)
        layout = functools.partial(_ticket_layout, spec, steps, self.store)
        return self._row(spec.run_id, (spec.run_id,), layout, coordinates)

    def _row(
        self,
        key: str,
        runs: Sequence[str],
        layout: Callable[[], RunLayout],
        coordinates: Mapping[str, Any],
    ) -> Row:
        url = self.values.get(key)
        finished, failed, damaged = self.ended.finished, self.ended.failed, self.ended.damaged
        there = [finished[run] for run in runs if run in finished]
        lacking = "failed" if failed.keys() & set(runs) else "damaged" if damaged & set(runs) else "planned"
        return Row(
            key=key,
            status="done" if url else lacking,
            layout_of=layout,
            coordinates=coordinates,
            provenance={"computed_on": "; ".join(dict.fromkeys(map(computed_on, there)))},
            results=url.rsplit("/", 1)[-1].removesuffix(SUFFIX) if url else "",
            parts={url: frozenset(self._variables)} if url else {},
        )

    def again(self, keys: Collection[str] | None = None) -> "GraphCube":
        """The cube with refreshed pairs or tickets: those with these keys, or all."""
        if keys is None:
            return _looked_at(self, self.graph)
        found = _looked_at(self, _part(self.graph, keys))
        ended = EndedRuns(
            finished={**self.ended.finished, **found.ended.finished},
            failed={**self.ended.failed, **found.ended.failed},
            damaged=self.ended.damaged - found.ended.finished.keys() | found.ended.damaged,
        )
        return replace(self, ended=ended, values={**self.values, **found.values})

    def attributes(self) -> dict[str, str]:
        """Title and experiment."""
        return {"title": self.graph.name, "experiment": self.graph.experiment}

    @property
    def note(self) -> str:
        """URL of the note that says from which contents the page was made."""
        return f"{self.store.report(self.graph.name)}/{self.graph.kind}-drawn.json"

    @property
    def report(self) -> tuple[str, ...]:
        """The URL of its page."""
        return (f"{self.store.report(self.graph.name)}/{self.graph.kind}.html",)


def _ticket_layout(spec: RunSpec, steps: tuple[int, ...], store: Store) -> RunLayout:
    """Labels and variables of a ticket; may count its examples, whose number may depend on the seed."""
    layout: RunLayout = Later(ROWS, "ticket_layout")(
        replace(spec, seed=0, start=None), steps, train_examples(spec, store)
    )
    return layout


def graph_cube(graph: Graph, store: Store, asked: Graph) -> GraphCube:
    """The cube of a graph with everything in its record; `asked` is the requested part."""
    cube = GraphCube(
        name=graph.name,
        store=store,
        complete=False,
        graph=graph,
        ended=EndedRuns(finished={}, failed={}, damaged=frozenset()),
        values={},
    )
    cube = _looked_at(cube, graph)
    keys = {*(pair.pair_id for pair in asked.pairs), *(spec.run_id for spec in asked.tickets)}
    trained, measured = asked.runs.keys() <= cube.ended.finished.keys(), keys <= cube.values.keys()
    return replace(cube, complete=trained and measured)


def _looked_at(cube: GraphCube, graph: Graph) -> GraphCube:
    """The cube with the store's present results of a graph."""
    ended = ended_runs(graph, cube.store)
    pairs = measured_pairs(graph, cube.store, ended.finished)
    tickets = measured_tickets(graph, cube.store, ended.finished)
    values = {
        **{pair.pair_id: url for pair, url in pairs.items()},
        **{spec.run_id: url for spec, url in tickets.items()},
    }
    return replace(cube, ended=ended, values=values)


def _part(graph: Graph, keys: Collection[str]) -> Graph:
    """The pairs or tickets of a graph with these keys, and the runs that they need."""
    pairs = tuple(pair for pair in graph.pairs if pair.pair_id in keys)
    tickets = tuple(spec for spec in graph.tickets if spec.run_id in keys)
    needed = {spec.run_id for spec in (*tickets, *(end for pair in pairs for end in (pair.a, pair.b)))}
    for spec in reversed(graph.branches):  # each comes after those from which it starts
        needed |= set(needs_of(spec)) if spec.run_id in needed else set()
    trunks, branches = (tuple(s for s in specs if s.run_id in needed) for specs in (graph.trunks, graph.branches))
    return replace(graph, trunks=trunks, branches=branches, pairs=pairs, tickets=tickets)
