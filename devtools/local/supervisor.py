"""Keeps a few named services running in front of one terminal.

honcho does this too, but it ends everything as soon as one process ends, and knows neither readiness nor an order of
stopping; its printer, all that could be reused, is not made for several threads.

The thread that calls `Supervisor.run` makes every decision; the threads of each service and the signal handlers only
put events into its queue. It is also the only thread that starts processes, because on Linux a child's death signal is
tied to the thread that started it.
"""

import io
import queue
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TextIO

from devtools.local.log_stream import LogStream
from devtools.local.service import Restarts, Service
from devtools.local.service_run import Ended, Hopeless, Ready, RunEvent, ServiceRun

OWN_NAME = "run"  # stands before the supervisor's own lines
HURRIED_GRACE = 2.0  # seconds for all services together after a second Ctrl-C
KILL_WAIT = 5.0  # seconds; only a process stuck in the kernel outlives SIGKILL for longer

STOP_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the terminal went away"}


@dataclass(frozen=True)
class _Signalled:
    signum: int


@dataclass(frozen=True)
class _OutputGone:
    pass


_Event = RunEvent | _Signalled | _OutputGone


@dataclass
class _Child:
    """A service and the state that outlasts its runs."""

    service: Service
    run: ServiceRun | None = None
    start_at: float | None = 0.0  # monotonic; None while it runs
    was_ready: bool = False
    deaths: deque[float] = field(default_factory=deque)  # monotonic, those within the window


