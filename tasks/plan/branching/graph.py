"""The graph of an intervention: trunks, the branches that begin at them, and the pairs that are connected."""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.checks import require, require_distinct
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.models.spec.start import Perturbation, StartFrom, Ticket
from specdyn.storage.checkpoints import Manifest, kept_states, read_manifest
from specdyn.storage.pairs import measured, values_url
from specdyn.storage.places import Store
from specdyn.tasks.connect.line import line_id
from specdyn.tasks.connect.meter import data_key
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.tickets import comparison_id
from specdyn.tasks.identity import origins_of, outdated
from specdyn.tasks.plan.sweeps import label


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What an intervention needs, whether it is there or not."""

    name: str
    experiment: str
    trunks: tuple[RunSpec, ...]
    splits: tuple[int, ...]
    """Steps at which the trunks keep their state."""
    branches: tuple[RunSpec, ...]
    pairs: tuple[Pair, ...] = ()
    tickets: tuple[RunSpec, ...] = ()
    """Branches that are compared with their trunk, checkpoint by checkpoint."""

    @property
    def kind(self) -> str:
        """What is measured of it, `connectivity` or `tickets`: its record and its cube are named so."""
        return "tickets" if self.tickets else "connectivity"

    @property
    def runs(self) -> dict[str, RunSpec]:
        """Every run by its id."""
        return {spec.run_id: spec for spec in (*self.trunks, *self.branches)}


def name_of(spec: RunSpec) -> str:
    """How people tell runs of a graph apart."""
    start = spec.start
    if start is None:
        return label(spec)
    if start.ticket:
        return f"seed={spec.seed} {start.ticket.mask} {start.ticket.density:g} order={start.order} ({spec.run_id[:6]})"
    noise = f" size={start.perturbation.size:g} {start.perturbation.direction}" if start.perturbation else ""
    return f"seed={spec.seed} split={start.step} order={start.order}{noise} ({spec.run_id[:6]})"


def end_key(spec: RunSpec, on: RunSpec, store: Store) -> str:
    """What an end goes by: the run, and the data that it is evaluated on."""
    return f"{spec.run_id}-{data_key(on, store)}"


def ends_of(pairs: Iterable[Pair], store: Store) -> dict[str, tuple[RunSpec, RunSpec]]:
    """The ends of the pairs, each once for the data that it is evaluated on: the run, and a run on that data."""
    return {end_key(spec, pair.a, store): (spec, pair.a) for pair in pairs for spec in (pair.a, pair.b)}


def trunk_specs(experiment: str, preset: str, seeds: Sequence[int], settings: dict[str, object]) -> tuple[RunSpec, ...]:
    """The trunks: a preset with some settings, at each seed."""
    require_distinct("seeds", seeds)
    spec = with_settings(get_experiment(experiment).preset(preset).spec, **settings)
    return tuple(replace(spec, seed=seed) for seed in seeds)


def connectivity_graph(
    name: str,
    trunks: Sequence[RunSpec],
    splits: Sequence[int],
    orders: Sequence[int],
    sizes: Sequence[float] = (),
    directions: Sequence[str] = ("random",),
    across: bool = True,
    layerwise: bool = False,
    curve_steps: int = 0,
    points: int = 11,
) -> Graph:
    """Branches of every trunk at every split in every order; pairs within each, across trunks, and after noise.

    Perturbed branches begin at the last split, each with noise of its own.
    """
    require_distinct("orders", orders)
    require(len(orders) > 1, "orders", list(orders), "two or more: each pair is of two branches")
    for field, values in (("splits", splits), ("directions", directions)):
        require_distinct(field, values)
    if sizes:
        require_distinct("sizes", sizes)
    else:
        random = tuple(directions) == ("random",)
        require(random, "directions", list(directions), "none without sizes: a perturbation needs both")
    pair = functools.partial(Pair, layerwise=layerwise, curve_steps=curve_steps, points=points)
    plain = {
        (trunk, step, order): replace(trunk, start=StartFrom(run_id=trunk.run_id, step=step, order=order))
        for trunk, step, order in itertools.product(trunks, splits, orders)
    }
    pairs = [
        pair(a=plain[trunk, step, a], b=plain[trunk, step, b], kind="within")
        for trunk, step in itertools.product(trunks, splits)
        for a, b in itertools.combinations(orders, 2)
    ]
    if across:
        pairs += [
            pair(a=plain[one, step, order], b=plain[other, step, order], kind="across")
            for step, order in itertools.product(splits, orders)
            for one, other in itertools.combinations(trunks, 2)
        ]
    groups = _perturbed(trunks, splits[-1], orders, sizes, directions)
    noisy = [spec for group in groups for spec in group]
    noisy_pairs = [pair(a=a, b=b, kind="perturbed") for group in groups for a, b in itertools.combinations(group, 2)]
    return Graph(
        name=name,
        experiment=trunks[0].experiment,
        trunks=tuple(trunks),
        splits=tuple(splits),
        branches=(*plain.values(), *noisy),
        pairs=(*pairs, *noisy_pairs),
    )


def _perturbed(
    trunks: Sequence[RunSpec], step: int, orders: Sequence[int], sizes: Sequence[float], directions: Sequence[str]
) -> list[list[RunSpec]]:
    """Branches after noise, a group for each trunk, size and direction."""

    def start(trunk: RunSpec, size: float, direction: str, order: int) -> StartFrom:
        noise = Perturbation(size=size, direction=direction, noise_seed=order)
        return StartFrom(run_id=trunk.run_id, step=step, order=order, perturbation=noise)

    return [
        [replace(trunk, start=start(trunk, size, direction, order)) for order in orders]
        for trunk, size, direction in itertools.product(trunks, sizes, directions)
    ]


def ticket_graph(
    name: str,
    trunks: Sequence[RunSpec],
    rewind: int,
    densities: Sequence[float],
    kinds: Sequence[str],
    orders: Sequence[int],
) -> Graph:
    """A ticket of every trunk at every density of every kind in every order; the order seeds the mask too.

    Of iterative ones each is made from that of the next higher density.
    """
    for field, values in (("densities", densities), ("masks", kinds), ("orders", orders)):
        require_distinct(field, values)
    tickets: list[RunSpec] = []
    for trunk, kind, order in itertools.product(trunks, kinds, orders):
        previous = ""
        for density in sorted(densities, reverse=True):
            ticket = Ticket(density=density, mask=kind, mask_seed=order, previous=previous)
            start = StartFrom(run_id=trunk.run_id, step=rewind, order=order, ticket=ticket)
            tickets.append(replace(trunk, start=start))
            previous = tickets[-1].run_id if kind == "iterative" else ""
    return Graph(
        name=name,
        experiment=trunks[0].experiment,
        trunks=tuple(trunks),
        splits=(rewind,),
        branches=tuple(tickets),
        tickets=tuple(tickets),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """What of a graph is not there yet, read from the store."""

    trunks: tuple[RunSpec, ...]
    states: dict[str, tuple[int, ...]]
    """Finished trunks by run_id, with the steps at which they did not keep their state."""
    branches: tuple[RunSpec, ...]
    pairs: tuple[Pair, ...]
    tickets: tuple[RunSpec, ...]
    failed: Mapping[str, str]
    """Runs by run_id that failed before and stay so, with the reason."""
    blocked: Mapping[str, str]
    """What needs one of these, by run_id, pair_id or `ticket_key`, with the run_id of that one."""
    again: frozenset[str] = frozenset()
    """Runs that failed before and are to be trained again."""

    @property
    def nothing(self) -> bool:
        """Whether nothing is left that can be done."""
        keys = [spec.run_id for spec in (*self.trunks, *self.branches)]
        keys += [*(pair.pair_id for pair in self.pairs), *map(ticket_key, self.tickets)]
        return not any(self.can(key) for key in keys)

    def can(self, key: str) -> bool:
        """Whether a run, pair or ticket that is left neither failed before nor needs one that did."""
        return key not in self.failed and key not in self.blocked

    @property
    def possible_pairs(self) -> list[Pair]:
        """The pairs that are left and can be measured."""
        return [pair for pair in self.pairs if self.can(pair.pair_id)]

    @property
    def runs_of_pairs(self) -> list[RunSpec]:
        """The runs whose last checkpoints these pairs connect, each once."""
        return list({spec.run_id: spec for pair in self.possible_pairs for spec in (pair.a, pair.b)}.values())

    @property
    def runs_of_tickets(self) -> dict[str, int]:
        """The dense runs of the tickets that are left and can be measured, by run_id, with the step they begin at."""
        possible = [spec for spec in self.tickets if self.can(ticket_key(spec))]
        return {spec.start.run_id: spec.start.step for spec in possible if spec.start}


NOTHING = Remaining(trunks=(), states={}, branches=(), pairs=(), tickets=(), failed={}, blocked={})
"""What is left of a graph that is done."""


def ticket_key(spec: RunSpec) -> str:
    """What the comparison of a ticket with its trunk goes by, apart from the ticket's training."""
    return f"{spec.run_id}-ticket"


