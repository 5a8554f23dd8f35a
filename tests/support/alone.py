"""Tests that measure time run alone: the other processes of a parallel run wait between two of their tests meanwhile.

A lock that readers share would starve a writer. So all pass a gate first, which a waiting writer keeps closed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Room:
    """The lock of one process of a parallel run."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is one that all processes of the run have in common; None where there is one process."""
        # Descriptors, which are open as long as the process lives.
        create = os.O_CREAT | os.O_WRONLY
        self._files = [os.open(folder / name, create) for name in ("gate", "room")] if folder else []
        self._held_alone = False

    @contextmanager
    def test(self, *, alone: bool, next_alone: bool) -> Iterator[None]:
        """Waits until the test may run: with others that are not `alone`, or by itself.

        Between two tests that run alone the others go on waiting: they would have to end their tests first, again.
        """
        if not self._files:
            yield
            return
        gate, room = self._files
        if not self._held_alone:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            self._held_alone = alone and next_alone
            if not self._held_alone:
                fcntl.flock(room, fcntl.LOCK_UN)
