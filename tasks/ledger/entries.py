"""Ledger entries: one immutable object per unit of work, next to its logs."""

import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from specdyn.storage.access import objects
from specdyn.storage.access.codec import decode, encode
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.studies import READERS

NAME = re.compile(r"ledger-\w+-\d{8}T\d{6}Z-[0-9a-f]{8}\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The cost of one unit; purely informational."""

    kind: str
    """Kind of unit, such as `trainings`."""
    key: str
    label: str
    executor: str
    """`here`, `inline` or `ray`."""
    started: str
    """When its first call began, in UTC."""
    seconds: float
    """Computing seconds, summed over its calls, which may have run in parallel; without time in queues."""
    failed: bool
    device: str
    """`cpu` or `cuda`; empty if no call finished."""
    processor: str
    threads: int
    """CPU threads per call."""
    gpus: float
    """Share of a GPU per call; 0 on a CPU."""
    written: int | None = None
    """Bytes of checkpoints written; None for units that write none."""
    cpu_seconds: float | None = None
    """CPU time of the unit's processes; None in entries written before it was measured."""
    estimate: float | None = None
    """Seconds estimated by the plan; None without an estimate."""


def write_entry(store: Store, experiment: str, name: str, entry: Entry) -> None:
    """Write an entry to the folder of a unit's log under a unique name; one request."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    place = f"{store.logs(experiment, name)}/ledger-{entry.kind}-{moment}-{secrets.token_hex(4)}.json"
    objects.write(place, encode(entry))


def read_entries(
    store: Store, experiment: str, name: str = "", counts: Callable[[str], bool] = lambda name: True
) -> list[Entry]:
    """The entries of an experiment, or of one unit's folder, for folders that `counts` accepts, oldest first.

    One listing, and one request per entry. StoreError if one is damaged.
    """
    folder = store.logs(experiment, name)
    keys = [key.rpartition("/") for key in objects.names_below(folder)]
    urls = [f"{folder}/{''.join(key)}" for key in keys if NAME.fullmatch(key[2]) and counts(key[0])]
    with ThreadPoolExecutor(READERS) as pool:
        found = [entry for entry in pool.map(_read, urls) if entry]
    return sorted(found, key=lambda entry: entry.started)


def _read(url: str) -> Entry | None:
    try:
        return decode(Entry, url, objects.read(url))
    except FileNotFoundError:  # removed after the listing
        return None
    except ValueError as error:
        raise StoreError(f"{url} is not a ledger entry ({error}); delete it: nothing else depends on it") from None
