"""Connections to Redis that close when Redis stops being the master, and that check cheaply for unread data."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

#: Errors of a former master: the command was blocked while Redis became a replica, or the replicas have left for the
#: new master already (`min-replicas-to-write`).
_NOT_MASTER = ("UNBLOCKED", "NOREPLICAS")


#: Seconds after a response for which a connection is not checked: each check lets other threads run first.
_FRESH = 1.0


class FollowsMaster:
    """A mixin: a connection closes, with a `ConnectionError`, when its Redis answers that it is no longer the master.

    The next connection goes to the new master: by Sentinel, or because a host name or virtual address has moved.
    """

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except (ReadOnlyError, MasterDownError) as error:
            self._close(error)
        except ResponseError as error:
            if not str(error).startswith(_NOT_MASTER):
                raise
            self._close(error)

    def _close(self, error: Exception) -> None:
        self.disconnect()  # type: ignore[attr-defined]
        raise redis.ConnectionError(f"this Redis is no longer the master: {error}") from error


def _original_poll() -> Callable[[], select.poll]:
    """`select.poll` without gevent's patch, which would cost a web process a twentieth of its CPU.

    For calls that do not wait: others would block the event loop.
    """
    gevent = sys.modules.get("gevent.monkey")
    return gevent.get_original("select", "poll") if gevent else select.poll


_poll = _original_poll()


def _readable(poll: select.poll, sock: socket.socket, timeout: float) -> bool:
    try:
        poll.register(sock, select.POLLIN)
    except ValueError as error:
        raise redis.ConnectionError("another thread closed the connection") from error
    return bool(poll.poll(timeout * 1000))


class PollsSocket:
    """A mixin: checks for unread data with one `poll`. A pool does that for each connection that it hands out."""

    #: The monotonic time at which a command that has one response got it. For connections of no subscriber.
    answered = -math.inf

    def can_read(self, timeout: float = 0) -> bool:
        if not timeout and time.monotonic() - self.answered < _FRESH:
            # Should it break meanwhile, its next command is sent again.
            return False
        sock, reader = self._sock, getattr(self._parser, "_reader", None)  # type: ignore[attr-defined]
        if sock is not None and not hasattr(sock, "pending") and reader and not reader.has_data():
            if timeout:
                # A closed socket counts as readable: the read that follows finds it closed.
                return _readable(_poll(), sock, 0) or _readable(select.poll(), sock, timeout)
            if not _readable(_poll(), sock, 0):
                return False
        return super().can_read(timeout)  # type: ignore[misc,no-any-return]


def buffered_responses(connection: Any) -> Iterator[Any]:
    """The responses that hiredis holds of what was read last, without waiting and without redis-py's work for each."""
    reader = getattr(connection._parser, "_reader", None)
    while reader is not None and reader.has_data():
        response = reader.gets()
        if response is NOT_ENOUGH_DATA:
            return
        yield response


class Connection(PollsSocket, FollowsMaster, redis.Connection):
    pass


class SSLConnection(FollowsMaster, redis.SSLConnection):
    """Raises a `ConnectionError` where Python's TLS raises a `ValueError`: another thread closed the connection."""

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        with self._closed_elsewhere():
            return super().read_response(*args, **kwargs)

    def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        with self._closed_elsewhere():
            super().send_packed_command(*args, **kwargs)  # type: ignore[no-untyped-call]

    def can_read(self, timeout: float = 0) -> bool:
        with self._closed_elsewhere():
            return bool(super().can_read(timeout))

    @contextlib.contextmanager
    def _closed_elsewhere(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(f"another thread closed the connection: {error}") from error


class UnixConnection(PollsSocket, FollowsMaster, redis.UnixDomainSocketConnection):
    pass


def ask_packed(pool: redis.ConnectionPool, commands: bytes, count: int) -> list[Any]:
    """The answers to `count` packed commands, in one round trip, past what a pipeline does around each. Errors of Redis
    stand among them."""
    connection: Any = pool.get_connection()
    try:
        # A list: redis-py would send the bytes one by one.
        connection.send_packed_command([commands])
        answers: list[Any] = []
        for _ in range(count):
            try:
                answers.append(connection.read_response())
            except redis.ResponseError as error:
                answers.append(error)
        connection.answered = time.monotonic()
        return answers
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
