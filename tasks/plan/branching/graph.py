"""The graph of an intervention: trunks, branches that start from them, and connected pairs."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.checks import require, require_distinct
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.models.spec.start import Perturbation, StartFrom, Ticket
from specdyn.storage.checkpoints import Manifest, read_manifests
from specdyn.storage.places import Store
from specdyn.storage.results import ids_in
from specdyn.storage.studies import read_study, record_study
from specdyn.tasks.connect.ids import comparison_id, line_id
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.identity import data_of_plugin, origins_of, outdated
from specdyn.tasks.plan.cells import require_inputs
from specdyn.tasks.plan.plan import Item
from specdyn.tasks.plan.sweeps import label

if TYPE_CHECKING:
    from specdyn.tasks.plan.branching.cube import GraphCube


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Everything that an intervention consists of, existing or not."""

    takes_seconds: ClassVar = False
    """The time of trainings is unknown."""
    name: str
    experiment: str
    trunks: tuple[RunSpec, ...]
    splits: tuple[int, ...]
    """Steps at which the trunks keep their training state."""
    branches: tuple[RunSpec, ...]
    pairs: tuple[Pair, ...] = ()
    tickets: tuple[RunSpec, ...] = ()
    """Branches to compare with their trunk, checkpoint by checkpoint."""

    retrain: bool = True
    """Whether finished trunks may be retrained to produce states that they did not keep."""

    @property
    def kind(self) -> Literal["connectivity", "tickets"]:
        """`connectivity` or `tickets`; also the name of its record and its cube."""
        return "tickets" if self.tickets else "connectivity"

    @property
    def noun(self) -> tuple[str, str]:
        """The noun for the rows of its cube, singular and plural."""
        return ("ticket", "tickets") if self.tickets else ("pair", "pairs")

    @property
    def runs(self) -> dict[str, RunSpec]:
        """Every run by its id."""
        return {spec.run_id: spec for spec in (*self.trunks, *self.branches)}

    def checked(self, store: Store, asks: bool = False) -> "Graph":
        """The graph itself; NotPrepared or ValueError if the store lacks what its runs need."""
        require_inputs(self.trunks, store, asks)
        return self

    def items(self, store: Store, retry_failed: bool = False, whole: bool = True) -> list[Item]:
        """Its trainings, then its measurements. ValueError if states are missing and must not be made."""
        from specdyn.tasks.plan.branching.items import items_of

        return items_of(self, store, retry_failed, whole)

    def cube(self, store: Store) -> str:
        """URL of its cube."""
        return store.tickets(self.name) if self.tickets else store.connectivity(self.name)

    def results(self, store: Store) -> "GraphCube":
        """The cube of all pairs or tickets in the store's record."""
        from specdyn.tasks.plan.branching.cube import graph_cube
        from specdyn.tasks.plan.branching.records import present_graph

        record = read_study(store, self.name, self.kind)
        return graph_cube(present_graph(record) if record else self, store, self)

    def recorded(self, store: Store) -> bool:
        """Whether all its runs, pairs and tickets are in the store's record."""
        from specdyn.tasks.plan.branching.records import record_of

        record = read_study(store, self.name, self.kind)
        return record is not None and record.extended(record_of(self)) == record

    def record(self, store: Store) -> None:
        """Add its runs, pairs and tickets to the store's record."""
        from specdyn.tasks.plan.branching.records import record_of

        record_study(store, record_of(self))

    def clean(self, store: Store) -> None:
        """Remove the factors that units shared, including those left by a killed call."""
        from specdyn.tasks.connect.factors import forget_factors

        forget_factors(store, self.experiment, self.runs)


def name_of(spec: RunSpec) -> str:
    """The display name of a run in a graph."""
    start = spec.start
    if start is None:
        return label(spec)
    if start.ticket:
        return f"seed={spec.seed} {start.ticket.mask} {start.ticket.density:g} order={start.order} ({spec.run_id[:6]})"
    noise = f" size={start.perturbation.size:g} {start.perturbation.direction}" if start.perturbation else ""
    return f"seed={spec.seed} split={start.step} order={start.order}{noise} ({spec.run_id[:6]})"


