"""The limit on the time of one request, which an answer that lasts may lift."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gevent

#: The attribute of a greenlet that holds its request's timeout.
_ATTRIBUTE = "request_timeout"


@contextlib.contextmanager
def request_timeout(seconds: float) -> Iterator[gevent.Timeout]:
    """Raises the yielded timeout within the `with`, unless `lift_timeout` is called there."""
    timeout = gevent.Timeout.start_new(seconds)
    greenlet = gevent.getcurrent()
    setattr(greenlet, _ATTRIBUTE, timeout)
    try:
        yield timeout
    finally:
        timeout.close()
        delattr(greenlet, _ATTRIBUTE)


def lift_timeout() -> None:
    """Lets the request in progress last for any time; does nothing where it has no limit."""
    timeout = getattr(gevent.getcurrent(), _ATTRIBUTE, None)
    if timeout is not None:
        timeout.close()
