"""Leases: one process at a time works on a set of results; others wait, and take over if it dies.

A lease is a series of numbered objects below a prefix, each created only if absent: the highest number holds. Its
holder rewrites its own object every few seconds as a heartbeat, and marks it at the end. If the object has
not changed for LIFETIME by the waiting process's clock, the holder is dead. Time in which the store does not answer
does not count.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError

LIFETIME = 20.0
"""Seconds without a heartbeat after which a holder is considered dead."""
BEATS = 5
"""Heartbeats per lifetime."""
LOOK_SECONDS = 1.0
"""Seconds between two polls of a waiting process; fewer if the lifetime is short."""


PROGRAM = uuid.uuid4().hex
"""Identifies this program: a command that re-executes itself keeps its pid but not its leases."""
UNKNOWN = "unknown"
"""Start time of a live process if the system does not reveal it (another user's, or not on Linux)."""


class LeaseLost(StoreError):
    """Another process took over because this one sent no heartbeat; the pending write is not made."""


class LeaseHeld(StoreError):
    """A live process holds the lease; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The holder recorded in a lease's object."""

    number: int
    token: str
    released: bool
    host: str
    machine: str
    pid: int
    born: str
    program: str
    since: float
    beat: int
    time: float = 0.0
    """Time of its last heartbeat, by its own clock."""
    doing: str = ""
    """Its last progress message."""

    @property
    def here(self) -> bool:
        """Whether the process runs on this machine, where its death can be detected at once."""
        return self.machine == _machine()

    @property
    def dead(self) -> bool:
        """Whether the process is known to have ended or become another program; known only on this machine."""
        if not self.here:
            return False
        if self.pid == os.getpid():
            return self.program != PROGRAM
        return _birth(self.pid) not in (self.born, UNKNOWN)

    @property
    def silent(self) -> float:
        """Seconds since its last heartbeat, by the two machines' clocks; 0 if it recorded no time."""
        return max(0.0, time.time() - self.time) if self.time else 0.0

    @property
    def alive(self) -> bool:
        """Whether it is at work, as far as one read can tell."""
        return not self.dead and (self.here or self.silent <= LIFETIME)

    def __str__(self) -> str:
        return (
            f"process {self.pid} on {self.host}, at work since {time.strftime('%H:%M:%S', time.localtime(self.since))}"
        )


@dataclass(slots=True)
class Silence:
    """Measures how long a holder that is polled now and then has sent no heartbeat."""

    pause: float
    """Seconds between two polls."""
    sign: tuple[str, int] = ("", 0)
    """The last heartbeat: whose, and its number."""
    seconds: float = 0.0
    """Time since it was first seen; time in which the store does not answer does not count."""
    _looked: float = 0.0

    def look(self, holder: Holder) -> bool:
        """Record what was read of the holder; returns whether it is a new heartbeat."""
        before, self._looked = self._looked, _clock()
        if (holder.token, holder.beat) != self.sign:
            self.sign, self.seconds = (holder.token, holder.beat), 0.0
            return True
        # If this poll took long, the store is slow, and the holder's heartbeats are delayed too.
        self.seconds += min(self._looked - before, 2 * self.pause)
        return False


@dataclass(slots=True, kw_only=True)
class Lease:
    """A lease that this process holds or has lost."""

    folder: str
    what: str
    """What it is for, in words."""
    say: Callable[[str], None]
    lifetime: float
    waits: bool = True
    """Whether to wait for a live holder instead of raising LeaseHeld."""
    succeeded: bool = False
    """Whether the previous holder may still be alive and writing."""
    doing: str = ""
    """Progress in words, published with the next heartbeat."""
    _number: int = 0
    _token: str = ""
    _since: float = 0.0
    _beat: int = 0
    _seen: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: threading.Event = field(default_factory=threading.Event)

    def tell(self, doing: str) -> None:
        """Publish this progress message with the next heartbeat."""
        self.doing = doing

    def check(self) -> None:
        """Raise LeaseLost if another process may have taken over; queries the store only after a pause."""
        if _clock() - self._seen > self.lifetime / 2:
            self.verify()

    def verify(self) -> None:
        """Raise LeaseLost if another process has taken over; queries the store and sends a heartbeat."""
        with self._lock:
            if not self._ours():
                raise LeaseLost(f"{self.what}: {_newest(self.folder) or 'another process'} took over; call again")
            self._beat_once()

    def ensure(self) -> None:
        """Acquire the lease again if it was lost."""
        try:
            self.verify()
        except LeaseLost:
            self._acquire()

    def _acquire(self) -> None:
        """Wait until nobody holds the lease or its holder is dead, then take it."""
        told, silence = "", Silence(self._pause)
        while True:
            holder = _newest(self.folder)
            if holder is None or holder.released or holder.dead:
                if self._take(holder, succeeded=False):
                    return
                continue
            first = not silence.sign[0]
            if silence.look(holder) and not self.waits and (holder.here or not first):
                raise LeaseHeld(f"{self.what}: held by {holder}")
            if silence.seconds > self.lifetime:
                if self._take(holder, succeeded=True):
                    return
                continue
            if holder.token != told:
                told = holder.token
                self.say(f"{self.what}: waiting for {holder}")
            time.sleep(self._pause)

    def _take(self, before: Holder | None, succeeded: bool) -> bool:
        """Put the next object; False if another process was first."""
        with self._lock:
            self._number, self._token = (before.number if before else 0) + 1, uuid.uuid4().hex
            self._since, self._beat, self._seen = time.time(), 0, _clock()
            if not objects.create(self._url, self._body()) or not self._ours():
                time.sleep(self._pause / 10)
                return False
            self.succeeded = succeeded
        # A slow process with an old listing may take a lower number; it then sees the higher one and waits.
        for name in objects.names(self.folder):
            if _number(name) < self._number:
                objects.delete(f"{self.folder}/{name}")
        return True

    def _ours(self) -> bool:
        """Whether the highest number belongs to this lease."""
        holder = _newest(self.folder)
        return holder is not None and (holder.number, holder.token) == (self._number, self._token)

    def _beat_once(self, released: bool = False) -> None:
        self._beat += 1
        objects.write(self._url, self._body(released))
        self._seen = _clock()

    @property
    def _pause(self) -> float:
        return min(LOOK_SECONDS, self.lifetime / 20)

    @property
    def _url(self) -> str:
        return f"{self.folder}/{self._number:08d}.json"

    def _body(self, released: bool = False) -> bytes:
        plain = {
            "what": self.what,
            "token": self._token,
            "released": released,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "born": _birth(os.getpid()),
            "program": PROGRAM,
            "since": self._since,
            "beat": self._beat,
            "time": time.time(),
            "doing": self.doing,
        }
        return json.dumps(plain, indent=1).encode()

    def _keep(self) -> None:
        """Send heartbeats until the end; a failed one is made up for by the next."""
        while not self._done.wait(self.lifetime / BEATS):
            with contextlib.suppress(StoreError, OSError):
                self.verify()

    def _release(self) -> None:
        with contextlib.suppress(StoreError, OSError), self._lock:
            if self._ours():
                self._beat_once(released=True)


@contextlib.contextmanager
def hold(
    folder: str,
    what: str,
    say: Callable[[str], None] = lambda _: None,
    lifetime: float = LIFETIME,
    waits: bool = True,
) -> Iterator[Lease]:
    """Hold the lease below the prefix `folder`; waits while another process holds it, and reports once which.

    Without `waits`, raises LeaseHeld as soon as the holder is known to be alive: at once on this machine, else with its
    next heartbeat. A holder that sends none for a lifetime is replaced.
    """
    lease = Lease(folder=folder, what=what, say=say, lifetime=lifetime, waits=waits)
    lease._acquire()
    keeper = threading.Thread(target=lease._keep, name=f"lease of {what}", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease._done.set()
        keeper.join(timeout=lifetime)
        lease._release()


def held(folder: str) -> bool:
    """Whether the lease has a holder not yet known to be dead."""
    return holder_of(folder) is not None


def holder_of(folder: str) -> Holder | None:
    """The holder of the lease, if not known to be dead; None if the lease is free."""
    holder = _newest(folder)
    return None if holder is None or holder.released or holder.dead else holder


def last_holder(folder: str) -> Holder | None:
    """The holder of the lease, alive or dead; None if the lease was released."""
    holder = _newest(folder)
    return None if holder is None or holder.released else holder


def _newest(folder: str) -> Holder | None:
    """The holder with the highest number; None if there is none."""
    while numbers := [number for name in objects.names(folder) if (number := _number(name))]:
        number = max(numbers)
        try:
            plain: dict[str, Any] = json.loads(objects.read(f"{folder}/{number:08d}.json"))
            known = {name: plain[name] for name in Holder.__dataclass_fields__ if name in plain and name != "number"}
            return Holder(number=number, **known)
        except FileNotFoundError:
            continue  # the next holder has removed it
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{folder}/{number:08d}.json is not a lease; delete it and call again") from None
    return None


def _number(name: str) -> int:
    stem, _, kind = name.partition(".")
    return int(stem) if kind == "json" and stem.isdecimal() else 0


def _clock() -> float:
    """A monotonic clock that also counts while the machine is suspended, if the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _machine() -> str:
    """Identifies this machine and its process id namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _birth(pid: int) -> str:
    """Start time of a process, as the system reports it; empty if there is none or it is a zombie."""
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return UNKNOWN
