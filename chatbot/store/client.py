"""Clients of Redis: over TCP, TLS, a Unix socket, Sentinel, or of a Redis Cluster."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from chatbot.store.cluster.client import ClusterClient
from chatbot.store.cluster.pool import PATIENCE, ClusterPool, slot_of
from chatbot.store.cluster.topology import is_cluster
from chatbot.store.connections import Connection, SSLConnection, UnixConnection
from chatbot.store.sentinel import (
    BlockingMasterPool,
    SentinelAddress,
    SentinelConnection,
    Sentinels,
    SentinelSSLConnection,
    is_sentinel,
)

#: Seconds. A step takes Redis well under a millisecond: after seconds of silence it counts as down.
SOCKET_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0
#: Seconds of waiting for a free connection before Redis counts as unavailable.
POOL_TIMEOUT = 5.0


class _Client(redis.Redis):
    """Runs scripts, which are most of all commands, past what redis-py does around a command: half of its cost."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        pool = self.connection_pool
        connection: Any = pool.get_connection()
        try:
            # A list: redis-py would send the bytes one by one.
            connection.send_packed_command([hiredis.pack_command(("EVALSHA", sha, numkeys, *keys_and_args))])
            response = connection.read_response()
            connection.answered = time.monotonic()
            return response
        except redis.ConnectionError:
            connection.disconnect()
            if not connection.retry.get_retries():
                raise
        except redis.ResponseError:
            raise
        except BaseException:
            # Its response would be taken for that of the next command.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
        return super().evalsha(sha, numkeys, *keys_and_args)


def connect(url: str, max_connections: int, *, retries: int = 1) -> redis.Redis:
    """A client with a bounded pool; it connects at its first command. For Sentinel URLs see sentinel.py.
    For a Redis Cluster the bound is for each node; see cluster/pool.py.

    A command whose connection breaks is sent again on a new one, `retries` times: every step is idempotent. A
    subscriber needs `retries` 0, or redis-py would reconnect without an error, and missed messages would go unnoticed.
    """
    options: dict[str, Any] = {
        "max_connections": max_connections,
        "timeout": POOL_TIMEOUT,
        "decode_responses": True,
        "protocol": 2,
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if is_cluster(url):
        return ClusterClient(ClusterPool(url, patience=PATIENCE if retries else 0.0, **options))
    retry = Retry(NoBackoff(), retries, supported_errors=(redis.ConnectionError,))
    return _Client(connection_pool=create_pool(url, retry=retry, **options))


def pool_of_key(client: redis.Redis, key: str) -> redis.ConnectionPool:
    """The connections to the Redis that has a key. Raises redis-py's `ConnectionError` while a cluster has none."""
    if isinstance(client, ClusterClient):
        return client.connection_pool.of_slot(slot_of(key))
    return client.connection_pool


def database(url: str) -> int:
    """The number of the database that a URL names."""
    if is_cluster(url):
        return 0
    options = SentinelAddress.parse(url).redis_options if is_sentinel(url) else parse_url(url)
    return int(options.get("db", 0))


def clock(answer: tuple[int, int]) -> float:
    """Epoch seconds by the clock that all hosts share, from Redis' answer to TIME."""
    seconds, microseconds = answer
    return seconds + microseconds / 1e6


#: All pools of a process with the same URL share one, by process id and URL.
_sentinels: weakref.WeakValueDictionary[tuple[int, str], Sentinels] = weakref.WeakValueDictionary()
_sentinels_lock = threading.Lock()


def create_pool(url: str, **options: Any) -> redis.BlockingConnectionPool:
    """A bounded pool for a URL that `Settings` has validated; it does not connect yet."""
    if is_sentinel(url):
        address = SentinelAddress.parse(url)
        kind = SentinelSSLConnection if address.tls else SentinelConnection
        with _sentinels_lock:
            key = (os.getpid(), url)
            sentinels = _sentinels.setdefault(key, Sentinels(address.sentinels, address.sentinel_options))
        options = {**options, **address.redis_options, "connection_class": kind}
        return BlockingMasterPool(address.service, sentinels, **options)  # type: ignore[no-untyped-call]
    kinds = {"rediss": SSLConnection, "unix": UnixConnection}
    scheme = urlsplit(url).scheme
    if scheme == "unix":
        options.pop("socket_keepalive", None)
    return redis.BlockingConnectionPool.from_url(url, connection_class=kinds.get(scheme, Connection), **options)