def trunk_specs(experiment: str, preset: str, seeds: Sequence[int], settings: dict[str, object]) -> tuple[RunSpec, ...]:
    """The trunks: a preset with some settings, for each seed."""
    require_distinct("seeds", seeds)
    spec = with_settings(get_experiment(experiment).preset(preset).spec, **settings)
    return tuple(replace(spec, seed=seed) for seed in seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Perturbations of branches at the last split point: every size in every direction; none without sizes."""

    sizes: Sequence[float] = ()
    directions: Sequence[str] = ("random",)

    def __post_init__(self) -> None:
        require_distinct("directions", self.directions)
        if self.sizes:
            require_distinct("sizes", self.sizes)
        else:
            random = tuple(self.directions) == ("random",)
            require(random, "directions", list(self.directions), "none without sizes: a perturbation needs both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Which branches are connected, and how; the fields of `Pair` apply to every line."""

    across: bool = True
    """Whether to connect branches of different trunks, too."""
    layerwise: bool = False
    curve_steps: int = 0
    points: int = 11


def connectivity_graph(
    name: str,
    trunks: Sequence[RunSpec],
    splits: Sequence[int],
    orders: Sequence[int],
    noise: Noise | None = None,
    lines: Lines | None = None,
) -> Graph:
    """Branches of every trunk at every split point in every order; pairs within and across trunks, and after noise.

    Perturbed branches start at the last split point, each with its own noise.
    """
    noise, lines = noise or Noise(), lines or Lines()
    require_distinct("orders", orders)
    require(len(orders) > 1, "orders", list(orders), "two or more: each pair is of two branches")
    require_distinct("splits", splits)
    pair = functools.partial(Pair, layerwise=lines.layerwise, curve_steps=lines.curve_steps, points=lines.points)
    plain = {
        (trunk, step, order): replace(trunk, start=StartFrom(run_id=trunk.run_id, step=step, order=order))
        for trunk, step, order in itertools.product(trunks, splits, orders)
    }
    pairs = [
        pair(a=plain[trunk, step, a], b=plain[trunk, step, b], kind="within")
        for trunk, step in itertools.product(trunks, splits)
        for a, b in itertools.combinations(orders, 2)
    ]
    if lines.across:
        pairs += [
            pair(a=plain[one, step, order], b=plain[other, step, order], kind="across")
            for step, order in itertools.product(splits, orders)
            for one, other in itertools.combinations(trunks, 2)
        ]
    groups = _perturbed(trunks, splits[-1], orders, noise)
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


def _perturbed(trunks: Sequence[RunSpec], step: int, orders: Sequence[int], noise: Noise) -> list[list[RunSpec]]:
    """Perturbed branches, one group per trunk, size and direction."""

    def start(trunk: RunSpec, size: float, direction: str, order: int) -> StartFrom:
        perturbation = Perturbation(size=size, direction=direction, noise_seed=order)
        return StartFrom(run_id=trunk.run_id, step=step, order=order, perturbation=perturbation)

    return [
        [replace(trunk, start=start(trunk, size, direction, order)) for order in orders]
        for trunk, size, direction in itertools.product(trunks, noise.sizes, noise.directions)
    ]


def ticket_graph(
    name: str,
    trunks: Sequence[RunSpec],
    rewind: int,
    densities: Sequence[float],
    kinds: Sequence[str],
    orders: Sequence[int],
) -> Graph:
    """A ticket for every trunk, density, kind of mask and order; the order also seeds the mask.

    Each iterative mask is made from that of the next higher density.
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


def ticket_key(spec: RunSpec) -> str:
    """Key of the comparison of a ticket with its trunk, as opposed to the ticket's training."""
    return f"{spec.run_id}-ticket"


def needs_of(spec: RunSpec) -> tuple[str, ...]:
    """Run ids that a run needs: none for a trunk, the trunk for a branch, the previous one for an iterative ticket."""
    if spec.start is None:
        return ()
    previous = spec.start.ticket.previous if spec.start.ticket else ""
    return (spec.start.run_id, previous) if previous else (spec.start.run_id,)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRuns:
    """The runs whose training has ended, by run_id."""

    finished: Mapping[str, Manifest]
    failed: Mapping[str, str]
    """Runs that diverged, each with the reason."""
    damaged: frozenset[str]
    """Runs to be retrained, as a checkpoint failed verification."""


def ended_runs(graph: Graph, store: Store) -> EndedRuns:
    """The runs of a graph that are trained or failed.

    A run counts if the runs from which it started are trained and still have the weights from which it started. Reads
    several manifests at a time; many runs need only one listing.
    """
    specs = (*graph.trunks, *graph.branches)
    manifests = read_manifests(store, graph.experiment, [spec.run_id for spec in specs])
    finished: dict[str, Manifest] = {}
    failed: dict[str, str] = {}
    damaged = {one.run_id for one in manifests if one is not None and one.status == "damaged"}
    for spec, manifest in zip(specs, manifests, strict=True):
        needed = needs_of(spec)
        if manifest is None or manifest.run_id in damaged or not all(run_id in finished for run_id in needed):
            continue
        before = {run_id: finished[run_id].digest for run_id in needed}
        origins = origins_of(spec, store) if spec.norms.run else {**before, **data_of_plugin(spec)}
        if outdated(manifest, origins):
            continue
        if manifest.status == "complete":
            finished[spec.run_id] = manifest
        else:
            failed[spec.run_id] = manifest.reason
    return EndedRuns(finished=finished, failed=failed, damaged=frozenset(damaged))


def measured_pairs(graph: Graph, store: Store, runs: Mapping[str, Manifest]) -> dict[Pair, str]:
    """The measured pairs, with the URLs of their results; one listing."""
    there = ids_in(store.measured("pairs", graph.experiment)) if graph.pairs else set()
    ids = {
        pair: line_id(pair, runs[pair.a.run_id], runs[pair.b.run_id])
        for pair in graph.pairs
        if pair.a.run_id in runs and pair.b.run_id in runs
    }
    return {pair: store.result("pairs", graph.experiment, found) for pair, found in ids.items() if found in there}


def measured_tickets(graph: Graph, store: Store, runs: Mapping[str, Manifest]) -> dict[RunSpec, str]:
    """The tickets compared with their dense run, with the URLs of their results; one listing."""
    there = ids_in(store.measured("tickets", graph.experiment)) if graph.tickets else set()
    ids = {
        spec: comparison_id(spec, runs[spec.run_id], runs[spec.start.run_id])
        for spec in graph.tickets
        if spec.start and spec.run_id in runs
    }
    return {spec: store.result("tickets", graph.experiment, name) for spec, name in ids.items() if name in there}
