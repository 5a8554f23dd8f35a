"""Keeps a handful of named processes running, in front of one terminal.

Honcho does this too, but ends everything as soon as one process ends and knows neither readiness nor an
order of stopping; what would be left to reuse, its printer, is not made for several threads; so this is our
own.

One thread, the one that calls `Supervisor.run`, decides everything; the others (a reader, a watcher and a
prober for each process) and the signal handlers only put events into its queue. It is also the only one
that starts processes, because on Linux a child's death signal is tied to the thread that started it.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO, TextIO

from devtools.local.log_stream import LogStream
from devtools.local.probes import NeverReady

TETHER = Path(__file__).with_name("tether.py")
OWN_NAME = "run"  # stands before the supervisor's own lines
PROBE_EVERY = 0.1  # seconds
HURRIED_GRACE = 2.0  # seconds that all together get after a second Ctrl-C
KILL_WAIT = 5.0  # seconds; only a process stuck in the kernel outlives SIGKILL for longer
LAST_WORDS = 1.0  # seconds to read what an ended process left in its pipe, if somebody else holds that open
LINE = 64 * 1024  # bytes; a longer line is cut in pieces

STOP_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the terminal went away"}


@dataclass(frozen=True)
class Process:
    """What to run, under which name, and when it counts as ready.

    ``env`` is the whole environment (None: the supervisor's own). ``ready`` is called from a thread, again
    and again, until it returns; until then it raises, and the text of the last exception is reported if
    ``ready_within`` (seconds, from each start) runs out. Raising `NeverReady` says that waiting is of no
    use. Without ``ready`` a process is ready as soon as it runs. ``after`` names the processes that must be
    ready before this one starts. ``grace`` is how many seconds it gets between SIGTERM and SIGKILL.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] | None = None
    ready: Callable[[], None] | None = None
    after: Sequence[str] = ()
    ready_within: float = 60.0
    grace: float = 10.0


@dataclass(frozen=True)
class Restarts:
    """How a process that ended unexpectedly is started again, all in seconds but ``deaths``.

    The pause before a restart is ``first`` and doubles with every death within the last ``window``, up to
    ``longest``. The ``deaths``-th death within ``window`` ends everything.
    """

    first: float = 0.5
    longest: float = 5.0
    deaths: int = 5
    window: float = 30.0


class _Run:
    """One life of one process, from its start to its end."""

    def __init__(self, process: Process, log: LogStream, post: Callable[["_Event"], None]) -> None:
        self.process = process
        self.ready = process.ready is None
        self.missing = "it has not been asked yet"  # what the last probe said
        self.started = time.monotonic()
        self._log = log
        self._post = post
        self._over = threading.Event()
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *process.command],
            env=process.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor only, and the whole group can be killed
        )
        self._reader = self._thread(self._read, self._popen.stdout)
        self._thread(self._watch)
        if process.ready:
            self._thread(self._probe, process.ready)

    @property
    def name(self) -> str:
        """Return the name of the process."""
        return self.process.name

    def ask_to_end(self) -> None:
        """SIGTERM to the process itself: it knows best how to end its own children."""
        with suppress(ProcessLookupError):
            os.kill(self._popen.pid, signal.SIGTERM)

    def kill_group(self) -> None:
        """SIGKILL to the process and to whatever it started."""
        with suppress(ProcessLookupError, PermissionError):  # nobody is left; macOS says so by the second
            os.killpg(self._popen.pid, signal.SIGKILL)

    def settle(self) -> str:
        """Clear up after the process has ended. Returns how it ended: "exit code 3" or "SIGKILL"."""
        self._over.set()
        self.kill_group()  # before the process is reaped: until then its number cannot be somebody else's
        code = self._popen.wait()
        self._reader.join(LAST_WORDS)
        if code >= 0:
            return f"exit code {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"

    def _thread(self, target: Callable[..., None], *args: object) -> threading.Thread:
        name = f"{self.name}: {target.__name__.strip('_')}"
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        thread.start()
        return thread

    def _read(self, pipe: BinaryIO) -> None:
        with pipe:
            for line in iter(lambda: pipe.readline(LINE), b""):
                self._log.write(self.name, line.decode("utf-8", "replace").rstrip("\r\n"))

    def _watch(self) -> None:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)
        else:  # macOS before Python 3.13
            self._popen.wait()
        self._post(_Ended(self))

    def _probe(self, ready: Callable[[], None]) -> None:
        while not self._over.wait(PROBE_EVERY):
            try:
                ready()
            except Exception as error:  # noqa: BLE001 - whatever a probe raises means: not ready
                self.missing = str(error) or type(error).__name__
                if isinstance(error, NeverReady):
                    self._post(_Hopeless(self))
                    return
            else:
                self._post(_Ready(self))
                return


