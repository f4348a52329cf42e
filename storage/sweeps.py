"""Records of sweeps: which specs belong to one, over all calls that extended it."""

import dataclasses
from dataclasses import dataclass

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.codec import decode, encode
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import change_record, newest_place, read_record
from specdyn.storage.places import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecord:
    """The specs of a sweep, as canonical JSON, in the order they were asked for."""

    name: str
    experiment: str
    preset: str
    specs: tuple[str, ...]


def read_sweep(store: Store, name: str) -> SweepRecord | None:
    """The record of that name, or None; StoreError where something else lies in its place."""
    url = store.sweep(name)
    text = read_record(url)
    return None if text is None else _parsed(url, text, name)


def extend_sweep(store: Store, record: SweepRecord) -> SweepRecord:
    """Add the record's specs to what the store has of that sweep; ValueError where the experiment differs.

    Calls that extend one sweep at the same time lose nothing of one another.
    """
    url = store.sweep(record.name)

    def extended(text: bytes | None) -> bytes:
        before = None if text is None else _parsed(url, text, record.name)
        if before and before.experiment != record.experiment:
            raise ValueError(
                f"sweep={record.name!r} is a sweep of {before.experiment!r} in {store}, "
                f"not of {record.experiment!r}: choose another name"
            )
        specs = dict.fromkeys([*(before.specs if before else ()), *record.specs])
        return encode(dataclasses.replace(record, specs=tuple(specs)))

    stands = change_record(url, extended)
    assert stands is not None
    return _parsed(url, stands, record.name)


def _parsed(url: str, text: bytes, name: str) -> SweepRecord:
    try:
        record = decode(SweepRecord, url, text)
        if record.name != name:
            raise ValueError(f"it says {record.name!r}")
    except ValueError as error:
        raise StoreError(
            f"{newest_place(url)} is not the record of a sweep ({error}); delete it, and call "
            "`specdyn run` as before to have it written again"
        ) from None
    return record


def sweep_names(store: Store) -> list[str]:
    """Names of the sweeps of a store."""
    found = objects.names(store.sweeps)
    return [name.removesuffix(".json") for name in found if name.endswith(".json")]


def cubes_of(store: Store, experiment: str) -> list[str]:
    """Names of the cubes of a store that belong to no sweep and say that they are of that experiment.

    A listing, and a read for each cube without a sweep.
    """
    found = objects.names(store.sweeps)
    recorded = {name.removesuffix(".json") for name in found if name.endswith(".json")}
    others = [name.removesuffix(".zarr") for name in found if name.endswith(".zarr")]
    return [
        name
        for name in others
        if name not in recorded and generations.attributes(store.cube(name)).get("experiment") == experiment
    ]