def needs_of(spec: RunSpec) -> tuple[str, ...]:
    """Run ids that a run needs: none for a trunk, the trunk of a branch, and of an iterative ticket the one before."""
    if spec.start is None:
        return ()
    previous = spec.start.ticket.previous if spec.start.ticket else ""
    return (spec.start.run_id, previous) if previous else (spec.start.run_id,)


def remaining(graph: Graph, store: Store, retry_failed: bool = False) -> Remaining:
    """The runs and pairs that the store lacks; states count only where a branch is still to begin there.

    What is measured counts where it was measured of the weights that the runs have now. A run that is to be trained may
    get other ones: what begins from it, or is measured of it, is left too, and ends at once where none came. Runs that
    failed stay so, with all that needs them, unless `retry_failed`.
    """
    runs, failed = ended_runs(graph, store)
    stay = {} if retry_failed else failed
    branches = tuple(spec for spec in graph.branches if spec.run_id not in runs)
    trunks = tuple(spec for spec in graph.trunks if spec.run_id not in runs)
    blocked = _blocked(branches, stay)
    states = {}
    for trunk in graph.trunks:
        needed = _steps_needed([spec for spec in branches if not {spec.run_id} & {*stay, *blocked}], trunk)
        if trunk not in trunks and (missing := needed - kept_states(store.run_of(trunk)).keys()):
            states[trunk.run_id] = tuple(sorted(missing))
    lines, compared = measured_pairs(graph, store, runs), measured_tickets(graph, store, runs)
    pairs = tuple(pair for pair in graph.pairs if pair not in lines)
    tickets = tuple(spec for spec in graph.tickets if spec not in compared)
    hopeless = {**blocked, **{run_id: run_id for run_id in stay}}
    ends: dict[str, tuple[str, ...]] = {pair.pair_id: (pair.a.run_id, pair.b.run_id) for pair in pairs}
    ends |= {ticket_key(spec): (spec.run_id,) for spec in tickets}
    not_measured = {key: hopeless[run_id] for key, of in ends.items() for run_id in of if run_id in hopeless}
    return Remaining(
        trunks=trunks,
        states=states,
        branches=branches,
        pairs=pairs,
        tickets=tickets,
        failed=stay,
        blocked={**blocked, **not_measured},
        again=frozenset(failed.keys() - stay.keys()),
    )