@dataclass(frozen=True)
class _Ended:
    run: _Run


@dataclass(frozen=True)
class _Ready:
    run: _Run


@dataclass(frozen=True)
class _Hopeless:
    run: _Run


@dataclass(frozen=True)
class _Signalled:
    signum: int


@dataclass(frozen=True)
class _OutputGone:
    pass


_Event = _Ended | _Ready | _Hopeless | _Signalled | _OutputGone


@dataclass
class _Child:
    """What the supervisor knows of a process over all its lives."""

    process: Process
    run: _Run | None = None
    start_at: float | None = 0.0  # monotonic; None while it runs
    was_ready: bool = False
    deaths: deque[float] = field(default_factory=deque)  # monotonic, those within the window


class Supervisor:
    """Starts processes, restarts those that end, and stops all of them.

    ``stop_order`` holds every name once, the first to stop first; by default the last started stops first.
    ``when_ready`` is written to the log, once, when all processes are ready. Raises ValueError when names
    do not fit together.
    """

    def __init__(
        self,
        processes: Sequence[Process],
        *,
        stop_order: Sequence[str] = (),
        when_ready: str = "",
        restarts: Restarts | None = None,
        out: TextIO | None = None,
    ) -> None:
        self._children = {process.name: _Child(process) for process in processes}
        self._stop_order = tuple(stop_order) or tuple(reversed(self._children))
        if len(self._children) != len(processes) or OWN_NAME in self._children:
            raise ValueError(f"process names must differ from each other and from {OWN_NAME!r}")
        if sorted(self._stop_order) != sorted(self._children):
            raise ValueError("stop_order must hold every process once")
        started: set[str] = set()
        for process in processes:
            if not started.issuperset(process.after):
                raise ValueError(f"{process.name} must come behind those it starts after")
            started.add(process.name)
        self._when_ready = when_ready
        self._restarts = restarts or Restarts()
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()  # may be put to by a signal handler
        self._log = LogStream(
            out or sys.stdout, [*self._children, OWN_NAME], on_gone=lambda: self._events.put(_OutputGone())
        )
        self._all_ready = False
        self._hurried = False

    def run(self) -> int:
        """Run until a signal ends it or a process cannot be kept running; then nobody is left.

        To be called from the main thread. Returns the exit status: 0 after SIGINT, SIGTERM or SIGHUP, 1
        when it had to give up. A SIGINT while stopping hurries: all get SIGTERM at once and HURRIED_GRACE
        seconds; another one kills.
        """
        with self._signals():
            try:
                status = self._keep_running()
                self._stop_all()
                return status
            finally:
                for run in self._running():  # nobody, unless there is a bug above
                    run.kill_group()

    # Running

    def _keep_running(self) -> int:
        while True:
            self._start_what_is_due()
            self._announce_all_ready()
            now = time.monotonic()
            late = [run for run in self._running() if not run.ready and self._ready_by(run) <= now]
            for run in late:
                self._say(f"{run.name} was not ready within {run.process.ready_within:g} s: {run.missing}")
            if late:
                return self._give_up()
            match self._next_event(self._next_deadline()):
                case _Signalled(signum):
                    self._say(f"{STOP_SIGNALS[signal.Signals(signum)]}: ending everything")
                    return 0
                case _OutputGone():
                    return 0  # nobody reads this any more
                case _Hopeless(run) if self._is_current(run):
                    self._say(f"{run.name} will never be ready: {run.missing}")
                    return self._give_up()
                case _Ready(run) if self._is_current(run):
                    self._note_ready(run)
                case _Ended(run):
                    if not self._plan_restart(run):
                        return self._give_up()

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.start_at is None or child.start_at > now or not self._may_start(child):
                continue
            child.start_at = None
            child.run = _Run(child.process, self._log, self._events.put)
            child.was_ready = child.was_ready or child.run.ready

    def _may_start(self, child: _Child) -> bool:
        return all(self._children[name].was_ready for name in child.process.after)

    def _next_deadline(self) -> float | None:
        waiting = (child for child in self._children.values() if self._may_start(child))
        starts = (child.start_at for child in waiting if child.start_at is not None)
        probes = (self._ready_by(run) for run in self._running() if not run.ready)
        return min((*starts, *probes), default=None)

    def _note_ready(self, run: _Run) -> None:
        child = self._children[run.name]
        run.ready = True
        self._say(f"{run.name} is ready{' again' if child.was_ready else ''}")
        child.was_ready = True

    def _announce_all_ready(self) -> None:
        if not self._all_ready and all(child.was_ready for child in self._children.values()):
            self._all_ready = True
            if self._when_ready:
                self._say(self._when_ready)

    def _plan_restart(self, run: _Run) -> bool:
        """Report the end of ``run``, and plan the next start. Returns False when there is no sense in one."""
        child, rules = self._children[run.name], self._restarts
        child.run = None
        how = run.settle()
        if not child.was_ready:
            self._say(f"{run.name} ended ({how}) before it was ready")
            return False
        now = time.monotonic()
        child.deaths.append(now)
        while child.deaths[0] <= now - rules.window:
            child.deaths.popleft()
        if len(child.deaths) >= rules.deaths:
            self._say(f"{run.name} ended ({how}), for the {rules.deaths}th time within {rules.window:g} s")
            return False
        pause = min(rules.longest, rules.first * 2 ** (len(child.deaths) - 1))
        self._say(f"{run.name} ended ({how}): starting it again in {pause:g} s")
        child.start_at = now + pause
        return True

    def _give_up(self) -> int:
        self._say("giving up: ending everything")
        return 1

    # Stopping

    def _stop_all(self) -> None:
        for name in self._stop_order:
            run = self._children[name].run
            if run and not self._hurried:
                self._say(f"ending {name}")
                self._end([run], run.process.grace)
        if rest := self._running():
            self._say(f"hurrying: ending {', '.join(run.name for run in rest)} at once")
            self._end(rest, HURRIED_GRACE)
        if rest := self._running():
            self._say(f"could not be killed: {', '.join(run.name for run in rest)}")
        else:
            self._say("everything has ended")

    def _end(self, runs: Sequence[_Run], grace: float) -> None:
        """SIGTERM, and after ``grace`` seconds SIGKILL; only the former when it is interrupted to hurry."""
        already_hurried = self._hurried
        for run in runs:
            run.ask_to_end()
        deadline = time.monotonic() + grace
        while any(self._is_current(run) for run in runs) and time.monotonic() < deadline:
            if self._interrupted(deadline):
                if not already_hurried:
                    return
                break
        left = [run for run in runs if self._is_current(run)]
        for run in left:
            self._say(f"{run.name} has not ended in time: killing it")
            run.kill_group()
        deadline = time.monotonic() + KILL_WAIT
        while any(self._is_current(run) for run in left) and time.monotonic() < deadline:
            self._interrupted(deadline)

    def _interrupted(self, deadline: float) -> bool:
        """Handle one event while stopping. Returns True when it was a SIGINT."""
        match self._next_event(deadline):
            case _Ended(run):
                self._children[run.name].run = None
                how = run.settle()
                if how != "exit code 0":
                    self._say(f"{run.name} ended ({how})")
            case _Signalled(signal.SIGINT):  # only this one: wrappers such as make repeat SIGTERM
                self._hurried = True
                return True
        return False

    # Both

    def _next_event(self, deadline: float | None) -> "_Event | None":
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def _running(self) -> list[_Run]:
        return [child.run for child in self._children.values() if child.run]

    def _is_current(self, run: _Run) -> bool:
        return self._children[run.name].run is run

    def _ready_by(self, run: _Run) -> float:
        return run.started + run.process.ready_within

    def _say(self, text: str) -> None:
        self._log.write(OWN_NAME, text)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(signum: int, _: FrameType | None) -> None:
            self._events.put(_Signalled(signum))

        before = {}
        for signum in STOP_SIGNALS:
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue  # started by nohup
            before[signum] = signal.signal(signum, handle)
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
