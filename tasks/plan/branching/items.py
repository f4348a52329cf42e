"""The items of a graph and their progress: trainings, shared factors, ends, pairs, tickets."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access.objects import names
from specdyn.storage.checkpoints import checkpoints_written, kept_states, read_manifest
from specdyn.storage.places import Store
from specdyn.storage.results import ids_in
from specdyn.tasks.connect.ids import end_id
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.later import Later
from specdyn.tasks.plan.branching.graph import (
    Graph,
    ended_runs,
    measured_pairs,
    measured_tickets,
    name_of,
    needs_of,
    ticket_key,
)
from specdyn.tasks.plan.cost import Cost, schedule
from specdyn.tasks.plan.plan import Item, State, failed_before, needing_failed
from specdyn.tasks.plan.runs import Training, train_whole
from specdyn.tasks.plan.units import Unit

if TYPE_CHECKING:
    from specdyn.tasks.plan.counting import Counter


def items_of(graph: Graph, store: Store, retry_failed: bool, whole: bool) -> list[Item]:
    """All items of a graph, read from the store.

    States count only if a branch still has to start there. A result counts only if it belongs to the runs' present
    weights: a run to be retrained may get different ones, so everything that starts from it or measures it is left to
    do as well, and finishes at once if the weights are unchanged. ValueError if trunks did not keep needed states and
    must not be retrained.
    """
    look = _Look(graph, store, retry_failed)
    trunks = [look.run("trunks", spec, keep=graph.splits) for spec in graph.trunks]
    branches = [look.run("branches", spec) for spec in graph.branches]
    runs = [*trunks, *branches]
    hopeless = needing_failed(runs).keys() | failed_before(runs).keys()
    states = look.states([item.run for item in branches if item.run and item.unit and item.key not in hopeless])
    pairs, tickets = look.pairs(whole), look.tickets()
    if not whole:
        return [*trunks, *states, *branches, *pairs, *tickets]
    lines = [
        pair
        for pair, item in zip(graph.pairs, pairs, strict=True)
        if item.unit and hopeless.isdisjoint((pair.a.run_id, pair.b.run_id))
    ]
    compared = [
        spec for spec, item in zip(graph.tickets, tickets, strict=True) if item.unit and spec.run_id not in hopeless
    ]
    shared = [*look.factors_of_ends(lines), *look.factors_of_dense(compared)]
    return [*trunks, *states, *branches, *shared, *look.ends(lines), *pairs, *tickets]


def end_key(spec: RunSpec, on: RunSpec, store: Store) -> str:
    """Key of an end: the run, and the data on which it is evaluated."""
    from specdyn.tasks.connect.meter import data_key

    return f"{spec.run_id}-{data_key(on, store)}"


def ends_of(pairs: Iterable[Pair], store: Store) -> dict[str, tuple[RunSpec, RunSpec]]:
    """The ends of the pairs, once per data set on which they are evaluated: the run, and a run with that data."""
    return {end_key(spec, pair.a, store): (spec, pair.a) for pair in pairs for spec in (pair.a, pair.b)}


def factors_key(run_id: str) -> str:
    """Key of the factors of a run's checkpoints."""
    return f"{run_id}-factors"


def _replay(updates: int, _: "Counter") -> Cost:
    return Cost(updates=updates)


LINE, TICKETS = "specdyn.tasks.connect.line", "specdyn.tasks.connect.tickets"
"""Modules with the functions of units."""


