"""Reservations: work that several studies share is done by one call, and by another if that one dies.

A reservation is one object, created only if absent, that names the lease of the working call's study. It is valid
as long as that lease is held, so it needs no heartbeat of its own.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from specdyn.storage.access import objects
from specdyn.storage.access.lease import LIFETIME, LOOK_SECONDS, Silence, holder_of
from specdyn.storage.access.objects import StoreError


@contextlib.contextmanager
def reserved(url: str, lease: str, what: str, say: Callable[[str], None], lifetime: float = LIFETIME) -> Iterator[None]:
    """Hold the reservation at `url` for the call that holds the lease at `lease`; two requests.

    Waits while a call of another study has it, and reports once which. A reservation whose lease nobody holds, or whose
    holder sent no heartbeat for `lifetime` seconds, is taken over. Reserved work must be harmless if done twice: two
    calls that take over from a dead one at the same moment may both proceed.
    """
    leases, _, name = lease.rpartition("/")
    folder, _, key = url.rpartition("/")
    place = folder, [key]
    mine, told, silence = name.encode(), b"", Silence(min(LOOK_SECONDS, lifetime / 20))
    while not objects.create(url, mine):
        try:
            owner = objects.read(url)
        except FileNotFoundError:
            continue  # its owner has finished
        if owner == mine:
            break  # left by a call of the same study that died
        holder = holder_of(f"{leases}/{owner.decode()}")
        if holder is not None:
            silence.look(holder)
        if holder is None or silence.seconds > lifetime:
            objects.delete_all(*place)
            continue
        if owner != told:
            told = owner
            say(f"{what}: waiting for {holder}, who works on it for {owner.decode().partition('.')[0]}")
        time.sleep(silence.pause)
    try:
        yield
    finally:
        with contextlib.suppress(StoreError, OSError):
            objects.delete_all(*place)
