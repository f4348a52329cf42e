"""Manages the processes that a command starts: they end with the command, and it reports if one dies."""

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
"""Environment variable that marks everything a process starts, even after its parent is gone."""
RESTARTS = "SPECDYN_RESTARTS"
MOST_RESTARTS = 3
LOOK_SECONDS = 0.25
HOOK_SECONDS = 3.0
"""Most seconds for notifying others when stopping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something the command depends on."""

    name: str
    alive: Callable[[], bool]
    ours: bool
    """Whether the command started it, and can restart."""
    log: str = ""
    patience: float = 0.0
    """Seconds that it may be away."""


class PartLost(Exception):
    """Something that the work depends on is gone; the message says what. Finished work is kept."""


class NotStarted(PartLost):
    """Something did not start, as may happen on a busy machine; another attempt may succeed."""


class Started:
    """Everything this process starts: marked, with a folder for sockets, logs and a database, and ended with it."""

    def __init__(self) -> None:
        self.pid, self.mark = os.getpid(), uuid.uuid4().hex
        self.folder = Path(tempfile.mkdtemp(prefix="specdyn-", dir=short_folder()))
        # Ray makes its folder writable for all users, so its parent folder is private to this user.
        self.ray_folder = self.folder / "r"
        self.parts: list[Part] = []
        self.supervised = False
        """Whether a supervisor ends the process if a part is gone; otherwise the working code has to notice."""
        self._outside = dict(os.environ)
        self._away: dict[str, float] = {}
        reading, self._line = os.pipe()
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, f"{MARK}={self.mark}", str(self.folder), str(self.pid)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != MARK},
            start_new_session=True,  # a signal to the terminal's processes must not end this one first
        )
        os.close(reading)
        # Registered before importing Prefect and Ray, so that it runs after their exit handlers.
        atexit.register(self.end)

    @contextlib.contextmanager
    def needed(self, *parts: Part) -> Iterator[None]:
        """Watch these parts during the block."""
        self.parts += parts
        try:
            yield
        finally:
            self.parts = [part for part in self.parts if part not in parts]

    def lost(self) -> Part | None:
        """A part that is gone; None if all are alive."""
        now = time.monotonic()
        for part in list(self.parts):
            if part.alive():
                self._away.pop(part.name, None)
            elif now - self._away.setdefault(part.name, now) >= part.patience:
                return part
        return None

    def kept_log(self, log: str) -> str:
        """Copy a log that a message names out of the folder, which will be removed; returns its new path."""
        file, kept = tempfile.mkstemp(prefix="specdyn-", suffix=".log", dir=self.folder.parent)
        with contextlib.suppress(OSError), os.fdopen(file, "wb") as copy, open(log, "rb") as original:
            shutil.copyfileobj(original, copy)
        return kept

    def end(self) -> None:
        """End everything that was started, and remove the folder."""
        if os.getpid() == self.pid:
            watchdog.kill_marked(f"{MARK}={self.mark}")
            shutil.rmtree(self.folder, ignore_errors=True)

    def start_again(self, terminal: TextIO) -> NoReturn:
        """Re-execute the command with its original environment, terminal and timers."""
        count = str(restarts() + 1)
        with contextlib.suppress(OSError, ValueError):
            os.dup2(terminal.fileno(), 2)
        signal.setitimer(signal.ITIMER_REAL, 0)  # Prefect's time limits would fire in the new program
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**self._outside, RESTARTS: count})


@functools.cache
def _started(_pid: int) -> Started:
    return Started()


def started() -> Started:
    """The Started of this process; everything it starts from now on is marked."""
    found = _started(os.getpid())
    os.environ[MARK] = found.mark
    # Ray's workers set a process title, which overwrites their environment, unless disabled.
    os.environ.setdefault("SPT_NOENV", "1")
    return found


def restarts() -> int:
    """How often this command has re-executed itself."""
    return int(os.environ.get(RESTARTS, "0"))


class Supervisor:
    """Ends or restarts the command with one line of explanation: on signals, and if something it needs is gone."""

    def __init__(self, title: str) -> None:
        self.title, self.all = title, started()
        self.at_stop: list[Callable[[], None]] = []
        """Called, with a short time limit, when the command is stopped."""
        self._terminal, self._once, self._over = sys.stderr, threading.Lock(), threading.Event()

    @contextlib.contextmanager
    def at_work(self, native_log: bool) -> Iterator["Supervisor"]:
        """Supervise this block; with `native_log`, stderr output of C and C++ code goes to a file."""
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
        """Watch only the parts, if signals are handled elsewhere."""
        threading.Thread(target=self._look, name="parts", daemon=True).start()
        self.all.supervised = True
        try:
            yield
        finally:
            self._over.set()
            self.all.supervised = False

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM in a thread, as the main thread may be deep in other code.

        Python writes a signal's number into the pipe at once, whatever handlers Prefect and Ray install.
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
        """Print a separate line, even while progress bars are drawn."""
        shown = "\r\x1b[?25h\x1b[K" if self._terminal.isatty() else ""
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            self._terminal.write(f"{shown}{line}\n")
            self._terminal.flush()


@contextlib.contextmanager
def _native_errors_in(log: Path) -> Iterator[TextIO]:
    """Redirect file descriptor 2 to a log, as C++ code writes states and stacks to it; Python keeps the terminal."""
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
