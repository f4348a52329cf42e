"""The units that a graph lacks: trainings, factors that measurements share, ends, pairs, tickets."""

from collections.abc import Iterator

from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.places import Store
from specdyn.tasks.connect.line import connect, decompose_end, measure_end
from specdyn.tasks.connect.tickets import decompose_dense, examine
from specdyn.tasks.plan.branching.graph import Graph, Remaining, end_key, ends_of, name_of, needs_of, ticket_key
from specdyn.tasks.plan.units import Unit
from specdyn.tasks.training.replay import keep_states
from specdyn.tasks.training.training import Diverged, train
from specdyn.tasks.work import Work


def units_of(graph: Graph, left: Remaining, store: Store) -> list[Unit]:
    """Everything that is left of a graph and can be done, and what needs a run that failed before."""
    runs = (*_trunks(graph, left, store), *_branches(left, store))
    return [*runs, *_factors(graph, left, store), *_ends(left, store), *_pairs(left, store), *_tickets(left, store)]


def factors_key(run_id: str) -> str:
    """What the factors of a run's checkpoints go by."""
    return f"{run_id}-factors"


def train_whole(spec: RunSpec, store: Store, keep: tuple[int, ...] = (), retry_failed: bool = False) -> Work:
    """Train a run to its end and have it keep states; Diverged where its loss stopped being finite.

    A run that is trained already is left alone.
    """
    before = read_manifest(store.run_of(spec))
    manifest = train(spec, store, keep, retry_failed=retry_failed)
    if manifest.status != "complete":
        raise Diverged(manifest.reason)
    made = keep_states(spec, store, keep)
    return Work(trainings=int(manifest != before or bool(made)))


def _trunks(graph: Graph, left: Remaining, store: Store) -> Iterator[Unit]:
    """Trunks that are not trained, or did not keep all states."""
    for spec in graph.trunks:
        if spec.run_id not in left.failed and (spec in left.trunks or spec.run_id in left.states):
            keep = graph.splits if spec in left.trunks else left.states[spec.run_id]
            yield Unit(
                kind="trunks",
                key=spec.run_id,
                label=name_of(spec),
                needs=(),
                function=train_whole,
                arguments=(spec, store, keep, spec.run_id in left.again),
            )


def _branches(left: Remaining, store: Store) -> Iterator[Unit]:
    for spec in left.branches:
        if spec.run_id not in left.failed:
            yield Unit(
                kind="branches",
                key=spec.run_id,
                label=name_of(spec),
                needs=needs_of(spec),
                function=train_whole,
                arguments=(spec, store, (), spec.run_id in left.again),
            )


def _factors(graph: Graph, left: Remaining, store: Store) -> Iterator[Unit]:
    """What several measurements use, decomposed once: the ends of lines, and the dense runs of tickets."""
    for spec in left.runs_of_pairs:
        yield Unit(
            kind="factors",
            key=factors_key(spec.run_id),
            label=f"factors of {name_of(spec)}",
            needs=(spec.run_id,),
            function=decompose_end,
            arguments=(spec, store),
        )
    for run_id, step in left.runs_of_tickets.items():
        yield Unit(
            kind="factors",
            key=factors_key(run_id),
            label=f"factors of {name_of(graph.runs[run_id])}",
            needs=(run_id,),
            function=decompose_dense,
            arguments=(graph.runs[run_id], step, store),
        )


def _ends(left: Remaining, store: Store) -> Iterator[Unit]:
    """The ends of the pairs that are left, each once for the data that it is evaluated on."""
    for key, (spec, on) in ends_of(left.possible_pairs, store).items():
        yield Unit(
            kind="ends",
            key=key,
            label=f"end of {name_of(spec)}",
            needs=(spec.run_id, factors_key(spec.run_id)),
            function=measure_end,
            arguments=(spec, on, store),
        )


def _pairs(left: Remaining, store: Store) -> Iterator[Unit]:
    for pair in left.pairs:
        runs = (pair.a, pair.b)
        yield Unit(
            kind="pairs",
            key=pair.pair_id,
            label=f"{name_of(pair.a)} to {name_of(pair.b)}",
            needs=(*(spec.run_id for spec in runs), *(end_key(spec, pair.a, store) for spec in runs)),
            function=connect,
            arguments=(pair, store),
        )


def _tickets(left: Remaining, store: Store) -> Iterator[Unit]:
    for spec in left.tickets:
        assert spec.start is not None
        yield Unit(
            kind="tickets",
            key=ticket_key(spec),
            label=name_of(spec),
            needs=(spec.run_id, factors_key(spec.start.run_id)),
            function=examine,
            arguments=(spec, store),
        )
