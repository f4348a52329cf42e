"""Plans: the items of a study, which of them are done, and the cost of the rest."""

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
    """One item of a study: a training, the analysis of a run, a line, a ticket."""

    kind: str
    key: str
    label: str
    state: State
    reason: str = ""
    """Why it failed or must be made again; empty otherwise."""
    there: int = 0
    """Number of its parts in the store."""
    parts: int = 1
    """Number of its parts, such as the checkpoints of a run."""
    unit: Unit | None = None
    """The unit that makes it; None if it is done, or failed and is not to be retried."""
    run: RunSpec | None = None
    """The run to train; None for other items."""
    network: RunSpec | None = None
    """A run of the same network, used to estimate the cost."""
    analyses: tuple[str, ...] = ()
    """The blocks that are left to analyse, for the estimate."""
    cost: Callable[[], Cost] = Cost
    """Counts the work left; called only for an estimate, as it may build a network."""

    @property
    def stays_failed(self) -> bool:
        """Whether it failed before and is not to be retried."""
        return self.state == "failed" and self.unit is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The remaining work of one kind."""

    seconds: float = 0.0
    """Seconds for one worker."""
    bytes: int = 0
    """Bytes of checkpoints to write."""


class Results(Protocol):
    """The cube of a study and its report, as they would be made from the store's present content."""

    @property
    def url(self) -> str:
        """Where the cube lies."""
        ...

    @property
    def contents(self) -> str:
        """Digest of everything that determines its content."""
        ...

    @property
    def measured(self) -> int:
        """Runs, lines or tickets in it; without any there is no cube."""
        ...

    @property
    def complete(self) -> bool:
        """Whether everything requested is measured."""
        ...

    @property
    def note(self) -> str:
        """URL of the note that says from which contents the report was made."""
        ...

    @property
    def report(self) -> Sequence[str]:
        """The URLs of the report's objects."""
        ...

    def write(self, lease: Lease | None) -> None:
        """Write the cube."""
        ...

    def draw(self) -> None:
        """Write the report of the existing cube."""
        ...

    def following(self, lease: Lease | None) -> "Following":
        """The cube, for writing while units run."""
        ...


class Study(Protocol):
    """The object of a call: a name, and everything that belongs to it."""

    @property
    def name(self) -> str:
        """The name of its results."""
        ...

    @property
    def kind(self) -> str:
        """`sweep`, `connectivity`, `tickets` or `series`."""
        ...

    @property
    def experiment(self) -> str:
        """The experiment of its runs, under which logs and results are stored."""
        ...

    @property
    def noun(self) -> tuple[str, str]:
        """The noun for the rows of its cube, singular and plural, such as `run`, `runs`."""
        ...

    @property
    def takes_seconds(self) -> bool:
        """Whether one process finishes it before a cluster would have started."""
        ...

    def checked(self, store: Store, asks: bool = False) -> Self:
        """The study after checking that its inputs exist; writes nothing if a call only `asks`.

        Includes what other calls have added meanwhile.
        """
        ...

    def items(self, store: Store, retry_failed: bool = False, whole: bool = True) -> list[Item]:
        """All items, in an order in which they can be made; only reads the store.

        With `whole`, includes shared factors, for which data sets may be read.
        """
        ...

    def results(self, store: Store) -> Results:
        """Its cube, as it would be gathered now."""
        ...

    def cube(self, store: Store) -> str:
        """URL of its cube."""
        ...

    def recorded(self, store: Store) -> bool:
        """Whether the store's record contains all of it."""
        ...

    def record(self, store: Store) -> None:
        """Add it to the store's record."""
        ...

    def clean(self, store: Store) -> None:
        """Remove data shared by its units, including leftovers of a killed call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The items of a study, and the cost of the rest."""

    study: Study
    store: Store
    items: tuple[Item, ...]
    estimates: Mapping[str, Estimate]
    """Estimates by kind, for everything that can be done; empty without an estimate."""
    seconds_of: Mapping[str, float]
    """Seconds of one worker for each item that is left, by key."""
    left_out: Mapping[str, str]
    """Keys of the items that need a failed one, with the reason."""

    def estimated(self, threads: int | None) -> "Plan":
        """The plan with estimates, from timing a few steps with the threads of a unit."""
        estimates, seconds_of = _estimates(self.items, self.todo, self.store, threads)
        return replace(self, estimates=estimates, seconds_of=seconds_of)

    @property
    def todo(self) -> tuple[Item, ...]:
        """The items that are left and can be done."""
        return tuple(item for item in self.items if item.unit and item.key not in self.left_out)

    @property
    def failed(self) -> tuple[Item, ...]:
        """The items that failed before and are not retried."""
        return tuple(item for item in self.items if item.stays_failed)

    @property
    def units(self) -> list[Unit]:
        """The units of all items that are left, including those that need a failed one."""
        return [item.unit for item in self.items if item.unit]

    @property
    def seconds(self) -> float:
        """Seconds of one worker for everything that is left; 0 without an estimate."""
        return sum(estimate.seconds for estimate in self.estimates.values())

    @property
    def bytes(self) -> int:
        """Bytes of the checkpoints that are left to write; 0 without an estimate."""
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
    """Plan a study; with `estimate`, count what is left and time a few steps of it.

    Without `estimate`, no data set is read. Steps are timed with the `threads` of a unit of work. Failed items, and all
    that need them, are left out, unless `retry_failed`.
    """
    plan = planned(study, store, retry_failed, whole=estimate)
    return plan.estimated(threads) if estimate else plan


def planned(study: Study, store: Store, retry_failed: bool = False, whole: bool = True) -> Plan:
    """Plan a study without an estimate; `whole` as in `Study.items`."""
    items = tuple(study.items(store, retry_failed, whole))
    return Plan(study=study, store=store, items=items, estimates={}, seconds_of={}, left_out=needing_failed(items))


def failed_before(items: Iterable[Item]) -> dict[str, str]:
    """Keys of the failed items that are not retried, each with a message."""
    return {item.key: f"{item.label} failed" for item in items if item.stays_failed}


def needing_failed(items: Sequence[Item]) -> dict[str, str]:
    """Keys of the items that need a failed one that is not retried, with that one's message."""
    schedule = Schedule([item.unit for item in items if item.unit], failed_before(items))
    return {unit.key: why for unit, why in schedule.left_out}


def _estimates(
    items: Sequence[Item], todo: Sequence[Item], store: Store, threads: int | None
) -> tuple[dict[str, Estimate], dict[str, float]]:
    """Estimates by kind, and the seconds of each item; measures each network once."""
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
    """Rates measured here, except for the step if a finished run of the same kind gives its time."""
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
    """Bytes of a checkpoint, from an existing one, else from a network built without weights."""
    kind = (network.net, network.data)
    if kind not in known:
        written = (
            tensor_bytes(store.run_of(item.run))
            for item in items
            if item.run and item.there and (item.run.net, item.run.data) == kind
        )
        known[kind] = next(filter(None, written), 0) or checkpoint_bytes(network)
    return known[kind]
