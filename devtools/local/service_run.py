"""One run of a service, from its start to its end, and the events that it reports to the supervisor."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from devtools.local.log_stream import LogStream
from devtools.local.probes import NeverReady
from devtools.local.service import Service
from devtools.paths import PARENT_WATCH

PROBE_EVERY = 0.1  # seconds
LAST_OUTPUT = 1.0  # seconds to read the rest of an ended process' pipe, which another process may hold open
LINE = 64 * 1024  # bytes; a longer line is cut in pieces


class ServiceRun:
    """A running service. Its threads read the output, wait for the end and check whether the service is ready."""

    def __init__(self, service: Service, log: LogStream, post: Callable[["RunEvent"], None]) -> None:
        self.service = service
        self.ready = service.ready is None
        self.missing = "it has not been checked yet"  # the text of the last failed check
        self.started = time.monotonic()
        self._log = log
        self._post = post
        self._over = threading.Event()
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PARENT_WATCH), str(os.getpid()), *service.command],
            env=service.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor only, and the whole group can be killed
        )
        self._reader = self._thread(self._read, self._popen.stdout)
        self._thread(self._watch)
        if service.ready:
            self._thread(self._probe, service.ready)

    @property
    def name(self) -> str:
        return self.service.name

    @property
    def ready_by(self) -> float:
        """The deadline for becoming ready, on the monotonic clock."""
        return self.started + self.service.ready_within

    def terminate(self) -> None:
        """Send SIGTERM to the process alone, which ends its own children."""
        with suppress(ProcessLookupError):
            os.kill(self._popen.pid, signal.SIGTERM)

    def kill_group(self) -> None:
        """Send SIGKILL to the process and all its descendants."""
        with suppress(ProcessLookupError, PermissionError):  # the group is empty: macOS raises the second
            os.killpg(self._popen.pid, signal.SIGKILL)

    def reap(self) -> str:
        """Clean up after the process has ended. Returns how it ended: "exit code 3" or "SIGKILL"."""
        self._over.set()
        self.kill_group()  # before the process is reaped: after that another process may get its id
        code = self._popen.wait()
        self._reader.join(LAST_OUTPUT)
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
        self._post(Ended(self))

    def _probe(self, ready: Callable[[], None]) -> None:
        while not self._over.wait(PROBE_EVERY):
            try:
                ready()
            except Exception as error:  # noqa: BLE001 - any exception of a probe means: not ready
                self.missing = str(error) or type(error).__name__
                if isinstance(error, NeverReady):
                    self._post(Hopeless(self))
                    return
            else:
                self._post(Ready(self))
                return


@dataclass(frozen=True)
class Ended:
    """The process has ended."""

    run: ServiceRun


@dataclass(frozen=True)
class Ready:
    """The service is ready."""

    run: ServiceRun


@dataclass(frozen=True)
class Hopeless:
    """The service will never be ready."""

    run: ServiceRun


RunEvent = Ended | Ready | Hopeless
