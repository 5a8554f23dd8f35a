"""Rate limits of addresses, sessions and sockets. Those that hold over all processes are counted in Redis."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import redis
from limits import RateLimitItem
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from chatbot import config
from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import RateLimited
from chatbot.sessions.buckets import Bucket
from chatbot.store.partitions import Partition, Store, partitions_of
from chatbot.store.resting import Resting

logger = logging.getLogger(__name__)

#: Frames that one socket may send at once, and then per second, at least. More are not refused but read later: after a
#: reconnect a client sends in a moment what a user wrote in a minute.
_FRAMES_AT_ONCE, _FRAMES = 60, 20
#: Bytes per frame of that rate, and bytes at once: most messages are shorter, and several of the longest may come in a
#: row. A smaller frame, a fragment or a ping for example, counts as so many bytes.
_FRAME_BYTES, _BYTES_AT_ONCE = 800, 256 * 1024
#: Seconds that a request waits for the pace of its session, before more are refused.
_LONGEST_WAIT = 3.0
#: Sessions with a pace of their own after which those that sent nothing lately are dropped.
_MANY_PACES = 10_000
#: Pages that one web process sends at the same time, in all and to one address. A page is sent in milliseconds, but one
#: for a client that reads slowly, or not at all, stays in memory: 64 MB together at most.
_PAGES_SENDING, _PAGES_TO_ADDRESS = 256, 32
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
        self._resting = Resting()
        self._limiters: dict[Partition, SlidingWindowCounterRateLimiter] = {}
        self._request_paces = Paces(self._request_pace)
        # How many pages are being sent to each network.
        self._sending: Counter[str] = Counter()

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
            node = self._partitions.of_address(network).node
            self._resting.without(node, partial(self._count, kind, network), None, "an address is not limited")
        else:
            self._count(kind, network)

    def _count(self, kind: str, network: str) -> None:
        limiter = self._limiter(network)
        try:
            for rate in self._sessions:
                if not limiter.hit(rate, kind, network):
                    reset = limiter.get_window_stats(rate, kind, network).reset_time
                    raise RateLimited(max(reset - time.time(), 1.0))
        except redis.RedisError as error:
            raise StoreUnavailable(f"rates: {type(error).__name__}: {error}") from error

    def _limiter(self, network: str) -> SlidingWindowCounterRateLimiter:
        at = self._partitions.of_address(network)
        if at not in self._limiters:
            storage = _Storage(at.background, at.of_address("chat:rate"))
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

    def begin_sending(self, network: str) -> Callable[[], None]:
        """Counts a page that is sent to `network` until the returned function is called.

        Raises `RateLimited` while this process is sending too many.
        """
        if not self.enabled:
            return lambda: None
        if self._sending[network] >= _PAGES_TO_ADDRESS or self._sending.total() >= _PAGES_SENDING:
            raise RateLimited(1.0, message="Too many histories are being read: ask again in a moment")
        self._sending[network] += 1
        return lambda: self._end_sending(network)

    def _end_sending(self, network: str) -> None:
        self._sending[network] -= 1
        if not self._sending[network]:
            del self._sending[network]

    def frame_pace(self) -> Callable[[float], float] | None:
        """For one socket: `pace(n)` returns the seconds to wait after `n` frames; None for no limit."""
        return self._request_pace().delay if self.enabled else None

    def _request_pace(self) -> Pace:
        at_once = 2 * min(rate.amount for rate in self._session_messages)
        return Pace(self._frames_per_second(), max(at_once, _FRAMES_AT_ONCE))

    def request_wait(self, session: str) -> float:
        """The seconds to wait before a request of `session` that is a frame, or a poll; they have a socket's pace.

        Raises `RateLimited` when too many wait.
        """
        if not self.enabled:
            return 0.0
        pace = self._request_paces.of(session)
        if (wait := pace.wait()) > _LONGEST_WAIT:
            raise RateLimited(wait)
        return pace.delay(1)

    def read_pace(self) -> Callable[[int, int], float] | None:
        """For one socket: `pace(n, m)` returns the seconds to wait after `n` bytes with `m` frames; None for no limit.

        What holds no whole frame counts as one.
        """
        if not self.enabled:
            return None
        pace = Pace(self._frames_per_second() * _FRAME_BYTES, _BYTES_AT_ONCE)
        return lambda size, count: pace.delay(max(size, max(count, 1) * _FRAME_BYTES))

    def _frames_per_second(self) -> float:
        # Twice the rate of messages: stops, retries and refused messages are frames too.
        return max(2 * min(rate.amount / rate.get_expiry() for rate in self._session_messages), _FRAMES)


class Pace:
    """A token bucket in this process, which delays instead of refusing."""

    def __init__(self, rate: float, size: float) -> None:
        """`size` at once, then `rate` per second."""
        self._each = 1 / rate
        self._slack = size / rate
        self._full = 0.0

    def delay(self, amount: float) -> float:
        """Takes `amount`; returns the seconds to wait before the next."""
        now = time.monotonic()
        self._full = max(self._full, now) + amount * self._each
        return max(self._full - now - self._slack, 0.0)

    def wait(self) -> float:
        """The seconds to wait; takes nothing."""
        return max(self._full - time.monotonic() - self._slack, 0.0)

    def busy(self) -> bool:
        """Whether something that was taken has not come back."""
        return self._full > time.monotonic()


class Paces:
    """A `Pace` for each of many keys; those that nothing was taken from lately are dropped."""

    def __init__(self, make: Callable[[], Pace]) -> None:
        self._make = make
        self._paces: dict[str, Pace] = {}
        self._many = _MANY_PACES

    def of(self, key: str) -> Pace:
        """The pace of `key`."""
        if len(self._paces) >= self._many:
            self._paces = {key: pace for key, pace in self._paces.items() if pace.busy()}
            self._many = max(_MANY_PACES, 2 * len(self._paces))
        return self._paces.setdefault(key, self._make())


def hold_back(seconds: float) -> None:
    """Waits; other requests are served meanwhile."""
    if seconds:
        time.sleep(seconds)


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
