"""How Redis is reached, Sentinel's way among others, by connections that leave a Redis that is no longer the master.

`sentinel://[user:password@]host1[:26379],host2[:26379],…/service[/db]` asks those Sentinels which Redis is the master
of `service`, each time that a connection is made. User and password are those of Redis; the Sentinels' own stand in
the query, as `sentinel_username` and `sentinel_password`. `sentinels://` has TLS to both, with redis-py's `ssl_…`
options in the query.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

SENTINEL_SCHEMES = ("sentinel", "sentinels")
SENTINEL_PORT = 26379

#: Seconds. A Sentinel answers from memory: one that takes longer is gone, and the next one is asked.
_SENTINEL_TIMEOUT = 1.0
#: Seconds between two questions which Redis is the master.
_FOLLOW_INTERVAL = 1.0


@dataclass(frozen=True)
class SentinelAddress:
    """A `sentinel://` URL, taken apart."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    #: As redis-py's own `parse_url` has them: user, password, database, TLS.
    redis_options: dict[str, Any]
    #: Of the connections to the Sentinels themselves.
    sentinel_options: dict[str, Any]
    tls: bool

    @classmethod
    def parse(cls, url: str) -> SentinelAddress:
        """Raises `ValueError`, saying what is wrong without repeating the URL, which may hold a password."""
        if ";" in url:
            raise ValueError("separate the Sentinels by commas: sentinel://host1,host2,host3/service")
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        service, _, db = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError("name the service that the Sentinels watch: sentinel://host1,host2,host3/service")
        if db and not db.isdigit():
            raise ValueError("what follows the service must be the number of a database")
        tls = parts.scheme == "sentinels"
        query = dict(parse_qsl(parts.query))
        own = {name: query.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        options = parse_url(
            f"{'rediss' if tls else 'redis'}://{login}{'@' if login else ''}redis/{db or 0}?{urlencode(query)}"
        )
        for name in ("host", "port", "connection_class"):
            options.pop(name, None)
        return cls(
            sentinels=tuple(_host_and_port(address) for address in hosts.split(",")),
            service=service,
            redis_options=options,
            sentinel_options={
                **{name: value for name, value in own.items() if value},
                **({"ssl": True, **tls_options(options)} if tls else {}),
            },
            tls=tls,
        )


def is_sentinel(url: str) -> bool:
    return urlsplit(url).scheme in SENTINEL_SCHEMES


def tls_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name.startswith("ssl_")}


def _host_and_port(address: str) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    if not parts.hostname:
        raise ValueError("a Sentinel has no host")
    try:
        return parts.hostname, parts.port or SENTINEL_PORT
    except ValueError:
        raise ValueError("a Sentinel's port is no port number") from None


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


class SentinelConnection(CheapCheck, LeavesReplica, SentinelManagedConnection):
    pass


class SentinelSSLConnection(LeavesReplica, SentinelManagedSSLConnection):
    pass


class Sentinels(Sentinel):
    """Knows which Redis is the master, and has all pools of a process leave another one at the same moment.

    A former master that is frozen, or that Sentinel has not told yet (which takes it ten seconds), goes on as if
    nothing had happened, and whoever only listens to it would never notice. And whoever hears the new master must
    not read from the former one: it may know of events that never happened.
    """

    def __init__(self, sentinels: Sequence[tuple[str, int]], options: dict[str, Any]) -> None:
        """`options` are for connections to the Sentinels."""
        own = {
            "socket_timeout": _SENTINEL_TIMEOUT,
            "socket_connect_timeout": _SENTINEL_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            **options,
        }
        super().__init__(sentinels, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
        # redis-py's puts the Sentinel that answers first, which two threads at once could lose.
        self._asking = threading.Lock()
        # Guards what follows.
        self._guard = threading.Lock()
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()
        self._following = False

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Ends the connections to any other Redis than the one it answers."""
        with self._asking:
            master: tuple[str, int] = super().discover_master(service_name)  # type: ignore[no-untyped-call]
        with self._guard:
            connections = list(self._made)
        for connection in connections:
            sock = connection._sock
            if sock is not None and (connection.host, connection.port) != master:
                # Whoever reads or writes it finds that out; closing it is his.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        return master

    def follow(self, service: str, connection: Any) -> None:
        """From here on the connection ends when another Redis is the master of the service."""
        with self._guard:
            self._made.add(connection)
            begin, self._following = not self._following, True
        if begin:
            arguments = (weakref.ref(self), service)
            threading.Thread(target=_keep_following, args=arguments, name="sentinel", daemon=True).start()


def _keep_following(reference: weakref.ref[Sentinels], service: str) -> None:
    while True:
        time.sleep(_FOLLOW_INTERVAL)
        sentinels = reference()
        if sentinels is None:
            return
        with contextlib.suppress(redis.RedisError, OSError, ValueError):
            # While no Sentinel tells, all stay where they are. A ValueError is a socket that was closed meanwhile.
            sentinels.discover_master(service)
        del sentinels


class FollowingPool(SentinelConnectionPool):
    """Connections to the master, as long as it is."""

    def make_connection(self) -> Any:
        connection = super().make_connection()
        self.sentinel_manager.follow(self.service_name, connection)
        return connection


class SentinelPool(FollowingPool, redis.BlockingConnectionPool):
    """A bounded pool of connections to the master; whoever finds none free waits, as in any other of ours."""

    def owns_connection(self, connection: Any) -> int:
        """A connection that could not be made, or goes to the former master, is used again, not replaced: redis-py
        would keep a new object for each attempt of an outage."""
        return int(connection.pid == self.pid)

    def release(self, connection: Any) -> None:
        if (connection.host, connection.port) != self.master_address:
            connection.disconnect()
        super().release(connection)  # type: ignore[no-untyped-call]


#: One for all pools of a process with the same URL.
_shared: weakref.WeakValueDictionary[tuple[int, str], Sentinels] = weakref.WeakValueDictionary()
_shared_guard = threading.Lock()


def create_pool(url: str, **options: Any) -> redis.BlockingConnectionPool:
    """A bounded pool for a URL that `Settings` took. Connects to nothing yet."""
    if is_sentinel(url):
        address = SentinelAddress.parse(url)
        kind = SentinelSSLConnection if address.tls else SentinelConnection
        with _shared_guard:
            key = (os.getpid(), url)
            sentinels = _shared.setdefault(key, Sentinels(address.sentinels, address.sentinel_options))
        options = {**options, **address.redis_options, "connection_class": kind}
        return SentinelPool(address.service, sentinels, **options)  # type: ignore[no-untyped-call]
    kinds = {"rediss": SSLConnection, "unix": UnixConnection}
    return redis.BlockingConnectionPool.from_url(
        url, connection_class=kinds.get(urlsplit(url).scheme, Connection), **options
    )