def _blocked(branches: Iterable[RunSpec], failed: Mapping[str, str]) -> dict[str, str]:
    """Branches that need a run that failed, or one that needs it, with the run_id of the one that failed."""
    blocked: dict[str, str] = {}
    for spec in branches:
        for needed in needs_of(spec):
            if spec.run_id not in failed and (needed in failed or needed in blocked):
                blocked.setdefault(spec.run_id, blocked.get(needed, needed))
    return blocked


def finished_runs(graph: Graph, store: Store) -> dict[str, Manifest]:
    """The manifests of the runs that are trained, each from the weights that those it began from have now."""
    return ended_runs(graph, store)[0]


def ended_runs(graph: Graph, store: Store) -> tuple[dict[str, Manifest], dict[str, str]]:
    """The manifests of the runs that are trained, and the reasons of those that failed, by run_id.

    A run counts where those it began from are trained, and have the weights that it began from.
    """
    finished: dict[str, Manifest] = {}
    failed: dict[str, str] = {}
    for spec in (*graph.trunks, *graph.branches):
        manifest, needed = read_manifest(store.run_of(spec)), needs_of(spec)
        if manifest is None or manifest.status == "damaged" or not all(run_id in finished for run_id in needed):
            continue
        origins = origins_of(spec, store) if spec.norms.run else {run_id: finished[run_id].digest for run_id in needed}
        if outdated(manifest, origins):
            continue
        if manifest.status == "complete":
            finished[spec.run_id] = manifest
        else:
            failed[spec.run_id] = manifest.reason
    return finished, failed


def measured_pairs(graph: Graph, store: Store, runs: Mapping[str, Manifest]) -> dict[Pair, str]:
    """The pairs that are measured, with where; one listing."""
    there = measured(store, graph.experiment, "pairs") if graph.pairs else set()
    ids = {
        pair: line_id(pair, runs[pair.a.run_id], runs[pair.b.run_id])
        for pair in graph.pairs
        if pair.a.run_id in runs and pair.b.run_id in runs
    }
    return {pair: values_url(store, graph.experiment, "pairs", found) for pair, found in ids.items() if found in there}


def measured_tickets(graph: Graph, store: Store, runs: Mapping[str, Manifest]) -> dict[RunSpec, str]:
    """The tickets that are compared with their dense run, with where; one listing."""
    there = measured(store, graph.experiment, "tickets") if graph.tickets else set()
    ids = {
        spec: comparison_id(spec, runs[spec.run_id], runs[spec.start.run_id])
        for spec in graph.tickets
        if spec.start and spec.run_id in runs
    }
    return {spec: values_url(store, graph.experiment, "tickets", name) for spec, name in ids.items() if name in there}


def _steps_needed(branches: Iterable[RunSpec], trunk: RunSpec) -> set[int]:
    return {spec.start.step for spec in branches if spec.start and spec.start.run_id == trunk.run_id}
