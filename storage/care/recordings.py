"""Checks of recordings of users' own training loops."""

import functools
import json
from collections.abc import Callable, Iterator

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.care.damage import Check, Checked, Look, bad, clean
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.recordings import LINES, SAFETENSORS, read_lines, read_recording, read_step

REPAIR = "put a copy in its place, or delete it: the recording is analysed without it then"


def checks_of_recordings(look: Look) -> Iterator[Check]:
    """Every object of every recording but its lease."""
    for key in look.below("recorded") if look.scope is None else ():
        name, _, inside = key.partition("/")
        place, url = look.store.recording(name), look.url(f"recorded/{key}")
        if inside.endswith(SAFETENSORS):
            yield functools.partial(_check, look, url, functools.partial(read_step, url))
        elif inside.endswith(LINES):
            yield functools.partial(_check, look, url, functools.partial(read_lines, url))
        elif url == place.record:
            yield functools.partial(_check, look, url, functools.partial(read_recording, place))
        elif url == place.labels:
            yield functools.partial(_check, look, url, functools.partial(_read_json, url))


def _check(look: Look, url: str, read: Callable[[], object]) -> Checked:
    try:
        read()
    except FileNotFoundError:
        return Checked(objects=0)  # training was rewound meanwhile
    except (DamagedCheckpoint, StoreError, ValueError) as error:
        return bad(look, "recording", url, str(error).removeprefix(f"{url}: "), REPAIR)
    return clean(look, url)


def _read_json(url: str) -> object:
    return json.loads(objects.read(url))
