"""The resident memory of this process."""

from __future__ import annotations

import resource
import sys

#: Bytes of a unit of `ru_maxrss`.
_UNIT = 1 if sys.platform == "darwin" else 1024


def resident_memory() -> int:
    """Bytes of this process in memory now; without `/proc`, as on macOS, the most so far."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read(200).split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
