"""How Redis is reached, Sentinel's way among others, by connections that leave a Redis that is no longer the master.

`sentinel://[user:password@]host1[:26379],host2[:26379],…/service[/db]` asks those Sentinels which Redis is the master
of `service`, each time that a connection is made. User and password are those of Redis; the Sentinels' own stand in
the query, as `sentinel_username` and `sentinel_password`. `sentinels://` has TLS to both, with redis-py's `ssl_…`
options in the query.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
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
            # What a command that blocks is told while its Redis becomes a replica.
            if not str(error).startswith("UNBLOCKED"):
                raise
            self._leave(error)

    def _leave(self, error: Exception) -> None:
        self.disconnect()  # type: ignore[attr-defined]
        raise redis.ConnectionError(f"this Redis is no longer the master: {error}") from error


class Connection(LeavesReplica, redis.Connection):
    pass


class SSLConnection(LeavesReplica, redis.SSLConnection):
    pass


class UnixConnection(LeavesReplica, redis.UnixDomainSocketConnection):
    pass


class SentinelConnection(LeavesReplica, SentinelManagedConnection):
    pass


class SentinelSSLConnection(LeavesReplica, SentinelManagedSSLConnection):
    pass


class Sentinels(Sentinel):
    """Asks for one thread at a time: redis-py's puts the Sentinel that answers first, which threads could lose."""

    def __init__(
        self, sentinels: Sequence[tuple[str, int]], options: dict[str, Any], **connection_options: Any
    ) -> None:
        """`options` are for connections to the Sentinels, `connection_options` for those to Redis."""
        own = {
            "socket_timeout": _SENTINEL_TIMEOUT,
            "socket_connect_timeout": _SENTINEL_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            **options,
        }
        super().__init__(sentinels, sentinel_kwargs=own, **connection_options)  # type: ignore[no-untyped-call]
        self._asking = threading.Lock()

    def discover_master(self, service_name: str) -> tuple[str, int]:
        with self._asking:
            master: tuple[str, int] = super().discover_master(service_name)  # type: ignore[no-untyped-call]
            return master


class SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """A bounded pool of connections to the master; whoever finds none free waits, as in any other of ours."""

    def owns_connection(self, connection: Any) -> int:
        """A connection that could not be made, or goes to the former master, is used again, not replaced: redis-py
        would keep a new object for each attempt of an outage."""
        return int(connection.pid == self.pid)

    def release(self, connection: Any) -> None:
        if (connection.host, connection.port) != self.master_address:
            connection.disconnect()
        super().release(connection)  # type: ignore[no-untyped-call]


def create_pool(url: str, **options: Any) -> redis.BlockingConnectionPool:
    """A bounded pool for a URL that `Settings` took. Connects to nothing yet."""
    if is_sentinel(url):
        address = SentinelAddress.parse(url)
        kind = SentinelSSLConnection if address.tls else SentinelConnection
        sentinels = Sentinels(address.sentinels, address.sentinel_options)
        options = {**options, **address.redis_options, "connection_class": kind}
        return SentinelPool(address.service, sentinels, **options)  # type: ignore[no-untyped-call]
    kinds = {"rediss": SSLConnection, "unix": UnixConnection}
    return redis.BlockingConnectionPool.from_url(
        url, connection_class=kinds.get(urlsplit(url).scheme, Connection), **options
    )