class Supervisor:
    """Starts services, restarts those that end, and stops all of them.

    ``stop_order`` holds every name once, the first to stop first; by default the last started stops first.
    ``when_ready`` is shown once, when all services are ready. With a ``log_file``, the services' lines go to it, and
    those at warning or above to ``out`` too. Raises ValueError for names that
    repeat, are missing or are in the wrong order.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        stop_order: Sequence[str] = (),
        when_ready: str = "",
        restarts: Restarts | None = None,
        out: TextIO | None = None,
        log_file: TextIO | None = None,
    ) -> None:
        self._children = {service.name: _Child(service) for service in services}
        self._stop_order = tuple(stop_order) or tuple(reversed(self._children))
        if len(self._children) != len(services) or OWN_NAME in self._children:
            raise ValueError(f"service names must differ from each other and from {OWN_NAME!r}")
        if sorted(self._stop_order) != sorted(self._children):
            raise ValueError("stop_order must hold every service once")
        started: set[str] = set()
        for service in services:
            if not started.issuperset(service.after):
                raise ValueError(f"{service.name} must come behind those it starts after")
            started.add(service.name)
        self._when_ready = when_ready
        self._restarts = restarts or Restarts()
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()  # put() is safe in a signal handler
        self._out = out or sys.stdout
        self._log = LogStream(
            self._out,
            [*self._children, OWN_NAME],
            on_gone=lambda: self._events.put(_OutputGone()),
            file=log_file,
        )
        self._causes: Sequence[str] = ()  # of giving up, said again as the last lines
        self._all_ready = False
        self._hurried = False

    def run(self) -> int:
        """Run until a signal arrives or a service cannot be kept running, then end all services.

        To be called from the main thread. Returns the exit status: 0 after SIGINT, SIGTERM or SIGHUP, 1 after
        giving up. A SIGINT while stopping hurries: all services get SIGTERM at once and HURRIED_GRACE seconds;
        another one kills them.
        """
        threading.Thread(target=self._watch_output, name="output", daemon=True).start()
        with self._signals():
            try:
                status = self._keep_running()
                self._stop_all()
                return status
            finally:
                for run in self._running():  # none, unless there is a bug above
                    run.kill_group()

    # Running

    def _keep_running(self) -> int:
        while True:
            self._start_what_is_due()
            self._announce_all_ready()
            now = time.monotonic()
            if late := [run for run in self._running() if not run.ready and run.ready_by <= now]:
                causes = [
                    f"{run.name} was not ready within {run.service.ready_within:g} s: {run.missing}" for run in late
                ]
                return self._give_up(causes, late)
            match self._next_event(self._next_deadline()):
                case _Signalled(signum):
                    self._say(f"{STOP_SIGNALS[signal.Signals(signum)]}: ending everything")
                    return 0
                case _OutputGone():
                    return 0  # the log has no reader
                case Hopeless(run) if self._is_current(run):
                    return self._give_up([f"{run.name} will never be ready: {run.missing}"], [run])
                case Ready(run) if self._is_current(run):
                    self._note_ready(run)
                case Ended(run):
                    if cause := self._plan_restart(run):
                        return self._give_up([cause])

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.start_at is None or child.start_at > now or not self._may_start(child):
                continue
            child.start_at = None
            child.run = ServiceRun(child.service, self._log, self._events.put)
            child.was_ready = child.was_ready or child.run.ready

    def _may_start(self, child: _Child) -> bool:
        return all(self._children[name].was_ready for name in child.service.after)

    def _next_deadline(self) -> float | None:
        waiting = (child for child in self._children.values() if self._may_start(child))
        starts = (child.start_at for child in waiting if child.start_at is not None)
        probes = (run.ready_by for run in self._running() if not run.ready)
        return min((*starts, *probes), default=None)

    def _note_ready(self, run: ServiceRun) -> None:
        child = self._children[run.name]
        run.ready = True
        self._say(f"{run.name} is ready{' again' if child.was_ready else ''}")
        child.was_ready = True

    def _announce_all_ready(self) -> None:
        if not self._all_ready and all(child.was_ready for child in self._children.values()):
            self._all_ready = True
            if self._when_ready:
                self._say(self._when_ready)

    def _plan_restart(self, run: ServiceRun) -> str | None:
        """Report the end of ``run``, and plan the next start. Returns the cause when there is to be none."""
        child, rules = self._children[run.name], self._restarts
        child.run = None
        how = run.reap()
        last_line = self._log.last_line(run.name)
        said = f": {last_line}" if last_line and how.startswith("exit") else ""  # what was killed does not say why
        self._log.show_last(run.name)
        if not child.was_ready:
            return f"{run.name} ended ({how}) before it was ready{said}"
        now = time.monotonic()
        child.deaths.append(now)
        while child.deaths[0] <= now - rules.window:
            child.deaths.popleft()
        if len(child.deaths) >= rules.deaths:
            return f"{run.name} ended ({how}), for the {rules.deaths}th time within {rules.window:g} s{said}"
        pause = min(rules.longest, rules.first * 2 ** (len(child.deaths) - 1))
        self._say(f"{run.name} ended ({how}): starting it again in {pause:g} s")
        child.start_at = now + pause
        return None

    def _give_up(self, causes: Sequence[str], blamed: Sequence[ServiceRun] = ()) -> int:
        self._causes = causes
        for run in blamed:
            self._log.show_last(run.name)
        self._say("\n".join((*causes, "giving up: ending everything")))
        return 1

    # Stopping

    def _stop_all(self) -> None:
        for name in self._stop_order:
            run = self._children[name].run
            if run and not self._hurried:
                self._say(f"ending {name}")
                self._end([run], run.service.grace)
        if rest := self._running():
            self._say(f"hurrying: ending {', '.join(run.name for run in rest)} at once")
            self._end(rest, HURRIED_GRACE)
        if rest := self._running():
            self._say(f"could not be killed: {', '.join(run.name for run in rest)}")
        else:
            self._say("everything has ended")
        for cause in self._causes:
            self._say(f"The cause: {cause}")

    def _end(self, runs: Sequence[ServiceRun], grace: float) -> None:
        """Send SIGTERM, and SIGKILL after ``grace`` seconds; no SIGKILL when a SIGINT interrupts to hurry."""
        already_hurried = self._hurried
        for run in runs:
            run.terminate()
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
            case Ended(run):
                self._children[run.name].run = None
                how = run.reap()
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

    def _running(self) -> list[ServiceRun]:
        return [child.run for child in self._children.values() if child.run]

    def _is_current(self, run: ServiceRun) -> bool:
        return self._children[run.name].run is run

    def _say(self, text: str) -> None:
        self._log.say(OWN_NAME, text)

    def _watch_output(self) -> None:
        """Ends everything once the terminal or pipe of the output is closed.

        The kernel signals a closed terminal to its first process alone; GNU make then waits for this one.
        """
        poller = select.poll()
        try:
            poller.register(self._out.fileno(), 0)
        except io.UnsupportedOperation:
            return
        if poller.poll()[0][1] & (select.POLLHUP | select.POLLERR):
            self._events.put(_OutputGone())

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
