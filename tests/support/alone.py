"""Tests that measure time run alone: the other processes of a parallel run wait between two of their tests meanwhile.

A lock that readers share would starve a writer. So all pass a gate first, which a waiting writer keeps closed.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(*, alone: bool) -> Iterator[None]:
    """Waits until the test may run: with others that are not `alone`, or by itself."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        yield
        return
    folder = Path(tempfile.gettempdir())
    with open(folder / f"chatbot-{run}-gate", "a") as gate, open(folder / f"chatbot-{run}-room", "a") as room:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
