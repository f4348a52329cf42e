"""Records of sweeps: which specs belong to one, over all calls that extended it."""

import json
from dataclasses import dataclass

from storage import locations
from storage.checkpoints import require_schema
from storage.layout import Layout
from storage.locations import StoreError
from storage.schema import SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecord:
    """The specs of a sweep, as canonical JSON, in the order they were asked for."""

    name: str
    experiment: str
    preset: str
    specs: tuple[str, ...]


def read_sweep(store: str, name: str) -> SweepRecord | None:
    """The record of that name, or None."""
    url = Layout(store).sweep(name)
    try:
        plain = json.loads(locations.read(url))
        require_schema(url, plain.pop("schema_version", 0))
        record = SweepRecord(**{**plain, "specs": tuple(plain["specs"])})
        if record.name != name:
            raise ValueError(f"it says {record.name!r}")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{url} is not the record of a sweep ({type(error).__name__}: {error}); delete it, and call `specdyn run` "
            "as before to have it written again"
        ) from None
    return record


def extend_sweep(store: str, record: SweepRecord) -> SweepRecord:
    """Add the record's specs to what the store has of that sweep; ValueError where the experiment differs."""
    before = read_sweep(store, record.name)
    if before and before.experiment != record.experiment:
        raise ValueError(
            f"sweep={record.name!r} is a sweep of {before.experiment!r} in {store}, "
            f"not of {record.experiment!r}: choose another name"
        )
    specs = tuple(dict.fromkeys([*(before.specs if before else ()), *record.specs]))
    merged = SweepRecord(name=record.name, experiment=record.experiment, preset=record.preset, specs=specs)
    if merged != before:
        plain = {
            "schema_version": SCHEMA_VERSION,
            "name": merged.name,
            "experiment": merged.experiment,
            "preset": merged.preset,
            "specs": list(specs),
        }
        locations.write(Layout(store).sweep(record.name), json.dumps(plain, indent=1).encode())
    return merged
