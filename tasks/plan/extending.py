"""How further calls, as those of a schedule, extend a sweep instead of repeating it."""

import dataclasses

from specdyn.storage.places import Store
from specdyn.storage.sweeps import read_sweep
from specdyn.tasks.plan.planning import look_at
from specdyn.tasks.plan.sweeps import Sweep, sweep_of


def with_more_seeds(sweep: Sweep, store: Store, count: int) -> Sweep:
    """The sweep with all that the store has of it; once that is done, with so many new seeds for each setting.

    New seeds follow the largest there is. A run that failed for good does not hold the others up.
    """
    record = read_sweep(store, sweep.name) if count else None
    if record is None or record.experiment != sweep.experiment:
        return sweep
    specs = tuple(dict.fromkeys([*sweep_of(record).specs, *sweep.specs]))
    whole = dataclasses.replace(sweep, specs=specs)
    if any(look_at(whole, store, spec).state not in ("done", "failed") for spec in specs):
        return whole
    first = max(spec.seed for spec in specs) + 1
    kinds = dict.fromkeys(dataclasses.replace(spec, seed=0) for spec in specs)
    new = [dataclasses.replace(kind, seed=seed) for seed in range(first, first + count) for kind in kinds]
    return dataclasses.replace(sweep, specs=(*specs, *new))
