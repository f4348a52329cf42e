"""Units of a graph as Prefect tasks, stage after stage; what needs something that failed is left out."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.futures import PrefectFuture, wait

from specdyn.flows.engine.executor import Executor
from specdyn.flows.engine.progress import StageProgress
from specdyn.flows.engine.stages import OPTIONS, failure_of
from specdyn.flows.engine.unit_log import kept_log
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.places import Layout
from specdyn.tasks.connect.line import connect, measure_end
from specdyn.tasks.connect.tickets import examine
from specdyn.tasks.plan.branching import Graph, Left, end_key, ends_of, name_of, needs_of, ticket_key
from specdyn.tasks.training.replay import keep_states
from specdyn.tasks.training.training import Diverged, train

REFRESH_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One training, end or pair."""

    key: str
    """What others need it by."""
    label: str
    needs: tuple[str, ...]
    call: tuple[Callable[..., Any], tuple[Any, ...]]
    """A module-level function and its arguments."""


def train_whole(
    spec: RunSpec, store: str, keep: tuple[int, ...] = (), retry_failed: bool = False
) -> tuple[int, int] | None:
    """Train a run to its end and have it keep states; Diverged where its loss stopped being finite.

    Where it is found trained it is left alone, and nothing counts: no evaluations, no decompositions.
    """
    before = read_manifest(store, spec.experiment, spec.run_id)
    manifest = train(spec, store, keep, retry_failed=retry_failed)
    if manifest.status != "complete":
        raise Diverged(manifest.reason)
    made = keep_states(spec, store, keep)
    return (0, 0) if manifest == before and not made else None


def trunk_units(graph: Graph, left: Left, store: str) -> list[Unit]:
    """Trunks that are not trained, or did not keep all states."""
    chosen = [spec for spec in graph.trunks if spec in left.trunks or spec.run_id in left.states]
    return [
        Unit(
            key=spec.run_id,
            label=name_of(spec),
            needs=(),
            call=(train_whole, (spec, store, _kept(spec, graph, left), spec.run_id in left.again)),
        )
        for spec in chosen
        if spec.run_id not in left.failed
    ]


def _kept(trunk: RunSpec, graph: Graph, left: Left) -> tuple[int, ...]:
    return graph.splits if trunk in left.trunks else left.states[trunk.run_id]


def branch_units(left: Left, store: str) -> list[Unit]:
    """Branches that are not trained."""
    return [
        Unit(
            key=spec.run_id,
            label=name_of(spec),
            needs=needs_of(spec),
            call=(train_whole, (spec, store, (), spec.run_id in left.again)),
        )
        for spec in left.branches
        if spec.run_id not in left.failed
    ]


def end_units(left: Left, store: str) -> list[Unit]:
    """The ends of the pairs that are left, each once for the data that it is evaluated on."""
    return [
        Unit(key=key, label=f"end of {name_of(spec)}", needs=(spec.run_id,), call=(measure_end, (spec, on, store)))
        for key, (spec, on) in ends_of(left.pairs, store).items()
    ]


def pair_units(left: Left, store: str) -> list[Unit]:
    """The pairs that are not measured."""
    return [
        Unit(
            key=pair.pair_id,
            label=f"{name_of(pair.a)} to {name_of(pair.b)}",
            needs=tuple(end_key(spec, pair.a, store) for spec in (pair.a, pair.b)),
            call=(connect, (pair, store)),
        )
        for pair in left.pairs
    ]


def ticket_units(left: Left, store: str) -> list[Unit]:
    """The tickets that are not compared with their trunk."""
    return [
        Unit(key=ticket_key(s), label=name_of(s), needs=(s.run_id,), call=(examine, (s, store))) for s in left.tickets
    ]


@task(name="unit", task_run_name="{stage}: {label}", **OPTIONS)
def run_unit_task(
    stage: str, label: str, call: tuple[Callable[..., Any], tuple[Any, ...]], log: str, executor: Executor
) -> Any:
    """Run one unit on the executor, its log kept in the folder; gives what it gives."""
    function, arguments = call
    with kept_log(log, stage):
        return executor.run(function, *arguments)


def work(graph: Graph, left: Left, store: str, executor: Executor) -> "Made":
    """Trunks and their states, branches, ends, pairs, tickets, one stage after another."""
    stages = {
        "trunks": trunk_units(graph, left, store),
        "branches": branch_units(left, store),
        "ends": end_units(left, store),
        "pairs": pair_units(left, store),
        "tickets": ticket_units(left, store),
    }
    before = {run_id: f"{name_of(graph.runs[run_id])} failed" for run_id in left.failed}
    return run_stages(graph.name, stages, functools.partial(Layout(store).logs, graph.experiment), executor, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a call did."""

    failures: dict[str, str]
    """Stage and label of each unit that failed, with the reason."""
    left_out: dict[str, str]
    """Stage and label of each unit that needs one that failed, with that one."""
    trainings: int
    evaluations: int
    """Of a split."""
    decompositions: int


def run_stages(
    title: str,
    stages: Mapping[str, Sequence[Unit]],
    logs: Callable[[str], str],
    executor: Executor,
    before: Mapping[str, str] | None = None,
) -> Made:
    """Run stages one after another; units that need one that failed, now or `before`, are left out.

    `logs` gives the folder for the log of the unit of a key.
    """
    failed = dict(before or {})
    reasons: dict[str, str] = {}
    left_out: dict[str, str] = {}
    made: list[Any] = []
    with StageProgress(title, {stage: len(units) for stage, units in stages.items()}) as progress:
        for stage, units in stages.items():
            running: dict[str, PrefectFuture[Any]] = {}
            for unit in units:
                if missing := next((key for key in unit.needs if key in failed), None):
                    failed[unit.key] = failed[missing]
                    left_out[f"{stage}: {unit.label}"] = failed[missing]
                    continue
                waited_for = [running[key] for key in unit.needs if key in running]
                running[unit.key] = run_unit_task.submit(
                    stage, unit.label, unit.call, logs(unit.key), executor, wait_for=waited_for, return_state=False
                )
            _wait(stage, list(running.values()), progress)
            labels = {unit.key: unit.label for unit in units}
            for key, future in running.items():
                if why := failure_of(future):
                    failed[key] = f"{labels[key]} failed"
                    reasons[f"{stage}: {labels[key]}"] = why
                else:
                    made.append(future.result())
    counts = [one for one in made if one is not None]
    return Made(
        failures=reasons,
        left_out=left_out,
        trainings=len(made) - len(counts),
        evaluations=sum(evaluations for evaluations, _ in counts),
        decompositions=sum(decompositions for _, decompositions in counts),
    )


def _wait(stage: str, futures: list[PrefectFuture[Any]], progress: StageProgress) -> None:
    """Wait for all, showing how many are done."""
    waiting = set(futures)
    while waiting:
        left = set(wait(list(waiting), timeout=REFRESH_SECONDS).not_done)
        progress.advance(stage, len(waiting) - len(left))
        waiting = left
        progress.refresh()
