"""What a study consists of, what the store has of it, what is left and what that will cost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, Self

from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access.lease import Lease
from specdyn.storage.checkpoints import read_manifest, tensor_bytes
from specdyn.storage.places import Store
from specdyn.tasks.asked import alike, ask
from specdyn.tasks.later import Later
from specdyn.tasks.plan.cost import Cost, Rates, checkpoint_bytes
from specdyn.tasks.plan.units import Schedule, Unit

if TYPE_CHECKING:
    from specdyn.tasks.plan.gathering import Following

State = Literal["done", "partial", "failed", "damaged", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that a study consists of: a training, the analysis of a run, a line, a ticket."""

    kind: str
    key: str
    label: str
    state: State
    reason: str = ""
    """Why it failed, or must be made again; empty otherwise."""
    there: int = 0
    """How many of its parts the store has."""
    parts: int = 1
    """As the checkpoints of a run."""
    unit: Unit | None = None
    """What makes it; None where it is done, or failed and is not to be tried again."""
    run: RunSpec | None = None
    """The run that is trained; None of anything else."""
    network: RunSpec | None = None
    """A run of the network that work is done on, by which its cost is estimated."""
    analyses: tuple[str, ...] = ()
    """What is left to analyse of its checkpoints, for the estimate."""
    cost: Callable[[], Cost] = Cost
    """What is left to do, counted where an estimate is asked for, as it may build a network."""

    @property
    def stays_failed(self) -> bool:
        """Whether it failed before and is not tried again."""
        return self.state == "failed" and self.unit is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is left of one kind."""

    seconds: float = 0.0
    """Of one worker."""
    bytes: int = 0
    """Of checkpoints that are written."""


class Results(Protocol):
    """The cube of a study and its report, as they would be made of what the store has now."""

    @property
    def url(self) -> str:
        """Where the cube lies."""
        ...

    @property
    def contents(self) -> str:
        """What decides all that it holds."""
        ...

    @property
    def measured(self) -> int:
        """Runs, lines or tickets in it; where there are none there is no cube."""
        ...

    @property
    def complete(self) -> bool:
        """Whether all that is asked for is measured."""
        ...

    @property
    def note(self) -> str:
        """Where it is noted of which contents the report was drawn."""
        ...

    @property
    def report(self) -> Sequence[str]:
        """The URLs of what a report must have."""
        ...

    def write(self, lease: Lease | None) -> None:
        """Write the cube."""
        ...

    def draw(self) -> None:
        """Draw the report of the cube that is there."""
        ...

    def following(self, lease: Lease | None) -> "Following":
        """The cube, to be written while units run."""
        ...


class Study(Protocol):
    """What a call asks for: a name, and all that belongs to it."""

    @property
    def name(self) -> str:
        """What its results go by."""
        ...

    @property
    def kind(self) -> str:
        """`sweep`, `connectivity`, `tickets` or `series`."""
        ...

    @property
    def experiment(self) -> str:
        """Which its runs are of; logs and results lie under it."""
        ...

    @property
    def noun(self) -> tuple[str, str]:
        """What its cube consists of, one and many, as `run`, `runs`."""
        ...

    @property
    def takes_seconds(self) -> bool:
        """Whether one process has done it all before a cluster would have begun."""
        ...

    def checked(self, store: Store, asks: bool = False) -> Self:
        """The study, once its inputs are known to be there; where a call only `asks` nothing is written.

        What other calls added to it meanwhile is part of it.
        """
        ...

    def items(self, store: Store, retry_failed: bool = False, whole: bool = True) -> list[Item]:
        """All that it consists of, in the order in which it can be made; read from the store alone.

        With `whole` also what measurements share, for which data sets may be read.
        """
        ...

    def results(self, store: Store) -> Results:
        """Its cube, as it would be gathered now."""
        ...

    def cube(self, store: Store) -> str:
        """Where its cube lies."""
        ...

    def recorded(self, store: Store) -> bool:
        """Whether the store knows that all of this belongs to it."""
        ...

    def record(self, store: Store) -> None:
        """Have the store know it."""
        ...

    def clean(self, store: Store) -> None:
        """Remove what its units shared, also what a killed call left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The items of a study, and what the rest will cost."""

    study: Study
    store: Store
    items: tuple[Item, ...]
    estimates: Mapping[str, Estimate]
    """By kind, of all that can be done; empty where nothing was estimated."""
    seconds_of: Mapping[str, float]
    """Of one worker, for each item that is left, by its key."""
    left_out: Mapping[str, str]
    """Keys of the items that need one that failed before, with the label of that one."""

    def estimated(self, threads: int | None) -> "Plan":
        """The plan with what the rest will cost, by a few steps of it that are timed with the threads of a unit."""
        estimates, seconds_of = _estimates(self.items, self.todo, self.store, threads)
        return replace(self, estimates=estimates, seconds_of=seconds_of)

    @property
    def todo(self) -> tuple[Item, ...]:
        """What is left and can be done."""
        return tuple(item for item in self.items if item.unit and item.key not in self.left_out)

    @property
    def failed(self) -> tuple[Item, ...]:
        """What failed before and stays so."""
        return tuple(item for item in self.items if item.stays_failed)

    @property
    def units(self) -> list[Unit]:
        """What makes the items that are left, also those that need one that failed."""
        return [item.unit for item in self.items if item.unit]

    @property
    def seconds(self) -> float:
        """Of one worker, for everything that is left; 0 where nothing was estimated."""
        return sum(estimate.seconds for estimate in self.estimates.values())

    @property
    def bytes(self) -> int:
        """Of the checkpoints that are left to write; 0 where nothing was estimated."""
        return sum(estimate.bytes for estimate in self.estimates.values())

    def of(self, kind: str) -> list[Item]:
        """The items of that kind."""
        return [item for item in self.items if item.kind == kind]

    @property
    def kinds(self) -> list[str]:
        """The kinds of its items, in order."""
        return list(dict.fromkeys(item.kind for item in self.items))


def make_plan(
    study: Study, store: Store, estimate: bool = True, threads: int | None = None, retry_failed: bool = False
) -> Plan:
    """Look at all that a study consists of; with `estimate`, count what is left and time a few steps of it.

    Without, no data set is read. Steps are timed with the `threads` of a unit of work. What failed stays so, with all
    that needs it, and costs nothing, unless `retry_failed`.
    """
    plan = planned(study, store, retry_failed, whole=estimate)
    return plan.estimated(threads) if estimate else plan


def planned(study: Study, store: Store, retry_failed: bool = False, whole: bool = True) -> Plan:
    """Look at all that a study consists of, without an estimate; with `whole` as `Study.items` says."""
    items = tuple(study.items(store, retry_failed, whole))
    return Plan(study=study, store=store, items=items, estimates={}, seconds_of={}, left_out=needing_failed(items))


def failed_before(items: Iterable[Item]) -> dict[str, str]:
    """Keys of the items that failed and stay so, each with what is said of it."""
    return {item.key: f"{item.label} failed" for item in items if item.stays_failed}


def needing_failed(items: Sequence[Item]) -> dict[str, str]:
    """Keys of the items that need one that failed and stays so, with what is said of that one."""
    schedule = Schedule([item.unit for item in items if item.unit], failed_before(items))
    return {unit.key: why for unit, why in schedule.left_out}


def _estimates(
    items: Sequence[Item], todo: Sequence[Item], store: Store, threads: int | None
) -> tuple[dict[str, Estimate], dict[str, float]]:
    """What is left of each kind, and the seconds of each item; a network is measured once for all alike."""
    rates: dict[object, Rates] = {}
    sizes: dict[object, int] = {}
    made: dict[str, Estimate] = {}
    seconds_of: dict[str, float] = {}
    for item in todo:
        if (network := item.network) is None:
            continue
        if (group := alike(network)) not in rates:
            of_group = [one for one in todo if one.network and alike(one.network) == group]
            analyses = tuple(dict.fromkeys(name for one in of_group for name in one.analyses))
            rates[group] = _rates(network, items, store, threads, analyses)
        cost, before = item.cost(), made.get(item.kind, Estimate())
        size = _bytes_of_a_checkpoint(network, items, store, sizes) if cost.written else 0
        seconds_of[item.key] = cost.seconds(rates[group])
        made[item.kind] = Estimate(
            seconds=before.seconds + seconds_of[item.key], bytes=before.bytes + cost.written * size
        )
    return made, seconds_of


def _rates(
    network: RunSpec, items: Sequence[Item], store: Store, threads: int | None, analyses: tuple[str, ...]
) -> Rates:
    """Measured here, except for the step if a finished run of the kind shows how long it takes."""
    rates: Rates = ask(Later("specdyn.tasks.plan.measuring", "measure"), network, store, threads, analyses)
    group = alike(network)
    for item in items:
        if (
            item.run
            and item.state == "done"
            and alike(item.run) == group
            and (m := read_manifest(store.run_of(item.run)))
        ):
            step = m.seconds / (item.run.steps - item.run.first_step)
            return replace(rates, step=step, beginning=0.0, writing=0.0)
    return rates


def _bytes_of_a_checkpoint(network: RunSpec, items: Sequence[Item], store: Store, known: dict[object, int]) -> int:
    """By one that is there; a network is built without its weights where there is none."""
    kind = (network.net, network.data)
    if kind not in known:
        written = (
            tensor_bytes(store.run_of(item.run))
            for item in items
            if item.run and item.there and (item.run.net, item.run.data) == kind
        )
        known[kind] = next(filter(None, written), 0) or checkpoint_bytes(network)
    return known[kind]
