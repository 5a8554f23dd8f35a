"""The fake model server as a child process, for tests and tools, with the calls to control it."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Self

from devtools.fake_model.state import Record
from devtools.harness.ports import free_port
from devtools.paths import ROOT


class ModelServer:
    """The server as a child process. It ends with the ``with``, and at the latest with this process.

    ``stop()`` and then ``start()`` restart it at the same address, without its records and settings.
    """

    def __init__(self, *, port: int | None = None, record: bool = True, **options: str | float) -> None:
        """``options`` are those of the command line: first, interval, tokens, model."""
        self.port = port or free_port()
        self.options = [f"--{name}={value}" for name, value in options.items()]
        self.options += [] if record else ["--no-record"]
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError("the model server was not started")
        return self.process.pid

    def start(self) -> Self:
        arguments = [f"--port={self.port}", "--until-stdin-closes", *self.options]
        command = [sys.executable, "-m", "devtools.fake_model", *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"the model server did not start: {' '.join(command)}")
        self.port = int(line.rpartition(":")[2])
        return self

    def stop(self) -> None:
        """Kill it, as a crash would: it has nothing to store."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def control(self, **settings: Any) -> dict[str, Any]:
        """Change settings (see Controls); returns all settings."""
        return dict(self._call("PUT", "/control", settings)[0])

    def fault(self, name: str | None, count: int | None = None, **settings: Any) -> None:
        """Let the next ``count`` requests fail, by default all; the fault None ends that."""
        self.control(fault=name, count=count, **settings)

    def reset(self) -> None:
        """Delete the records, the faults and every setting since the start."""
        self._call("DELETE", "/control")
        self._call("DELETE", "/requests")

    def requests(self, since: int = 0) -> list[Record]:
        """The stored records in the order of arrival, with a number greater than ``since``."""
        return [Record(**item) for item in self._call("GET", f"/requests?since={since}")[0]]

    def wait_until(self, true: Callable[[list[Record]], bool], *, since: int = 0, timeout: float = 30) -> list[Record]:
        """The records as soon as ``true(records)``, checked whenever one arrives, sends a first token, is held or ends.

        ``true`` is first called with the first record: it may take ``records[-1]``.
        """
        version, deadline = -1, time.monotonic() + timeout
        while True:
            left = max(0.001, deadline - time.monotonic())
            path = f"/requests?since={since}&version={version}&wait={left:.3f}"
            found, version = self._call("GET", path, timeout=left + 10)
            records = [Record(**item) for item in found]
            if records and true(records):
                return records
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {timeout} s of {records[-5:]}")

    def _call(self, method: str, path: str, body: Any = None, timeout: float = 30) -> tuple[Any, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
            if response.status != 200:
                raise ValueError(f"{method} {path}: {response.status} {text}")
            return json.loads(text or "null"), int(response.headers.get("x-version", 0))
