"""A module of this package as a child process that answers lines on its standard input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from devtools.paths import ROOT


class LineProcess:
    """`python -m MODULE`. The module ends when its standard input closes, so at the latest with this process."""

    def __init__(self, module: str, env: Mapping[str, str] | None = None) -> None:
        self._module = module
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=pipe,
            stdout=pipe,
            text=True,
            cwd=ROOT,
            env=env,
            start_new_session=True,
        )
        self.pid = self._popen.pid

    def ask(self, line: str) -> str:
        """Sends a line and returns the line that answers it. Raises `RuntimeError` when the process has ended."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()
        return self.read()

    def read(self) -> str:
        """The next line. Raises `RuntimeError` when the process has ended."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} has ended")
        return line

    def kill(self) -> None:
        self._popen.kill()
        self._popen.communicate()
