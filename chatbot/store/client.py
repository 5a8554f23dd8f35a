"""The connection to Redis, the names of keys, and the scripts that make each step on a session atomic."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from chatbot.store.connections import Connection, SSLConnection, UnixConnection
from chatbot.store.sentinel import (
    SentinelAddress,
    SentinelConnection,
    SentinelPool,
    Sentinels,
    SentinelSSLConnection,
    is_sentinel,
)

#: A step takes Redis well under a millisecond; seconds of silence mean that it is gone or stuck.
SOCKET_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0
#: Seconds of waiting for a connection out of the pool before the store counts as unavailable.
POOL_TIMEOUT = 5.0


def connect(url: str, max_connections: int, *, retries: int = 1) -> redis.Redis:
    """A client with a bounded pool; it connects at its first command.

    `url` may be that of Sentinels: see `connections`. A command is tried again once on a fresh connection when its
    own has been cut (Redis restarted): every step here can come twice without harm. With `retries` 0 every cut is
    told, also to a subscriber, which would otherwise be connected again without a word of what it missed.
    """
    pool = create_pool(
        url,
        max_connections=max_connections,
        timeout=POOL_TIMEOUT,
        decode_responses=True,
        protocol=2,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), retries, supported_errors=(redis.ConnectionError,)),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return redis.Redis(connection_pool=pool)


def clock(answer: tuple[int, int]) -> float:
    """Seconds since 1970 by the clock that all hosts share, out of Redis' answer to TIME."""
    seconds, microseconds = answer
    return seconds + microseconds / 1e6


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
