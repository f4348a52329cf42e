"""How far a graph is and what the rest will cost, stage after stage; read from the store alone."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access.objects import names
from specdyn.storage.checkpoints import kept_states, read_manifest
from specdyn.storage.pairs import measured
from specdyn.storage.places import Store
from specdyn.tasks.connect.line import end_id
from specdyn.tasks.connect.meter import data_key
from specdyn.tasks.plan.branching.graph import Graph, Remaining, ends_of, finished_runs, name_of, remaining, ticket_key
from specdyn.tasks.plan.cost import Rates, checkpoint_bytes, schedule
from specdyn.tasks.plan.counting import Cost, Counter
from specdyn.tasks.plan.measuring import measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run that is not finished and is not new."""

    label: str
    state: Literal["under way", "failed", "damaged"]
    step: int
    """Where the next call goes on: that of the newest state, or where the run begins."""
    steps: int
    reason: str
    """Why it failed, empty otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Units of one kind."""

    name: str
    total: int
    left: int
    begun: tuple[Begun, ...] = ()
    seconds: float = 0.0
    """Of one worker, for what is left; 0 where nothing is estimated."""
    bytes: int = 0
    """Of the checkpoints that are left to be written; 0 where nothing is estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPlan:
    """The stages of a graph, in the order in which they run."""

    graph: Graph
    store: Store
    left: Remaining
    stages: tuple[Stage, ...]

    @property
    def begun(self) -> tuple[Begun, ...]:
        """Every run that is not finished and is not new."""
        return tuple(run for stage in self.stages for run in stage.begun)

    @property
    def seconds(self) -> float:
        """Of one worker, for everything that is left."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def bytes(self) -> int:
        """Of all checkpoints that are left to be written."""
        return sum(stage.bytes for stage in self.stages)


def make_graph_plan(
    graph: Graph, store: Store, estimate: bool = True, threads: int | None = None, retry_failed: bool = False
) -> GraphPlan:
    """Look at every run and pair; with `estimate` measure a few steps, and count the ends that pairs lack.

    `threads` are those of a unit of work, for the measurement. What failed before, and what needs it, is left as it is
    and costs nothing unless `retry_failed`.
    """
    left = remaining(graph, store, retry_failed)
    rates = _rates(graph, left, store, threads) if estimate and not left.nothing else None
    stages = [_runs("trunks", graph.trunks, left.trunks, left, store, rates)]
    if left.states:
        stages.append(_states(graph, left, store, rates))
    stages.append(_runs("branches", graph.branches, left.branches, left, store, rates))
    if (left.runs_of_pairs or left.runs_of_tickets) and rates:
        stages.append(_factors(graph, left, store, rates))
    if left.pairs and rates:
        stages.append(_ends(graph, left, store, rates))
    if graph.pairs:
        stages.append(_pairs(graph, left, rates))
    if graph.tickets:
        stages.append(_tickets(graph, left, store, rates))
    return GraphPlan(graph=graph, store=store, left=left, stages=tuple(stages))


def require_states(plan: GraphPlan, retrain: bool) -> None:
    """ValueError where trunks did not keep states that are needed, unless they may be trained again for them."""
    if not plan.left.states or retrain:
        return
    run_id, steps = next(iter(plan.left.states.items()))
    there = ", ".join(map(str, kept_states(plan.store.run(plan.graph.experiment, run_id)))) or "none"
    raise ValueError(
        f"trunk {run_id} did not keep its state at steps {', '.join(map(str, steps))}; it kept: {there}. "
        "Allow retrain, or branch at those"
    )


def _rates(graph: Graph, left: Remaining, store: Store, threads: int | None) -> Rates:
    """Measured here, but for the step where a finished run tells how long it takes."""
    rates = measure(graph.trunks[0], store, threads=threads)
    lacking = {spec.run_id for spec in (*left.trunks, *left.branches)}
    finished = next((spec for run_id, spec in graph.runs.items() if run_id not in lacking), None)
    if finished is None:
        return rates
    manifest = read_manifest(store.run_of(finished))
    if manifest is None:
        return rates
    return dataclasses.replace(rates, step=manifest.seconds / (finished.steps - _first(finished)))


def _first(spec: RunSpec) -> int:
    """The step that a run begins at: a branch costs only what comes after its split."""
    return 0 if spec.start is None else spec.start.step


