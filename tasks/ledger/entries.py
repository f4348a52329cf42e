"""What each unit of work took: an immutable object for each, beside the logs of what it worked on."""

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
    """What one unit took; it decides nothing."""

    kind: str
    """As `trainings`."""
    key: str
    label: str
    executor: str
    """`here`, `inline` or `ray`."""
    started: str
    """When its first call began, in UTC."""
    seconds: float
    """Of computing, in sum over its calls, which may have run side by side; without waiting for a place to run."""
    failed: bool
    device: str
    """`cpu` or `cuda`; empty where no call came to its end."""
    processor: str
    threads: int
    """CPU threads of a call."""
    gpus: float
    """The share of a GPU that a call had; 0 on a CPU."""
    written: int | None = None
    """Bytes of the checkpoints that it wrote; None of what writes none."""
    cpu_seconds: float | None = None
    """CPU time of the processes of its calls while these computed; None in entries from before it was measured."""
    estimate: float | None = None
    """Seconds that the plan of the call expected; None where it had no estimate."""


def write_entry(store: Store, experiment: str, name: str, entry: Entry) -> None:
    """Put an entry into the folder of a unit's log, under a name of its own; one request."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    place = f"{store.logs(experiment, name)}/ledger-{entry.kind}-{moment}-{secrets.token_hex(4)}.json"
    objects.write(place, encode(entry))


def read_entries(
    store: Store, experiment: str, name: str = "", counts: Callable[[str], bool] = lambda name: True
) -> list[Entry]:
    """The entries of an experiment, or of one unit's folder, whose folder `counts`, oldest first.

    A listing, and a request for each entry. StoreError where one is damaged.
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
    except FileNotFoundError:  # removed since it was listed
        return None
    except ValueError as error:
        raise StoreError(f"{url} is no entry of the ledger ({error}); delete it: nothing else depends on it") from None
