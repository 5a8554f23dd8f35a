"""The rates of addresses and sessions, which hold over all processes: they are counted in Redis."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Sequence
from functools import partial

import redis
from limits import RateLimitItem
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from chatbot import config
from chatbot.protocol.client_errors import RateLimited
from chatbot.sessions.buckets import Bucket
from chatbot.store.circuit_breakers import CircuitBreakers
from chatbot.store.errors import store_errors
from chatbot.store.partitions import Partition, Store, partitions_of

logger = logging.getLogger(__name__)

#: Bits of an IPv6 address that a provider assigns to one customer, who chooses the rest.
_IPV6_PREFIX = 64


class _Storage(RedisStorage):
    """Uses a client that exists already; of one for a Redis Cluster the pool alone would not do."""

    def __init__(self, client: redis.Redis, key_prefix: str) -> None:
        # With a pool given, the URL is not used.
        super().__init__("redis://", connection_pool=client.connection_pool, key_prefix=key_prefix)
        self.storage = client
        self.initialize_storage("")


class RateLimits:
    """The rates of the settings `RATELIMIT_…`; without `RATELIMIT_ENABLED` nothing is limited.

    An address counts with its network, which `network_of` returns.
    """

    def __init__(self, settings: config.Settings, store: Store) -> None:
        self.enabled = settings.limits.rates_enabled
        self._sessions = settings.limits.new_sessions
        self._session_messages = settings.limits.session_messages
        self._address_messages = settings.limits.address_messages
        self._address_bytes = settings.limits.address_bytes
        self._session_reads = settings.limits.session_reads
        self._address_reads = settings.limits.address_reads
        self._partitions = partitions_of(store)
        self._breakers = CircuitBreakers()
        self._limiters: dict[Partition, SlidingWindowCounterRateLimiter] = {}

    def new_session(self, network: str) -> None:
        """Counts a new session of `network`. Raises `RateLimited` and `StoreUnavailable`."""
        self._hit("sessions", network)

    def end_session(self, network: str) -> None:
        """Counts a session that `network` ends, by the rate of new ones. Raises as `new_session` does."""
        self._hit("ends", network)

    def _hit(self, kind: str, network: str) -> None:
        if not self.enabled:
            return
        if self._partitions.several:
            # The new session may be where Redis works.
            group = self._partitions.of_address(network).group
            self._breakers.call(group, partial(self._count, kind, network), None, "an address is not limited")
        else:
            self._count(kind, network)

    def _count(self, kind: str, network: str) -> None:
        limiter = self._limiter(network)
        with store_errors("rates"):
            for rate in self._sessions:
                if not limiter.hit(rate, kind, network):
                    reset = limiter.get_window_stats(rate, kind, network).reset_time
                    raise RateLimited(max(reset - time.time(), 1.0))

    def _limiter(self, network: str) -> SlidingWindowCounterRateLimiter:
        at = self._partitions.of_address(network)
        if at not in self._limiters:
            storage = _Storage(at.fail_fast_client, at.of_address("chat:rate"))
            self._limiters[at] = SlidingWindowCounterRateLimiter(storage)
        return self._limiters[at]

    def messages(self, session: str, network: str) -> tuple[Bucket, ...]:
        """The buckets of each message; the script that stores a message takes its tokens out of each."""
        if not self.enabled:
            return ()
        return (
            *self._session_buckets(session),
            *self._address_buckets("messages", network, self._address_messages),
            *self._address_buckets("bytes", network, self._address_bytes),
        )

    def imports(self, network: str) -> tuple[Bucket, ...]:
        """The buckets of each imported chat: its bytes count as those of messages."""
        if not self.enabled:
            return ()
        return tuple(self._address_buckets("bytes", network, self._address_bytes))

    def session_keys(self, session: str) -> list[str]:
        """The keys that store the rates of one session."""
        return [bucket.key for bucket in (*self._session_buckets(session), *self._read_buckets(session))]

    def _session_buckets(self, session: str) -> list[Bucket]:
        return _buckets(self._partitions.of(session).own_key(session, "rate"), self._session_messages)

    def _read_buckets(self, session: str) -> list[Bucket]:
        return _buckets(self._partitions.of(session).own_key(session, "rate:reads"), self._session_reads)

    def _address_buckets(self, kind: str, network: str, rates: Sequence[RateLimitItem]) -> list[Bucket]:
        partition = self._partitions.of_address(network)
        key = partition.of_address(f"chat:rate:{kind}:{network}")
        return _buckets(key, rates, counts_bytes=kind == "bytes", partition=partition)

    def reads(self, session: str, network: str) -> tuple[Bucket, ...]:
        """The buckets of each page of a history; the script that reads it takes one token out of each."""
        if not self.enabled:
            return ()
        return (
            *self._read_buckets(session),
            *self._address_buckets("reads", network, self._address_reads),
        )


def _buckets(
    key: str, rates: Sequence[RateLimitItem], *, counts_bytes: bool = False, partition: Partition | None = None
) -> list[Bucket]:
    return [
        Bucket(f"{key}:{number}", rate.get_expiry() * 1000 / rate.amount, rate.amount, counts_bytes, partition)
        for number, rate in enumerate(rates)
    ]


def network_of(address: str | None) -> str:
    """The unit that a rate counts: an IPv4 address, or the network of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ipaddress.ip_network((ip, _IPV6_PREFIX), strict=False))
        ip = ip.ipv4_mapped
    return str(ip)
