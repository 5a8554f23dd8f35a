"""How much one address, one session and one socket may take. What several processes share is counted in Redis."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Sequence

import redis
from limits import RateLimitItem
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from chatbot import config
from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import RateLimited
from chatbot.sessions.messages import Bucket

logger = logging.getLogger(__name__)

#: Frames that one socket may send at once, and then each second, at least; more are not refused but read later. What a
#: person sends in a minute, a client that sends again after a break sends in a moment.
_FRAMES_AT_ONCE, _FRAMES = 60, 20
#: Bytes that go with a frame, of all frames and at once: most messages are shorter, and the longest may come in a row.
#: Small frames, such as pings, cost more a byte, but a socket that sends no faster costs little in any case.
_FRAME_BYTES, _BYTES_AT_ONCE = 800, 256 * 1024
#: Bits of an IPv6 address that name one customer; the rest is that customer's own to choose.
_IPV6_PREFIX = 64


class Rates:
    """The rates of `RATELIMIT_…`, or none of them where they are turned off."""

    def __init__(self, settings: config.Settings, client: redis.Redis) -> None:
        self.enabled = settings.limits.rates_enabled
        self._sessions = settings.limits.new_sessions
        self._session_messages = settings.limits.session_messages
        self._address_messages = settings.limits.address_messages
        # The address is not used, as there is a pool.
        storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix="chat:rate")
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    def new_session(self, address: str | None) -> None:
        """Counts a session that is to begin. Raises `RateLimited` and `StoreUnavailable`."""
        if not self.enabled:
            return
        try:
            for rate in self._sessions:
                if not self._limiter.hit(rate, "sessions", _network(address)):
                    reset = self._limiter.get_window_stats(rate, "sessions", _network(address)).reset_time
                    raise RateLimited(max(reset - time.time(), 1.0))
        except redis.RedisError as error:
            raise StoreUnavailable(f"rates: {type(error).__name__}: {error}") from error

    def messages(self, session: str, address: str | None) -> tuple[Bucket, ...]:
        """The buckets from which each message of a socket takes, in the step that stores it."""
        if not self.enabled:
            return ()
        return (
            *_buckets(f"chat:{{{session}}}:rate", self._session_messages),
            *_buckets(f"chat:rate:messages:{_network(address)}", self._address_messages),
        )

    def frames(self) -> Callable[[float], float] | None:
        """How long a socket is to wait after a frame before the next is dealt with."""
        if not self.enabled:
            return None
        at_once = 2 * min(rate.amount for rate in self._session_messages)
        return _Pace(self._frames_a_second(), max(at_once, _FRAMES_AT_ONCE)).delay

    def input(self) -> Callable[[float], float] | None:
        """How long a socket is to wait after some bytes before more are read."""
        if not self.enabled:
            return None
        return _Pace(self._frames_a_second() * _FRAME_BYTES, _BYTES_AT_ONCE).delay

    def _frames_a_second(self) -> float:
        # Twice what may be stored: stops, retries and refusals are frames too.
        return max(2 * min(rate.amount / rate.get_expiry() for rate in self._session_messages), _FRAMES)


class _Pace:
    """A bucket in this process: tells how long to wait instead of refusing."""

    def __init__(self, rate: float, size: float) -> None:
        """`size` at once, then `rate` a second."""
        self._each = 1 / rate
        self._slack = size / rate
        self._full = 0.0

    def delay(self, amount: float) -> float:
        """Takes `amount`; seconds to wait before the next."""
        now = time.monotonic()
        self._full = max(self._full, now) + amount * self._each
        return max(self._full - now - self._slack, 0.0)


def _buckets(key: str, rates: Sequence[RateLimitItem]) -> list[Bucket]:
    return [
        Bucket(f"{key}:{number}", rate.get_expiry() * 1000 / rate.amount, rate.amount)
        for number, rate in enumerate(rates)
    ]


def _network(address: str | None) -> str:
    """What stands for one customer: an IPv4 address, or the network of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ipaddress.ip_network((ip, _IPV6_PREFIX), strict=False))
        ip = ip.ipv4_mapped
    return str(ip)
