"""Redis behind Sentinel: its URLs, and pools of connections to whichever Redis is the master.

`sentinel://[user:password@]host1[:26379],host2[:26379],…/service[/db]` names the Sentinels that watch `service`. User
and password are those of Redis. Those of the Sentinels stand in the query, as `sentinel_username` and
`sentinel_password`. `sentinels://` uses TLS to Redis and the Sentinels; redis-py's `ssl_…` options stand in the query.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from chatbot.store.connections import FollowsMaster, PollsSocket
from chatbot.store.polling import poll
from chatbot.store.url_parts import host_and_port, redis_options

SENTINEL_SCHEMES = ("sentinel", "sentinels")
SENTINEL_PORT = 26379
#: Seconds. A Sentinel answers from memory: after this time it counts as down, and the next one is asked.
_SENTINEL_TIMEOUT = 1.0


@dataclass(frozen=True)
class SentinelAddress:
    """The parts of a `sentinel://` URL."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    #: User, password, database and TLS, in the form of redis-py's `parse_url`.
    redis_options: dict[str, Any]
    #: The same for connections to the Sentinels.
    sentinel_options: dict[str, Any]
    tls: bool

    @classmethod
    def parse(cls, url: str) -> SentinelAddress:
        """Raises `ValueError` with the reason, but without the URL, which may contain a password."""
        if ";" in url:
            raise ValueError("separate the Sentinels by commas: sentinel://host1,host2,host3/service")
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        service, _, db = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError("name the service that the Sentinels watch: sentinel://host1,host2,host3/service")
        if db and not db.isdigit():
            raise ValueError("the part after the service must be the number of a database")
        tls = parts.scheme == "sentinels"
        query = dict(parse_qsl(parts.query))
        own = {name: query.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        options = redis_options(login, tls, db or "0", urlencode(query))
        return cls(
            sentinels=tuple(host_and_port(address, SENTINEL_PORT, "a Sentinel") for address in hosts.split(",")),
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


class Sentinels(Sentinel):
    """Finds the master, and closes all connections of a process to a former master at the same moment.

    A former master that is frozen, or not yet reconfigured by Sentinel (which takes ten seconds), does not close its
    connections: a subscriber would wait for ever. And a process that receives events from the new master must not read
    from the former one, whose last writes are lost.
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
        # redis-py moves the Sentinel that answers to the front of its list, which is not safe for two threads.
        self._discovery = threading.Lock()
        # Guards the attributes below.
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._polling = False

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """The master's host and port. Closes the tracked connections to any other Redis."""
        with self._discovery:
            master: tuple[str, int] = super().discover_master(service_name)  # type: ignore[no-untyped-call]
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            sock = connection._sock
            if sock is not None and (connection.host, connection.port) != master:
                # The thread that uses the connection gets an error, and closes it.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        return master

    def track(self, service: str, connection: Any) -> None:
        """Has the connection closed when another Redis becomes the master of the service."""
        with self._lock:
            self._connections.add(connection)
            start, self._polling = not self._polling, True
        if start:
            poll(self, methodcaller("discover_master", service), "sentinel")


class MasterPool(SentinelConnectionPool):
    """A pool of connections to the master, which are closed when another Redis becomes the master."""

    def make_connection(self) -> Any:
        connection = super().make_connection()
        self.sentinel_manager.track(self.service_name, connection)
        return connection


class BlockingMasterPool(MasterPool, redis.BlockingConnectionPool):
    """A bounded `MasterPool`; a thread that finds no free connection waits for one."""

    def owns_connection(self, connection: Any) -> int:
        """Whether `release` takes the connection back, also after it failed or its Redis was replaced as master.

        redis-py would drop it, and during an outage collect a new object for each attempt.
        """
        return int(connection.pid == self.pid)

    def release(self, connection: Any) -> None:
        if (connection.host, connection.port) != self.master_address:
            connection.disconnect()
        super().release(connection)  # type: ignore[no-untyped-call]


class SentinelConnection(PollsSocket, FollowsMaster, SentinelManagedConnection):
    pass


class SentinelSSLConnection(FollowsMaster, SentinelManagedSSLConnection):
    pass
