"""The time that a request may take under gunicorn, which a route can change while it serves the request."""

from __future__ import annotations

from typing import Any

from gevent import Timeout, local

#: Seconds for a client to take what is sent.
SEND_TIMEOUT = 20.0

_current = local.local()


class RequestDeadline:
    """Bounds a request of the running greenlet; `Timeout` is raised in it when the time is over."""

    def __init__(self, seconds: float) -> None:
        self._timeout = Timeout.start_new(seconds)
        _current.deadline = self

    def caused(self, error: Timeout) -> bool:
        """Whether the exception is that of this deadline."""
        return error is self._timeout

    def restart(self, seconds: float | None) -> None:
        """Gives the request `seconds` from now on, without end for None."""
        self._timeout.close()
        if seconds is not None:
            self._timeout = Timeout.start_new(seconds)

    def close(self) -> None:
        self._timeout.close()
        _current.deadline = None


def allow(seconds: float | None) -> None:
    """Gives the running request `seconds` from now on, without end for None. Does nothing outside of gunicorn."""
    deadline: RequestDeadline | None = getattr(_current, "deadline", None)
    if deadline is not None:
        deadline.restart(seconds)


def allow_streaming(environ: dict[str, Any]) -> None:
    """Gives the running request any time, as long as its client takes each part of the answer in `SEND_TIMEOUT`."""
    sock = environ.get("gunicorn.socket")
    if sock is not None:
        # Costs nothing where a send does not block; a `Timeout` for each part would.
        sock.settimeout(SEND_TIMEOUT)
    allow(None)
