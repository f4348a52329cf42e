"""Makes small graphs of branches and tickets, and any study, in this process, without Prefect or Ray."""

from collections.abc import Collection
from typing import Any

from specdyn.flows.parameters import ConnectParameters, TicketParameters
from specdyn.flows.studies import connectivity_from, tickets_from
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.tasks.plan.branching.graph import Graph
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.plan import Item, Study
from specdyn.tasks.plan.units import Schedule
from specdyn.tasks.work import Work

NAME = "modular_addition"
OPTIONS = ("--preset", "smoke", "--seeds", "0", "--set", "steps=20", "--set", "checkpoint_every=10", "--orders", "3,4")
"""Command-line arguments for the runs of these graphs."""
COMMANDS = {
    "connect": ("connect", NAME, *OPTIONS, "--splits", "10"),
    "tickets": ("tickets", NAME, *OPTIONS, "--rewind", "10", "--densities", "0.5", "--masks", "magnitude,random"),
}
"""The command of each graph, without its store."""


def graph_in(store: str, which: str, **changed: Any) -> tuple[Graph, Store]:
    """The graph of that command, and the store."""
    common: dict[str, Any] = {"preset": "smoke", "seeds": [0], "orders": [3, 4], "store": store}
    common |= {"settings": {"steps": 20, "checkpoint_every": 10}, **changed}
    if which == "tickets":
        asked = TicketParameters(rewind=10, densities=[0.5], masks=["magnitude", "random"], **common)
        return tickets_from(asked), Store(store)
    return connectivity_from(ConnectParameters(splits=[10], **common)), Store(store)


def left(graph: Graph, store: Store, kind: str = "", retry_failed: bool = False) -> list[Item]:
    """The items of a graph, or of one kind, that the store lacks, including those that cannot be made."""
    items = graph.items(store, retry_failed)
    return [item for item in items if item.state != "done" and kind in ("", item.kind)]


def carry_out(study: Study, store: Store, report: bool = False, only: Collection[str] = ()) -> list[tuple[str, Work]]:
    """Do everything that a study lacks, and gather it; returns the kind of each unit and what it gave.

    With `only` units of these kinds alone are done, and nothing is gathered.
    """
    study = study.checked(require_store(store.url))
    study.record(store)
    schedule = Schedule([item.unit for item in study.items(store) if item.unit])
    made = []
    while ready := [unit for unit in schedule.ready() if not only or unit.kind in only]:
        for unit in ready:
            spread: tuple[Any, ...] = (ThisProcess(), lambda _: None) if unit.spreads else ()
            made.append((unit.kind, unit.function(*spread, *unit.arguments)))
            schedule.finished(unit.key)
    if not only:
        gather(study, store, report)
    return made
