"""Deployments whose network, disk, clock or version can be broken."""

from __future__ import annotations

import contextlib
import resource
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

from devtools.harness.deployment import CannotRun, Deployment, Process
from devtools.harness.proxy import Proxy
from devtools.paths import ROOT

_WRONG_CLOCK = Path(__file__).with_name("wrong_clock.c")


class NetworkDeployment(Deployment):
    """Reaches Redis through proxies: sessions and broker each have one, and the first worker two of its own."""

    def __init__(self, model_url: str, **settings: Any) -> None:
        super().__init__(model_url, **settings)
        self._network = contextlib.ExitStack()
        self.sessions, self.broker, self.own_sessions, self.own_broker = (Proxy(self.redis_port) for _ in range(4))

    @property
    def proxies(self) -> tuple[Proxy, ...]:
        return self.sessions, self.broker, self.own_sessions, self.own_broker

    def start(self) -> Self:
        for proxy in self.proxies:
            self._network.enter_context(proxy)
        for process in (*self.webs, *self.workers):
            alone = process is self.workers[0]
            sessions, broker = (self.own_sessions, self.own_broker) if alone else (self.sessions, self.broker)
            process.env["REDIS_URL"] = f"redis://127.0.0.1:{sessions.port}/0"
            process.env["CELERY_BROKER_URL"] = f"redis://127.0.0.1:{broker.port}/0"
        return super().start()

    def stop(self) -> None:
        super().stop()
        self._network.close()


class DiskDeployment(Deployment):
    """Limits the size of files that Redis writes: beyond it a write fails, as on a full disk."""

    def __init__(self, model_url: str, **settings: Any) -> None:
        super().__init__(model_url, **settings)
        # The limit's signal would end Redis; when it is ignored the write fails.
        self.redis.command = ["sh", "-c", 'trap "" XFSZ; exec "$@"', "sh", *self.redis.command]

    def limit_files(self, size: int = resource.RLIM_INFINITY) -> None:
        """Bytes that a file may have; unlimited by default."""
        _, hard = resource.prlimit(self.redis.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.redis.pid, resource.RLIMIT_FSIZE, (size, hard))

    def append_only_size(self) -> int:
        """The size of the largest file with which Redis persists."""
        return max(path.stat().st_size for path in (self.folder / "redis").rglob("*") if path.is_file())


class ClockDeployment(Deployment):
    """The last web process and the last worker run on a host whose clock can be set wrong while they run."""

    def __init__(self, model_url: str, **settings: Any) -> None:
        super().__init__(model_url, **settings)
        library = self.folder / "wrong_clock.so"
        compiler = shutil.which("cc")
        if compiler is None:
            raise CannotRun("no C compiler (cc) for the library that sets a process's clock")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_WRONG_CLOCK)], check=True)
        self._offset = self.folder / "clock"
        self.set_clock(0)
        for process in (self.webs[-1], self.workers[-1]):
            process.env |= {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._offset)}

    def set_clock(self, offset: int) -> None:
        """The clock is wrong by so many seconds from now on."""
        # In place, as the processes have mapped the file.
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(struct.pack("=q", offset))


class VersionsDeployment(Deployment):
    """Half of the processes run an older version of the code."""

    #: The commit of the older version.
    ref = "HEAD~1"

    def __init__(self, model_url: str, **settings: Any) -> None:
        super().__init__(model_url, **settings)
        self._checkout = tempfile.TemporaryDirectory(prefix="chatbot-old-")
        self.old = Path(self._checkout.name)
        command = f"git archive {self.ref} | tar -x -C {self.old}"
        if (
            subprocess.run(["sh", "-c", command], cwd=ROOT, check=False).returncode  # noqa: S607
            or not (self.old / "wsgi.py").exists()
        ):
            raise CannotRun(f"no version {self.ref} in this checkout")
        for process in (self.webs[0], self.workers[0]):
            process.cwd = self.old

    def change_version(self, process: Process) -> None:
        """Stops a process in order, and starts it in the other version."""
        process.stop()
        process.cwd = ROOT if process.cwd == self.old else self.old
        process.start()

    def stop(self) -> None:
        super().stop()
        self._checkout.cleanup()
