"""The life of everything that a command starts: it ends with the command, and where it dies, the command says so."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

from specdyn.flows.engine import watchdog
from specdyn.flows.engine.reachable import short_folder

MARK = "SPECDYN_STARTED_BY"
"""Variable by which whatever a process starts is known, also once its parent is gone."""
RESTARTS = "SPECDYN_RESTARTS"
MOST_RESTARTS = 3
LOOK_SECONDS = 0.25
HOOK_SECONDS = 3.0
"""What is told to others at a stop takes no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something that the command cannot work without."""

    name: str
    alive: Callable[[], bool]
    ours: bool
    """Started by the command, which then can start again."""
    log: str = ""
    patience: float = 0.0
    """Seconds that it may be away."""


class PartLost(Exception):
    """Something that work needs is gone: says what; finished work is kept."""


class NotStarted(PartLost):
    """Something that the command starts did not start, as on a machine that is busy: another attempt may do it."""


class Started:
    """What this process starts: known by a mark, with a folder for sockets, logs and a database, ended with it."""

    def __init__(self) -> None:
        self.pid, self.mark = os.getpid(), uuid.uuid4().hex
        self.folder = Path(tempfile.mkdtemp(prefix="specdyn-", dir=short_folder()))
        # Ray lets every user of the machine write into its folder: the one around it stays this user's alone.
        self.ray_folder = self.folder / "r"
        self.parts: list[Part] = []
        self.supervised = False
        """Whether a supervisor ends the process where a part is gone; otherwise who works finds out."""
        self._outside = dict(os.environ)
        self._away: dict[str, float] = {}
        reading, self._line = os.pipe()
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, f"{MARK}={self.mark}", str(self.folder), str(self.pid)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != MARK},
            start_new_session=True,  # what ends the terminal's processes must not end this one first
        )
        os.close(reading)
        # Before Prefect and Ray are imported, so that it comes after what they do at the end.
        atexit.register(self.end)

    @contextlib.contextmanager
    def needed(self, *parts: Part) -> Iterator[None]:
        """Notice within the block where one of the parts is gone."""
        self.parts += parts
        try:
            yield
        finally:
            self.parts = [part for part in self.parts if part not in parts]

    def lost(self) -> Part | None:
        """A part that is gone; None where all are there."""
        now = time.monotonic()
        for part in list(self.parts):
            if part.alive():
                self._away.pop(part.name, None)
            elif now - self._away.setdefault(part.name, now) >= part.patience:
                return part
        return None

    def kept_log(self, log: str) -> str:
        """Copy a log out of the folder, which is removed, as a message names it; returns where it is then."""
        file, kept = tempfile.mkstemp(prefix="specdyn-", suffix=".log", dir=self.folder.parent)
        with contextlib.suppress(OSError), os.fdopen(file, "wb") as copy, open(log, "rb") as original:
            shutil.copyfileobj(original, copy)
        return kept

    def end(self) -> None:
        """End whatever was started, and remove the folder."""
        if os.getpid() == self.pid:
            watchdog.kill_marked(f"{MARK}={self.mark}")
            shutil.rmtree(self.folder, ignore_errors=True)

    def start_again(self, terminal: TextIO) -> NoReturn:
        """Become the same command again, with the environment, the terminal and the timers that it was started with."""
        count = str(restarts() + 1)
        with contextlib.suppress(OSError, ValueError):
            os.dup2(terminal.fileno(), 2)
        signal.setitimer(signal.ITIMER_REAL, 0)  # Prefect's time limits would go off in the new program
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**self._outside, RESTARTS: count})


@functools.cache
def _started(_pid: int) -> Started:
    return Started()


def started() -> Started:
    """What this process has started; what it starts from now on bears the mark."""
    found = _started(os.getpid())
    os.environ[MARK] = found.mark
    # Ray's workers give themselves names, by which they overwrite their environment, unless told not to.
    os.environ.setdefault("SPT_NOENV", "1")
    return found


def restarts() -> int:
    """How often this command has started itself again."""
    return int(os.environ.get(RESTARTS, "0"))


class Supervisor:
    """Ends the command, or starts it again, in one sentence: on signals, and where something it needs is gone."""

    def __init__(self, title: str) -> None:
        self.title, self.all = title, started()
        self.at_stop: list[Callable[[], None]] = []
        """Told to others, quickly, when the command is stopped."""
        self._terminal, self._once, self._over = sys.stderr, threading.Lock(), threading.Event()

    @contextlib.contextmanager
    def at_work(self, native_log: bool) -> Iterator["Supervisor"]:
        """Supervise this block; with `native_log` what C and C++ code writes to stderr goes to a file."""
        with contextlib.ExitStack() as stack:
            if native_log:
                self._terminal = stack.enter_context(_native_errors_in(self.all.folder / "native.log"))
            stack.enter_context(self._signals())
            stack.enter_context(self.watching())
            try:
                yield self
            except NotStarted as error:
                if restarts() >= MOST_RESTARTS:
                    raise
                self._end_or_again(str(error), again=True)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look after the parts alone, where signals are seen to otherwise."""
        threading.Thread(target=self._look, name="parts", daemon=True).start()
        self.all.supervised = True
        try:
            yield
        finally:
            self._over.set()
            self.all.supervised = False

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have a thread act on SIGINT and SIGTERM, as the main thread may be deep in other code.

        Python writes a signal's number into the pipe at once, whichever handlers Prefect and Ray install.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        listener = threading.Thread(target=self._listen, args=(reading,), name="signals", daemon=True)
        listener.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writing)
            listener.join()
            os.close(reading)

    def _listen(self, reading: int) -> None:
        while number := os.read(reading, 1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                self._stop(number[0])

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if (part := self.all.lost()) and not self._over.is_set():
                self._end_without(part)

    def _stop(self, number: int) -> NoReturn:
        self._once.acquire()  # never given back: the process ends here
        by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        tellers = [threading.Thread(target=tell, daemon=True) for tell in self.at_stop]
        for teller in tellers:
            teller.start()
        for teller in tellers:
            teller.join(HOOK_SECONDS)
        self.all.end()
        self._say(f"{self.title} was stopped by {by}: finished work is kept, the same command continues from there")
        os._exit(128 + number)

    def _end_without(self, part: Part) -> NoReturn:
        what = f"{part.name} {'has died' if part.ours else 'does not answer any more'}"
        self._end_or_again(what, again=part.ours and restarts() < MOST_RESTARTS, its_log=part.log)

    def _end_or_again(self, what: str, again: bool, its_log: str = "") -> NoReturn:
        self._once.acquire()  # never given back: the process ends here, or becomes another program
        then = "starting again from there" if again else "the same command continues from there"
        log = f"; its log is {self.all.kept_log(its_log)}" if its_log else ""
        self.all.end()
        self._say(f"{self.title}: {what}: finished work is kept, {then}{log}")
        if again:
            self.all.start_again(self._terminal)
        os._exit(1)

    def _say(self, line: str) -> None:
        """A line of its own, also where progress bars are drawn at the moment."""
        shown = "\r\x1b[?25h\x1b[K" if self._terminal.isatty() else ""
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            self._terminal.write(f"{shown}{line}\n")
            self._terminal.flush()


@contextlib.contextmanager
def _native_errors_in(log: Path) -> Iterator[TextIO]:
    """Leave the terminal to Python: C++ code, which writes its states and stacks to file 2, finds a log there."""
    before = sys.stderr
    try:
        to_terminal = before.fileno() == 2
    except (OSError, ValueError):
        to_terminal = False
    if not to_terminal:
        yield before
        return
    before.flush()
    terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding=before.encoding, errors=before.errors)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = terminal
    try:
        yield terminal
    finally:
        sys.stderr = before
        os.dup2(terminal.fileno(), 2)
        terminal.close()