class _Look:
    """The store's content for a graph, listed once."""

    def __init__(self, graph: Graph, store: Store, retry_failed: bool) -> None:
        self.graph, self.store, self.retry_failed = graph, store, retry_failed
        ended = ended_runs(graph, store)
        self.finished, self.failed = ended.finished, ended.failed
        self.begun = set(names(store.checkpoints(graph.experiment)))
        self.lines = measured_pairs(graph, store, self.finished)
        self.compared = measured_tickets(graph, store, self.finished)

    def run(self, kind: str, spec: RunSpec, keep: tuple[int, ...] = ()) -> Item:
        """A training: its progress, and what is left."""
        run, steps = self.store.run_of(spec), schedule(spec, self.store)
        parts = sum(step >= spec.first_step for step in steps)
        state: State = "done"
        reason, there = self.failed.get(spec.run_id, ""), parts
        if spec.run_id not in self.finished:
            there = min(parts, checkpoints_written(run)) if spec.run_id in self.begun else 0
            manifest = read_manifest(run) if spec.run_id in self.begun else None
            state = "failed" if spec.run_id in self.failed else "partial" if there else "new"
            if manifest and state != "failed":
                # A trained run is left to do because its origin is, but may keep its weights.
                state, reason = ("damaged", manifest.reason) if manifest.status == "damaged" else ("new", "")
        training = Training(
            kind=kind,
            spec=spec,
            label=name_of(spec),
            state=state,
            reason=reason,
            there=there,
            parts=parts,
            needs=needs_of(spec),
            keep=keep,
        )
        return training.item(self.store, self.graph.cube(self.store), self.retry_failed)

    def states(self, branches: Sequence[RunSpec]) -> list[Item]:
        """The states that branches need but finished trunks did not keep."""
        items = []
        for trunk in self.graph.trunks:
            if trunk.run_id not in self.finished:
                continue
            needed = {b.start.step for b in branches if b.start and b.start.run_id == trunk.run_id}
            kept = kept_states(self.store.run_of(trunk))
            if not (missing := tuple(sorted(needed - kept.keys()))):
                continue
            if not self.graph.retrain:
                there = ", ".join(map(str, kept)) or "none"
                raise ValueError(
                    f"trunk {trunk.run_id} did not keep its state at steps {', '.join(map(str, missing))}; it kept: "
                    f"{there}. Allow retrain, or branch at those"
                )
            updates = missing[-1] - max((step for step in kept if step <= missing[0]), default=0)
            # Uses the trunk's key, as a finished trunk has no unit: branches wait for that key.
            items.append(
                self._item(
                    kind="states",
                    key=trunk.run_id,
                    label=name_of(trunk),
                    function=train_whole,
                    arguments=(trunk, self.store, self.graph.cube(self.store), missing, False),
                    parts=len(missing),
                    cost=functools.partial(_replay, updates),
                )
            )
        return items

    def factors_of_ends(self, pairs: Sequence[Pair]) -> list[Item]:
        """The last checkpoints of runs in several lines, decomposed once."""
        runs = {spec.run_id: spec for pair in pairs for spec in (pair.a, pair.b)}
        return [
            self._item(
                kind="factors",
                key=factors_key(run_id),
                label=f"factors of {name_of(spec)}",
                needs=(run_id,),
                function=Later(LINE, "decompose_end"),
                arguments=(spec, self.store),
                cost=lambda counter: counter.factors_of_end(),
            )
            for run_id, spec in runs.items()
        ]

    def factors_of_dense(self, tickets: Sequence[RunSpec]) -> list[Item]:
        """The dense runs compared with several tickets, decomposed once, from the step at which the tickets start."""
        starts = {spec.start.run_id: spec.start.step for spec in tickets if spec.start}
        return [self._factors_of_dense(self.graph.runs[run_id], step) for run_id, step in starts.items()]

    def _factors_of_dense(self, spec: RunSpec, first: int) -> Item:
        return self._item(
            kind="factors",
            key=factors_key(spec.run_id),
            label=f"factors of {name_of(spec)}",
            needs=(spec.run_id,),
            function=Later(TICKETS, "decompose_dense"),
            arguments=(spec, first, self.store),
            cost=lambda counter: counter.factors_of_dense(sum(step >= first for step in schedule(spec, self.store))),
        )

    def ends(self, pairs: Sequence[Pair]) -> list[Item]:
        """The ends of these pairs, once per data set on which they are evaluated."""
        from specdyn.tasks.connect.meter import data_key

        there = ids_in(self.store.measured("ends", self.graph.experiment)) if pairs else set()
        return [
            self._item(
                kind="ends",
                key=key,
                label=f"end of {name_of(spec)}" + (f" on the data of seed={on.seed}" if on.seed != spec.seed else ""),
                needs=(spec.run_id, factors_key(spec.run_id)),
                function=Later(LINE, "measure_end"),
                arguments=(spec, on, self.store),
                cost=lambda counter: counter.end(),
                done=spec.run_id in self.finished
                and end_id(self.finished[spec.run_id], data_key(on, self.store)) in there,
            )
            for key, (spec, on) in ends_of(pairs, self.store).items()
        ]

    def pairs(self, whole: bool) -> list[Item]:
        """Every line; it needs its ends if these are items, too."""
        return [self._pair(pair, whole) for pair in self.graph.pairs]

    def _pair(self, pair: Pair, whole: bool) -> Item:
        runs = (pair.a, pair.b)
        ends = [end_key(spec, pair.a, self.store) for spec in runs] if whole and pair not in self.lines else []
        return self._item(
            kind="pairs",
            key=pair.pair_id,
            label=f"{name_of(pair.a)} to {name_of(pair.b)}",
            needs=(*(spec.run_id for spec in runs), *ends),
            function=Later(LINE, "connect"),
            arguments=(pair, self.store),
            row=pair.pair_id,
            cost=lambda counter: counter.pair(pair),
            done=pair in self.lines,
        )

    def tickets(self) -> list[Item]:
        """Every comparison of a ticket with its dense run."""
        return [self._ticket(spec) for spec in self.graph.tickets]

    def _ticket(self, spec: RunSpec) -> Item:
        assert spec.start is not None
        return self._item(
            kind="tickets",
            key=ticket_key(spec),
            label=name_of(spec),
            needs=(spec.run_id, factors_key(spec.start.run_id)),
            function=Later(TICKETS, "examine"),
            arguments=(spec, self.store),
            row=spec.run_id,
            cost=lambda counter: counter.ticket(len(schedule(spec, self.store))),
            done=spec in self.compared,
        )

    @functools.cached_property
    def counter(self) -> "Counter":
        """A counter for the network of the graph, which it builds."""
        from specdyn.tasks.plan.counting import Counter

        return Counter(self.graph.trunks[0])

    def _item(
        self, *, cost: Callable[["Counter"], Cost], done: bool = False, needs: tuple[str, ...] = (), **unit: Any
    ) -> Item:
        made = Unit(needs=needs, **unit)
        return Item(
            kind=made.kind,
            key=made.key,
            label=made.label,
            state="done" if done else "new",
            there=int(done),
            parts=made.parts,
            unit=None if done else made,
            network=self.graph.trunks[0],
            cost=lambda: cost(self.counter),
        )
