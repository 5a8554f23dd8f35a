"""Redis behind Sentinel.

`sentinel://[user:password@]host1[:26379],host2[:26379],…/service[/db]`
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from chatbot.store.connections import CheapCheck, LeavesReplica

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


class SentinelConnection(CheapCheck, LeavesReplica, SentinelManagedConnection):
    pass


class SentinelSSLConnection(LeavesReplica, SentinelManagedSSLConnection):
    pass
