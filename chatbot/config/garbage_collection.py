"""Settings of the garbage collector for a process with thousands of connections or hundreds of replies."""

from __future__ import annotations

import contextlib
import ctypes
import gc

#: New objects between two collections of the youngest generation. A connection or a reply is a few hundred objects:
#: with Python's threshold of 700, collections took an eighth of a rush of connections.
_YOUNG_OBJECTS = 10_000


def tune() -> None:
    """Exempts the objects that exist now from collections, and has new ones collected less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 5, 5)


def trim() -> None:
    """Returns what a rush of connections took to the operating system; the C library would keep it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