def _runs(
    name: str, whole: Sequence[RunSpec], missing: Sequence[RunSpec], left: Remaining, store: Store, rates: Rates | None
) -> Stage:
    """The trainings that are left, with how far they are and what those cost that can be done."""
    there = set(names(store.checkpoints(whole[0].experiment))) if missing else set()
    begun = {spec.run_id: _look_at(spec, store) for spec in missing if spec.run_id in there}
    reached = {run_id: run.step for run_id, run in begun.items() if run and run.state != "damaged"}
    stage = Stage(name=name, total=len(whole), left=len(missing), begun=tuple(filter(None, begun.values())))
    if not missing or rates is None:
        return stage
    missing = [spec for spec in missing if left.can(spec.run_id)]
    steps = sum(spec.steps - reached.get(spec.run_id, _first(spec)) for spec in missing)
    # The checkpoint of the step that a run goes on from is there; a new one begins by writing that of its first.
    checkpoints = [
        step for spec in missing for step in schedule(spec, store) if step > reached.get(spec.run_id, _first(spec) - 1)
    ]
    size = len(checkpoints) * checkpoint_bytes(whole[0])
    return dataclasses.replace(stage, seconds=steps * rates.step, bytes=size)


def _look_at(spec: RunSpec, store: Store) -> Begun | None:
    """How far a run is that is not finished; None where it is as good as new."""
    manifest = read_manifest(store.run_of(spec))
    states = [name for name in names(store.run_of(spec).states) if name.startswith("step=")]
    if (manifest is None and not states) or (manifest and manifest.status == "complete"):
        return None  # one that is trained is left as what it began from is to be trained
    damaged = manifest is not None and manifest.status == "damaged"
    newest = max((int(name.removeprefix("step=").partition("-")[0]) for name in states), default=_first(spec))
    return Begun(
        label=name_of(spec),
        state="under way" if manifest is None else "damaged" if damaged else "failed",
        step=_first(spec) if damaged else newest,
        steps=spec.steps,
        reason=manifest.reason if manifest else "",
    )


def _states(graph: Graph, left: Remaining, store: Store, rates: Rates | None) -> Stage:
    """The states of finished trunks that are made again, each trunk from the nearest one that it kept."""
    updates = 0
    for run_id, missing in left.states.items():
        kept = kept_states(store.run(graph.experiment, run_id))
        updates += missing[-1] - max((step for step in kept if step <= missing[0]), default=0)
    missing_states = sum(map(len, left.states.values()))
    seconds = updates * rates.step if rates else 0.0
    return Stage(
        name="states of trunks", total=len(graph.trunks) * len(graph.splits), left=missing_states, seconds=seconds
    )


def _factors(graph: Graph, left: Remaining, store: Store, rates: Rates) -> Stage:
    """What lines share of their ends and tickets of their dense run, each run decomposed once."""
    counter, dense = Counter(graph.trunks[0]), left.runs_of_tickets
    checkpoints = [sum(step >= first for step in schedule(graph.runs[run], store)) for run, first in dense.items()]
    works = [counter.factors_of_end() for _ in left.runs_of_pairs] + [*map(counter.factors_of_dense, checkpoints)]
    return Stage(name="factors", total=len(works), left=len(works), seconds=_seconds(works, rates))


def _ends(graph: Graph, left: Remaining, store: Store, rates: Rates) -> Stage:
    """The ends of the pairs that are left, each once for the data that it is measured on."""
    ends = ends_of(left.possible_pairs, store).values()
    runs, there = finished_runs(graph, store), measured(store, graph.experiment, "ends")
    missing = [
        spec
        for spec, on in ends
        if spec.run_id not in runs or end_id(runs[spec.run_id], data_key(on, store)) not in there
    ]
    seconds = len(missing) * Counter(graph.trunks[0]).end().seconds(rates)
    return Stage(name="ends", total=len(ends), left=len(missing), seconds=seconds)


def _pairs(graph: Graph, left: Remaining, rates: Rates | None) -> Stage:
    counter = Counter(graph.trunks[0]) if rates and left.pairs else None
    works = [counter.pair(pair) for pair in left.possible_pairs] if counter else []
    return Stage(name="pairs", total=len(graph.pairs), left=len(left.pairs), seconds=_seconds(works, rates))


def _tickets(graph: Graph, left: Remaining, store: Store, rates: Rates | None) -> Stage:
    counter = Counter(graph.trunks[0]) if rates and left.tickets else None
    todo = [spec for spec in left.tickets if left.can(ticket_key(spec))]
    works = [counter.ticket(len(schedule(spec, store))) for spec in todo] if counter else []
    return Stage(name="tickets", total=len(graph.tickets), left=len(left.tickets), seconds=_seconds(works, rates))


def _seconds(works: Sequence[Cost], rates: Rates | None) -> float:
    return sum(work.seconds(rates) for work in works) if rates else 0.0
