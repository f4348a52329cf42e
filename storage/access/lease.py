"""Leases: one process at a time works on one set of results; another waits, and takes over from one that died.

A lease is a row of numbered objects below a prefix, each put only where there is none: the highest number holds. Its
holder replaces its own object every few seconds as a sign of life, and marks it at the end; a lease whose object has
not changed for LIFETIME, by the clock of who waits, has no living holder. Time in which the store does not answer does
not count.
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
"""Seconds without a sign of life after which a holder is given up."""
BEATS = 5
"""Signs of life within a lifetime."""
LOOK_SECONDS = 1.0
"""Between two looks of a waiting process; less where a lifetime is short."""


PROGRAM = uuid.uuid4().hex
"""This program: a command that starts itself again keeps its pid, and not what it held."""
UNKNOWN = "unknown"
"""When a process began that lives, where the system does not tell: that of another user, or not on Linux."""


class LeaseLost(StoreError):
    """Another process has taken over, as this one gave no sign of life: what it was about to write is not written."""


class LeaseHeld(StoreError):
    """Another process holds the lease, and lives: says who."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lease, as its object says."""

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
    """Of its last sign of life, by its own clock."""
    doing: str = ""
    """What it said last of how far its work is."""

    @property
    def here(self) -> bool:
        """Whether the process is one of this machine, so that it can be told whether it lives."""
        return self.machine == _machine()

    @property
    def dead(self) -> bool:
        """Whether it is known that the process is no more, or became another program; only one on this machine can."""
        if not self.here:
            return False
        if self.pid == os.getpid():
            return self.program != PROGRAM
        return _birth(self.pid) not in (self.born, UNKNOWN)

    @property
    def silent(self) -> float:
        """Seconds since its last sign of life, by the two machines' clocks; 0 where it did not say when that was."""
        return max(0.0, time.time() - self.time) if self.time else 0.0

    @property
    def alive(self) -> bool:
        """Whether it is at work, as far as one look can tell."""
        return not self.dead and (self.here or self.silent <= LIFETIME)

    def __str__(self) -> str:
        return (
            f"process {self.pid} on {self.host}, at work since {time.strftime('%H:%M:%S', time.localtime(self.since))}"
        )


@dataclass(slots=True)
class Silence:
    """How long a holder that is looked at now and then has shown no sign of life."""

    pause: float
    """Seconds between two looks."""
    sign: tuple[str, int] = ("", 0)
    """The last sign of life: whose, and its number."""
    seconds: float = 0.0
    """Since it was seen for the first time; time in which the store does not answer does not count."""
    _looked: float = 0.0

    def look(self, holder: Holder) -> bool:
        """Take in what was read of the holder; whether that is a new sign of life."""
        before, self._looked = self._looked, _clock()
        if (holder.token, holder.beat) != self.sign:
            self.sign, self.seconds = (holder.token, holder.beat), 0.0
            return True
        # A look that takes long tells that the store is slow to answer, also to the holder's signs of life.
        self.seconds += min(self._looked - before, 2 * self.pause)
        return False


@dataclass(slots=True, kw_only=True)
class Lease:
    """A lease that this process holds, or has lost."""

    folder: str
    what: str
    """What it is for, in words."""
    say: Callable[[str], None]
    lifetime: float
    waits: bool = True
    """Whether it waits for a holder that lives, and is not refused."""
    succeeded: bool = False
    """Whether the holder before may still be alive, and write."""
    doing: str = ""
    """How far the work is, in words: the next sign of life says it to those who look."""
    _number: int = 0
    _token: str = ""
    _since: float = 0.0
    _beat: int = 0
    _seen: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: threading.Event = field(default_factory=threading.Event)

    def tell(self, doing: str) -> None:
        """Have the next sign of life say how far the work is."""
        self.doing = doing

    def check(self) -> None:
        """Raise LeaseLost where another process may have taken over; asks the store only after a pause."""
        if _clock() - self._seen > self.lifetime / 2:
            self.verify()

    def verify(self) -> None:
        """Raise LeaseLost where another process has taken over; asks the store, and gives a sign of life."""
        with self._lock:
            if not self._ours():
                raise LeaseLost(f"{self.what}: {_newest(self.folder) or 'another process'} took over; call again")
            self._beat_once()

    def ensure(self) -> None:
        """Wait for the lease again where it was lost."""
        try:
            self.verify()
        except LeaseLost:
            self._acquire()

    def _acquire(self) -> None:
        """Wait until nobody holds the lease, or who does is dead, and take it."""
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
        """Put the next object; False where another process was first."""
        with self._lock:
            self._number, self._token = (before.number if before else 0) + 1, uuid.uuid4().hex
            self._since, self._beat, self._seen = time.time(), 0, _clock()
            if not objects.create(self._url, self._body()) or not self._ours():
                time.sleep(self._pause / 10)
                return False
            self.succeeded = succeeded
        # A slow process that listed before may take an old number's place; it then finds the higher one, and waits.
        for name in objects.names(self.folder):
            if _number(name) < self._number:
                objects.delete(f"{self.folder}/{name}")
        return True

    def _ours(self) -> bool:
        """Whether the highest number is this lease's, and says so."""
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
        """Give signs of life until the end; one that fails is tried again with the next."""
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
    """Hold the lease below the prefix `folder`; waits while another process holds it, and says for whom once.

    Without `waits` LeaseHeld as soon as the holder is known to live: at once for one on this machine, else with its
    next sign of life. One that gives none for a lifetime is succeeded.
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
    """Whether somebody holds the lease, or was given up by nobody yet."""
    return holder_of(folder) is not None


def holder_of(folder: str) -> Holder | None:
    """Who holds the lease, or was given up by nobody yet; None where it is free."""
    holder = _newest(folder)
    return None if holder is None or holder.released or holder.dead else holder


def last_holder(folder: str) -> Holder | None:
    """Who holds the lease, or died without giving it back; None where it is free."""
    holder = _newest(folder)
    return None if holder is None or holder.released else holder


def _newest(folder: str) -> Holder | None:
    """Who put the highest number; None where nobody did."""
    while numbers := [number for name in objects.names(folder) if (number := _number(name))]:
        number = max(numbers)
        try:
            plain: dict[str, Any] = json.loads(objects.read(f"{folder}/{number:08d}.json"))
            known = {name: plain[name] for name in Holder.__dataclass_fields__ if name in plain and name != "number"}
            return Holder(number=number, **known)
        except FileNotFoundError:
            continue  # the next one has taken it away
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{folder}/{number:08d}.json is not a lease; delete it and call again") from None
    return None


def _number(name: str) -> int:
    stem, _, kind = name.partition(".")
    return int(stem) if kind == "json" and stem.isdecimal() else 0


def _clock() -> float:
    """Seconds that go on while the machine sleeps, where the system tells them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _machine() -> str:
    """What tells this machine, and the part of it in which process ids are counted, from all others."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _birth(pid: int) -> str:
    """When a process began, as the system tells it; empty where there is none, or only what waits to be reaped."""
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
