"""The limit of open files: each connection is one, and by default a process often may have only 1024."""

from __future__ import annotations

import contextlib
import resource

#: Open files that a process needs at least.
_FEWEST = 64


def raise_limit() -> None:
    """Raises this process' limit to what is allowed. Ends the process if that is too small."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= most < _FEWEST:
        raise SystemExit(f"this process may have {most} files open, which is too few: raise the limit (ulimit -n)")
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
