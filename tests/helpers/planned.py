"""Plans of units made by hand."""

from collections.abc import Sequence

from specdyn.storage.places import Store
from specdyn.tasks.plan.plan import Item, Plan
from specdyn.tasks.plan.sweeps import Sweep
from specdyn.tasks.plan.units import Unit


def plan_of(units: Sequence[Unit], store: str) -> Plan:
    """A plan of these units, for a study without runs."""
    study = Sweep(name="many", experiment="modular_addition", preset="smoke", specs=(), analyses=())
    items = tuple(Item(kind=unit.kind, key=unit.key, label=unit.label, state="new", unit=unit) for unit in units)
    return Plan(study=study, store=Store(store), items=items, estimates={}, seconds_of={}, left_out={})
