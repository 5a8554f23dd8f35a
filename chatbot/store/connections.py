"""How Redis is reached, Sentinel's way among others, by connections that leave a Redis that is no longer the master.

`sentinel://[user:password@]host1[:26379],host2[:26379],…/service[/db]` asks those Sentinels which Redis is the master
of `service`, each time that a connection is made. User and password are those of Redis; the Sentinels' own stand in
the query, as `sentinel_username` and `sentinel_password`. `sentinels://` has TLS to both, with redis-py's `ssl_…`
options in the query.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

#: Answers of a Redis that is no longer the master: a command that blocked while it became a replica, and one that
#: has lost its replicas to the next master and was not yet told (`min-replicas-to-write`).
_NO_MASTER = ("UNBLOCKED", "NOREPLICAS")


class LeavesReplica:
    """For connections: one to a Redis that was master, and is none any more, is closed, and counts as lost.

    The next one is made where the master is now, by Sentinel, or by whoever moves a name or a virtual address.
    """

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except (ReadOnlyError, MasterDownError) as error:
            self._leave(error)
        except ResponseError as error:
            if not str(error).startswith(_NO_MASTER):
                raise
            self._leave(error)

    def _leave(self, error: Exception) -> None:
        self.disconnect()  # type: ignore[attr-defined]
        raise redis.ConnectionError(f"this Redis is no longer the master: {error}") from error


def _original_poll() -> Callable[[], select.poll]:
    """`select.poll` as Python has it: gevent's, which takes a twentieth of a web process, would only return at once."""
    gevent = sys.modules.get("gevent.monkey")
    return gevent.get_original("select", "poll") if gevent else select.poll


_poll = _original_poll()


def _readable(poll: select.poll, sock: socket.socket, timeout: float) -> bool:
    try:
        poll.register(sock, select.POLLIN)
    except ValueError as error:
        raise redis.ConnectionError("the connection was closed meanwhile") from error
    return bool(poll.poll(timeout * 1000))


class CheapCheck:
    """For connections: a pool asks each one that it hands out whether something stands there unread, and a subscriber
    waits for that."""

    def can_read(self, timeout: float = 0) -> bool:
        sock, reader = self._sock, getattr(self._parser, "_reader", None)  # type: ignore[attr-defined]
        if sock is not None and not hasattr(sock, "pending") and reader and not reader.has_data():
            if timeout:
                # That it was closed reading tells as well: whoever waits is about to read.
                return _readable(_poll(), sock, 0) or _readable(select.poll(), sock, timeout)
            if not _readable(_poll(), sock, 0):
                return False
        return super().can_read(timeout)  # type: ignore[misc,no-any-return]


class Connection(CheapCheck, LeavesReplica, redis.Connection):
    pass


class SSLConnection(LeavesReplica, redis.SSLConnection):
    pass


class UnixConnection(CheapCheck, LeavesReplica, redis.UnixDomainSocketConnection):
    pass
